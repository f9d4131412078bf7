"""The rules on who imports whom, held against code that breaks them; the rest is `make check`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("producer", "schemas", "stream_processors", "api", "deploy")
# Modules, new ones and one that there is, and what they import although they must not.
ROGUES = {
    "schemas/fleetmeter_schemas/rogue.py": ["fleetmeter"],
    "producer/fleetmeter/rogue.py": ["fleetmeter_processors", "fleetmeter_local", "faust", "chdb"],
    "api/fleetmeter_api/rogue.py": ["genai_prices"],
    "deploy/fleetmeter_local/rogue.py": ["fleetmeter_api", "clickhouse_connect"],
    "stream_processors/fleetmeter_processors/startup.py": ["fleetmeter_processors.sink"],
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources and of the rules."""
    for each in SOURCE_ROOTS:
        shutil.copytree(ROOT / each, tmp_path / each, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def verdicts(folder: Path) -> dict[str, str]:
    """What import-linter says of each rule there: KEPT or BROKEN."""
    path = os.pathsep.join(str(folder / each) for each in SOURCE_ROOTS)
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))


def test_rules_are_kept(copy: Path) -> None:
    """The sources keep every rule."""
    assert {"KEPT"} == set(verdicts(copy).values())


def test_every_rule_can_break(copy: Path) -> None:
    """Each rule is broken by a module that imports what it forbids."""
    for module, imported in ROGUES.items():
        with (copy / module).open("a", encoding="utf-8") as file:
            file.writelines(f"import {name}\n" for name in imported)
    assert {"BROKEN"} == set(verdicts(copy).values())

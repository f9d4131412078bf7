"""The wheel, built from this checkout and installed into an empty environment; runs no service."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    ROOT / "producer/fleetmeter",
    ROOT / "schemas/fleetmeter_schemas",
    ROOT / "stream_processors/fleetmeter_processors",
    ROOT / "api/fleetmeter_api",
    ROOT / "deploy/fleetmeter_local",
)
pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment, and an empty folder to run in."""

    folder: Path
    work: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs, away from the sources, whatever its status."""
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.work,
            env={name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def output_of(self, code: str) -> str:
        """What a Python program prints there; it must succeed."""
        done = self.run("python", "-I", "-W", "error", "-c", code)
        assert (0, "") == (done.returncode, done.stderr)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment into which nothing but the wheel was installed, without extras."""
    made = Environment(
        folder=tmp_path_factory.mktemp("environment"), work=tmp_path_factory.mktemp("work")
    )
    command = [sys.executable, "-m", "venv", str(made.folder)]
    subprocess.run(command, timeout=120, check=True)
    installed = made.run("python", "-m", "pip", "install", "--quiet", str(wheel))
    assert installed.returncode == 0, installed.stderr
    return made


def metadata(wheel: Path) -> Message:
    """The wheel's metadata."""
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(name).decode())


def test_holds_the_sources(wheel: Path) -> None:
    """The wheel holds every file of the five packages, also what is no code, and no other."""
    expected = {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert expected == found


@pytest.mark.parametrize(
    "name",
    [
        "fleetmeter_schemas/avro/fleetmeter.Event.avsc",
        "fleetmeter_schemas/tables/0001_events.sql",
        "fleetmeter_schemas/examples/Event/valid/llm.json",
        "fleetmeter_local/data/recorded_sessions.jsonl.gz",
        *(f"{package.name}/py.typed" for package in PACKAGES),
    ],
)
def test_holds_what_is_no_code(wheel: Path, name: str) -> None:
    """The wheel holds schemas, tables, examples and data, and says that it is typed."""
    with ZipFile(wheel) as archive:
        assert name in archive.namelist()


def test_holds_the_license(wheel: Path) -> None:
    """The wheel holds the license that its metadata names."""
    with ZipFile(wheel) as archive:
        licenses = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    assert ("Apache-2.0", 1) == (metadata(wheel)["License-Expression"], len(licenses))


def test_dependencies_are_thin(wheel: Path) -> None:
    """Without an extra, the SDK's two dependencies are asked for and nothing else."""
    needs = [
        need for need in metadata(wheel).get_all("Requires-Dist", []) if "extra ==" not in need
    ]
    assert ["confluent-kafka", "fastavro"] == sorted(need.split(">=")[0] for need in needs)


def test_extras(wheel: Path) -> None:
    """There is an extra for each kind of process, and one for all."""
    found = metadata(wheel).get_all("Provides-Extra", [])
    assert ["all", "api", "local", "processors"] == sorted(found)


@pytest.mark.parametrize("name", ["pydantic", "fastapi", "faust", "chdb", "structlog", "httpx"])
def test_nothing_else_is_installed(environment: Environment, name: str) -> None:
    """None of what services need comes with the SDK."""
    code = f"import importlib.util as u; print(u.find_spec({name!r}))"
    assert environment.output_of(code) == "None"


def test_imports_the_installed_files(environment: Environment) -> None:
    """`import fleetmeter` works where the sources are absent."""
    code = (
        "import fleetmeter, fleetmeter_schemas as s; print(fleetmeter.__file__); print(s.__file__)"
    )
    inside = [
        environment.folder in Path(line).parents for line in environment.output_of(code).split()
    ]
    assert [True, True] == inside


def test_import_starts_nothing(environment: Environment) -> None:
    """`import fleetmeter` starts no thread."""
    code = "import fleetmeter, threading; print(threading.active_count())"
    assert environment.output_of(code) == "1"


def test_import_brings_no_service(environment: Environment) -> None:
    """`import fleetmeter` brings the contract, and no service of ours."""
    code = (
        "import fleetmeter, json, sys;"
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules if 'fleetmeter' in n})))"
    )
    assert ["fleetmeter", "fleetmeter_schemas"] == json.loads(environment.output_of(code))


def test_contract_is_whole(environment: Environment) -> None:
    """The installed contract reads its schemas, tables and examples."""
    code = (
        "from fleetmeter_schemas import definitions as d, golden as g, tables as t;"
        "print(g.fingerprints() == g.pinned_fingerprints(), len(t.migrations('x')) > 0,"
        " all(g.valid(n) for n in d.names()))"
    )
    assert environment.output_of(code) == "True True True"


def test_command_says_what_is_missing(environment: Environment) -> None:
    """Without the extra, the command says in one line what to install, and exits with 2."""
    done = environment.run("fleetmeter", "status")
    assert (2, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
    assert 'pip install "fleetmeter[local]"' in done.stderr

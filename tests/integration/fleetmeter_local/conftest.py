"""One whole stack for the tests of the command, started and stopped as a user does it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetmeter_local import supervisor

COMMAND_SECONDS_MAX = 240
Command = Callable[..., subprocess.CompletedProcess[str]]


def run_command(
    *arguments: str, seconds_max: float = COMMAND_SECONDS_MAX
) -> subprocess.CompletedProcess[str]:
    """Run `fleetmeter` in an environment that says nothing about any stack."""
    environ = {n: v for n, v in os.environ.items() if not n.startswith("FLEETMETER_")}
    return subprocess.run(
        [sys.executable, "-m", "fleetmeter_local.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds_max,
        env=environ,
    )


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a stack that runs; stopped at the end whatever happens."""
    folder = tmp_path_factory.mktemp("stack") / "data"
    try:
        done = run_command("up", "--detach", "--data-dir", str(folder))
        assert done.returncode == 0, done.stderr
        yield folder
    finally:
        supervisor.stop(folder)


@pytest.fixture
def command(data_dir: Path) -> Command:
    """The `fleetmeter` command for that stack."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, "--data-dir", str(data_dir))

    return call

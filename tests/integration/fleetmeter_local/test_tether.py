import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetmeter_local import tether
from fleetmeter_local.tether import Record

STARTED_SECONDS_MAX = 20.0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a tethered process that has recorded itself."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    started = subprocess.Popen(tether.command(tmp_path / "sleeper.pid", sleeper))
    deadline = time.monotonic() + STARTED_SECONDS_MAX
    while not (tmp_path / "sleeper.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    yield started
    started.kill()
    started.wait()


def test_what_was_left_behind_is_ended(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    """A recorded process that still runs is ended, and its record with it."""
    assert [process.pid] == tether.sweep(tmp_path)
    assert [] == list(tmp_path.iterdir())
    assert [] == tether.sweep(tmp_path)


def test_a_pid_that_was_given_again_is_spared(
    tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    """A process that only has the pid of the recorded one is not ours to end."""
    pidfile = tmp_path / "sleeper.pid"
    found = Record.read(pidfile)
    assert found is not None
    Record(pid=found.pid, started=found.started - 3600, starts=1).write(pidfile)
    assert [] == tether.sweep(tmp_path)
    assert process.poll() is None


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """On Linux a tethered process does not outlive the one that started it."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    pidfile = tmp_path / "sleeper.pid"
    command = tether.command(pidfile, ["sleep", "600"])
    starter = (
        "import pathlib, subprocess, sys, time\n"
        f"subprocess.Popen({command!r})\n"
        f"while not pathlib.Path({str(pidfile)!r}).exists(): time.sleep(0.02)\n"
    )
    subprocess.run([sys.executable, "-c", starter], check=True, timeout=STARTED_SECONDS_MAX)
    deadline = time.monotonic() + STARTED_SECONDS_MAX
    while tether.left_behind(pidfile) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert tether.left_behind(pidfile) is None

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fleetmeter_local import supervisor
from fleetmeter_local.supervisor import Program, ProgramStatus
from fleetmeter_schemas.errors import ConfigError

SETTLED_SECONDS_MAX = 15.0

# Says when it starts and when it is told to stop, and stops.
WORKER = """\
import os, signal, sys, time
name, journal = sys.argv[1:]
def say(what):
    with open(journal, "a") as file:
        file.write(f"{what} {name} {os.environ.get('GIVEN', '')}\\n")
def stop(*_):
    time.sleep(0.2)
    say("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("started")
while True:
    time.sleep(60)
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Give a folder; whatever runs in it is stopped afterwards."""
    yield tmp_path / "data"
    supervisor.stop(tmp_path / "data")


@pytest.fixture
def programs(tmp_path: Path) -> list[Program]:
    """Give three programs that keep a common journal."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return [
        Program(
            name=name,
            command=[sys.executable, str(script), name, str(tmp_path / "journal")],
            priority=priority,
            environment={"GIVEN": "50% of 'it', and more"},
            stop_seconds=5,
        )
        for name, priority in (("broker", 1), ("meter", 2), ("api", 3))
    ]


def journal(data_dir: Path) -> list[str]:
    """Return what the programs wrote so far."""
    path = data_dir.parent / "journal"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Callable[[], bool]) -> bool:
    """Return whether `condition` comes true within bounded time."""
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def start_all(data_dir: Path, programs: list[Program]) -> None:
    """Start supervisord and all programs, and wait until each has said so."""
    supervisor.start(data_dir, programs)
    for program in programs:
        supervisor.launch(data_dir, program.name)
    assert wait_for(lambda: len(journal(data_dir)) == len(programs))


def one(data_dir: Path, name: str) -> ProgramStatus:
    """Return the status of one program."""
    return next(each for each in supervisor.status(data_dir) if each.name == name)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_nothing_runs_before_it_is_launched(data_dir: Path, programs: list[Program]) -> None:
    """Programs start one by one when they are asked to, with their environment."""
    supervisor.start(data_dir, programs)
    assert {"STOPPED"} == {each.state for each in supervisor.status(data_dir)}
    supervisor.launch(data_dir, "meter")
    assert wait_for(lambda: journal(data_dir) == ["started meter 50% of 'it', and more"])
    assert one(data_dir, "meter").pid is not None


def test_a_killed_program_runs_again(data_dir: Path, programs: list[Program]) -> None:
    """After kill -9 a program is started again, and the restart is counted."""
    start_all(data_dir, programs)
    killed = one(data_dir, "meter").pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert wait_for(lambda: one(data_dir, "meter").pid not in {None, killed})
    assert wait_for(lambda: one(data_dir, "meter").restarts == 1)
    assert one(data_dir, "api").restarts == 0


def test_programs_stop_in_order(data_dir: Path, programs: list[Program]) -> None:
    """The highest priority stops first, and each has ended before the next is asked."""
    start_all(data_dir, programs)
    assert supervisor.stop(data_dir)
    stopped = [line.split()[1] for line in journal(data_dir) if line.startswith("stopped")]
    assert stopped == ["api", "meter", "broker"]
    assert supervisor.status(data_dir) == []
    assert not supervisor.stop(data_dir)


def test_a_killed_supervisor_leaves_no_orphans(data_dir: Path, programs: list[Program]) -> None:
    """After kill -9 of supervisord nothing stays in the way of the next start."""
    start_all(data_dir, programs)
    pids = [each.pid or 0 for each in supervisor.status(data_dir)]
    supervisor_pid = supervisor.pid(data_dir)
    assert supervisor_pid is not None
    os.kill(supervisor_pid, signal.SIGKILL)
    if sys.platform == "linux":
        assert wait_for(lambda: all(map(is_gone, pids)))
    supervisor.start(data_dir, programs)
    assert all(map(is_gone, pids))
    assert supervisor.pid(data_dir) not in {None, supervisor_pid}


def test_a_second_start_is_told_that_it_runs(data_dir: Path, programs: list[Program]) -> None:
    """Two stacks cannot share a folder."""
    supervisor.start(data_dir, programs)
    with pytest.raises(ConfigError, match="already running"):
        supervisor.start(data_dir, programs)


def test_a_long_path_is_no_obstacle(tmp_path: Path, programs: list[Program]) -> None:
    """A folder whose path is too long for a socket works too, and leaves nothing in /tmp."""
    data_dir = tmp_path / ("long" * 30)
    supervisor.start(data_dir, programs)
    try:
        socket = Path((data_dir / "run" / "socket").read_text())
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        assert {"STOPPED"} == {each.state for each in supervisor.status(data_dir)}
    finally:
        supervisor.stop(data_dir)
    assert not socket.parent.exists()


def test_others_cannot_look_inside(data_dir: Path, programs: list[Program]) -> None:
    """Folder, configuration and socket belong to their owner alone."""
    supervisor.start(data_dir, programs)
    for path in ("", "run", "run/supervisord.conf", "run/supervisor.sock"):
        assert (data_dir / path).stat().st_mode & 0o077 == 0

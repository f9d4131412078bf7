"""Runs a command that must not outlive its parent; supervises nothing.

`python -m fleetmeter_local.tether PIDFILE COMMAND...` records pid and start time in PIDFILE and
becomes COMMAND. On Linux the kernel sends SIGTERM to it when the parent dies; everywhere, whoever
starts the stack again finds in PIDFILE what was left behind.
"""

import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
STOP_SECONDS_MAX = 10.0
# Start times are whole clock ticks; psutil turns them into seconds with the boot time's error.
START_SECONDS_TOLERANCE = 2.0


def tether_to_parent(parent: int) -> None:
    """Ask for SIGTERM at the death of `parent`, where the system can do that."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # died before we asked
        sys.exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a pid file holds; pid and start time together name a process for ever."""

    pid: int
    started: float
    starts: int

    @classmethod
    def read(cls, pidfile: Path) -> "Record | None":
        """Return what `pidfile` holds, or None when there is nothing to read."""
        try:
            pid, started, starts = pidfile.read_text().split()
            return cls(pid=int(pid), started=float(started), starts=int(starts))
        except (OSError, ValueError):
            return None

    def write(self, pidfile: Path) -> None:
        """Write it in one step: a reader sees all of it or the one before."""
        part = pidfile.with_suffix(f".{os.getpid()}")
        part.write_text(f"{self.pid} {self.started} {self.starts}\n")
        part.replace(pidfile)


def record(process: psutil.Process, pidfile: Path) -> None:
    """Write pid and start time, which a successor by exec keeps, and count the starts."""
    before = Record.read(pidfile)
    starts = before.starts + 1 if before else 1
    Record(pid=process.pid, started=process.create_time(), starts=starts).write(pidfile)


def left_behind(pidfile: Path) -> psutil.Process | None:
    """Return the process that `pidfile` tells of, if it is that very one and still runs."""
    found = Record.read(pidfile)
    try:
        process = psutil.Process(found.pid) if found else None
        if found is None or process is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        same = abs(process.create_time() - found.started) < START_SECONDS_TOLERANCE
    except psutil.Error:
        return None
    return process if same else None


def sweep(folder: Path) -> list[int]:
    """End what the pid files in `folder` say was left behind; return the pids.

    All are asked first and killed only after `STOP_SECONDS_MAX`, so that a store or broker which
    is closing its files can finish.
    """
    processes = [p for path in sorted(folder.glob("*.pid")) if (p := left_behind(path))]
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS_MAX)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=STOP_SECONDS_MAX)
    for path in folder.glob("*.pid"):
        path.unlink()
    return [process.pid for process in processes]


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def command(pidfile: Path, wrapped: list[str]) -> list[str]:
    """Return the command line that runs `wrapped` tethered."""
    return [sys.executable, "-m", "fleetmeter_local.tether", str(pidfile), *wrapped]


def main() -> None:
    """Record, tether, and become the command."""
    parent = os.getppid()
    pidfile, wrapped = Path(sys.argv[1]), sys.argv[2:]
    tether_to_parent(parent)
    record(psutil.Process(), pidfile)
    os.execvp(wrapped[0], wrapped)  # noqa: S606 - the supervisor must see the command's own pid


if __name__ == "__main__":
    main()

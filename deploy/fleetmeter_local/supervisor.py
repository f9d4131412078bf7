"""Runs the local stack's processes under supervisord and asks it about them; knows none of them.

supervisord (rather than circus or honcho): restarts with backoff, ordered stop, log rotation and a
control socket in one long-kept package without dependencies.
"""

import fcntl
import os
import shlex
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from fleetmeter_local import tether
from fleetmeter_schemas.errors import ConfigError, Unavailable

SOCKET_BYTES_MAX = (
    90  # the system's bound is 104 to 108, and supervisord appends its pid for a time
)
START_SECONDS_MAX = 20.0
STOP_SECONDS_SPARE = 10.0
LOG_BYTES_MAX = 5_000_000
POLL_SECONDS = 0.05

_SUPERVISORD = """\
[supervisord]
nodaemon=true
silent=true
directory={run}
logfile={logs}/supervisord.log
logfile_maxbytes={log_bytes_max}
logfile_backups=1
pidfile={run}/supervisord.own
childlogdir={logs}

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# A program that ends within startsecs is tried again after 1, 2, 3, ... seconds; one that ran
# longer is started at once. supervisord knows no "for ever", but a million tries are that.
_PROGRAM = """
[program:{name}]
command={command}
environment={environment}
priority={priority}
umask=077
autostart=false
autorestart=true
startsecs=5
startretries=1000000
stopsignal=TERM
stopwaitsecs={stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes={log_bytes_max}
stdout_logfile_backups=2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process to keep running; a lower priority stops later."""

    name: str
    command: Sequence[str]
    priority: int
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """One program now; `state` is supervisord's word (RUNNING, STARTING, BACKOFF, ...)."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folders:
    data_dir: Path

    @property
    def run(self) -> Path:
        return self.data_dir / "run"

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    @property
    def configuration(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def record(self) -> Path:
        return self.run / "supervisord"

    @property
    def output(self) -> Path:
        """Return where supervisord complains before it has a log."""
        return self.logs / "supervisord.out"

    @property
    def socket_path(self) -> Path:
        """Return the file that tells where the socket is."""
        return self.run / "socket"

    def make(self) -> None:
        """Create the folders; only their owner may look inside.

        A data folder that is there already keeps its mode: it may be somebody's home.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.run, self.logs):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)


def start(data_dir: Path, programs: Sequence[Program]) -> int:
    """Start supervisord for `programs`, none of which runs yet; return its pid.

    It is in a session of its own and outlives the caller. What an earlier one left behind, because
    it was killed, is ended first.

    Raises:
        ConfigError: it runs already, or a text cannot be written into its configuration.
        Unavailable: it does not come up.
    """
    folders = _Folders(data_dir=data_dir.resolve())
    folders.make()
    with _starting(folders):
        if running := tether.left_behind(folders.record):
            raise ConfigError(f"already running in {data_dir} (pid {running.pid})")
        tether.sweep(folders.run)
        socket = _choose_socket(folders)
        _write_private(folders.configuration, configuration(folders.data_dir, socket, programs))
        _write_private(folders.socket_path, str(socket))
        pid = _spawn(folders)
    _wait_until_up(folders)
    return pid


def launch(data_dir: Path, name: str) -> None:
    """Start one program and keep it running from now on; not an error when it runs.

    Raises:
        Unavailable: supervisord does not answer.
    """
    with _supervisor(data_dir) as asked:
        if asked.getProcessInfo(name)["statename"] in {"STOPPED", "EXITED", "FATAL"}:
            asked.startProcess(name, False)


def status(data_dir: Path) -> list[ProgramStatus]:
    """Return what runs, lowest priority first; empty when nothing was started.

    Raises:
        Unavailable: supervisord runs and does not answer.
    """
    if pid(data_dir) is None:
        return []
    with _supervisor(data_dir) as asked:
        infos: Any = asked.getAllProcessInfo()
    return [_status(data_dir, info) for info in infos]


def pid(data_dir: Path) -> int | None:
    """Return the pid of the supervisord of `data_dir`, or None when none runs."""
    running = tether.left_behind(_Folders(data_dir=data_dir.resolve()).record)
    return running.pid if running else None


def stop(data_dir: Path) -> bool:
    """Stop all programs, the highest priority first, each before the next; then supervisord.

    Returns whether there was anything to stop; also ends what a killed supervisord left behind.
    """
    folders = _Folders(data_dir=data_dir.resolve())
    running = tether.left_behind(folders.record)
    if running:
        with suppress(psutil.NoSuchProcess):
            running.terminate()
        _, alive = psutil.wait_procs([running], timeout=_stop_seconds_max(folders))
        for process in alive:
            process.kill()
    left = tether.sweep(folders.run) if folders.run.exists() else []
    folders.record.unlink(missing_ok=True)
    _remove_socket(folders)
    return bool(running or left)


def configuration(data_dir: Path, socket: Path, programs: Sequence[Program]) -> str:
    """Return the text of supervisord's configuration.

    Raises:
        ConfigError: a path, argument or variable holds what such a file cannot express.
    """
    folders = _Folders(data_dir=data_dir)
    places = {"run": _text(str(folders.run)), "logs": _text(str(folders.logs))}
    head = _SUPERVISORD.format(**places, socket=_text(str(socket)), log_bytes_max=LOG_BYTES_MAX)
    return head + "".join(_section(folders, places["logs"], program) for program in programs)


def _section(folders: _Folders, logs: str, program: Program) -> str:
    command = tether.command(folders.run / f"{program.name}.pid", list(program.command))
    environment = (f"{name}={_quoted(value)}" for name, value in program.environment.items())
    return _PROGRAM.format(
        name=program.name,
        command=_text(shlex.join(command)),
        environment=",".join(environment),
        priority=program.priority,
        stop_seconds=program.stop_seconds,
        logs=logs,
        log_bytes_max=LOG_BYTES_MAX,
    )


def _text(value: str) -> str:
    """Return `value` as supervisord reads it back, or refuse it."""
    if bad := [part for part in ("\n", " ;", " #") if part in value]:
        raise ConfigError(f"supervisord cannot be told {value!r}: it holds {bad[0]!r}")
    return value.replace("%", "%%")


def _quoted(value: str) -> str:
    """Return the value of a variable in quotes, or refuse it without telling it."""
    if '"' in value or value != value.strip("'"):
        raise ConfigError("supervisord cannot be told a variable with quotes at its ends or in it")
    return f'"{_text(value)}"'


def _choose_socket(folders: _Folders) -> Path:
    near = folders.run / "supervisor.sock"
    if len(os.fsencode(near)) <= SOCKET_BYTES_MAX:
        return near
    return Path(tempfile.mkdtemp(prefix="fleetmeter-")) / "supervisor.sock"


def _remove_socket(folders: _Folders) -> None:
    if not folders.socket_path.exists():
        return
    socket = Path(folders.socket_path.read_text())
    socket.unlink(missing_ok=True)
    if socket.parent != folders.run and socket.parent.exists():
        socket.parent.rmdir()
    folders.socket_path.unlink()


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read: it holds the programs' environment."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


@contextmanager
def _starting(folders: _Folders) -> Iterator[None]:
    """Let one caller at a time look whether supervisord runs and start it."""
    with (folders.run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _spawn(folders: _Folders) -> int:
    """Start supervisord in a session of its own, with its output in a file; return its pid."""
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(folders.configuration)]
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    # Not subprocess: it holds on to a child, and this one stays when the caller goes.
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folders.output), write, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    tether.record(psutil.Process(pid), folders.record)
    return pid


def _wait_until_up(folders: _Folders) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while tether.left_behind(folders.record) and time.monotonic() < deadline:
        try:
            with _supervisor(folders.data_dir) as asked:
                asked.getState()
        except Unavailable:
            time.sleep(POLL_SECONDS)
        else:
            return
    stop(folders.data_dir)
    said = folders.output.read_text()[-500:]
    raise Unavailable(f"supervisord did not start: {said.strip()}")


@contextmanager
def _supervisor(data_dir: Path) -> Iterator[Any]:
    """Give supervisord's XML-RPC interface; its silence becomes `Unavailable`."""
    try:
        socket = _Folders(data_dir=data_dir.resolve()).socket_path.read_text()
        transport: Any = SupervisorTransport(serverurl=f"unix://{socket}")
        with closing(transport):
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
    except (OSError, HTTPException, xmlrpc.client.ProtocolError) as error:
        raise Unavailable(f"the supervisor in {data_dir} does not answer") from error


def _status(data_dir: Path, info: Mapping[str, Any]) -> ProgramStatus:
    run = _Folders(data_dir=data_dir.resolve()).run
    record = tether.Record.read(run / f"{info['name']}.pid")
    return ProgramStatus(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"] or None,
        uptime_seconds=max(info["now"] - info["start"], 0) if info["pid"] else 0,
        restarts=max(record.starts - 1, 0) if record else 0,
    )


def _stop_seconds_max(folders: _Folders) -> float:
    """Return how long an ordered stop may take: each program its time, and some to spare."""
    lines = folders.configuration.read_text().splitlines()
    waits = [line.partition("=")[2] for line in lines if line.startswith("stopwaitsecs=")]
    return sum(map(float, waits)) + STOP_SECONDS_SPARE

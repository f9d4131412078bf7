"""Brings a stack up and takes it down: in order, waiting for each part; prints nothing."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol
from uuid import uuid4

from fleetmeter_local import keys, readiness, services, supervisor
from fleetmeter_local import stack as stacks
from fleetmeter_local.last_words import last_words
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.errors import ConfigError, Unavailable

# The first start fetches the broker's jars, the rest takes seconds.
KAFKA_SECONDS_MAX = 300.0
READY_SECONDS_MAX = 120.0
MIGRATE_SECONDS_MAX = 120.0
POLL_SECONDS = 0.2
STAY_POLL_SECONDS = 1.0
# Once may be chance, thrice is a reason.
RESTARTS_MAX = 3
_Handler = Callable[[int, FrameType | None], None] | signal.Handlers


class Display(Protocol):
    """Whoever watches a start."""

    def waiting_for(self, what: str) -> None:
        """This is being waited for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A stack that is ready; `is_first` when its project and key were made now."""

    stack: Stack
    project_id: str
    api_key: str
    is_first: bool
    seconds: float


def up(
    data_dir: Path, api_port: int | None, environ: Mapping[str, str], display: Display
) -> Started:
    """Start everything in this folder, and return when all of it is ready.

    Raises:
        ConfigError: It runs already, or cannot run so.
        Unavailable: A process does not become ready; everything is stopped again.
    """
    since = time.monotonic()
    refuse_running(data_dir)
    stacks.prepare_dir(data_dir)
    stack = stacks.plan(data_dir, api_port, environ)
    stacks.store_password(data_dir)
    _start_supervisor(stack, environ)
    try:
        stacks.save(stack)
        started = _bring_up(stack, environ, display, since)
    except BaseException:
        down(data_dir)
        raise
    return started


def _start_supervisor(stack: Stack, environ: Mapping[str, str]) -> None:
    try:
        supervisor.start(stack.data_dir, services.programs(stack, environ))
    except (KeyboardInterrupt, SystemExit):
        down(stack.data_dir)
        raise


def refuse_running(data_dir: Path) -> None:
    """Raise ConfigError when a stack runs in this folder."""
    pid = supervisor.pid(data_dir)
    if pid is None:
        return
    known = stacks.load(data_dir)
    where = f" at {known.api_url}" if known else ""
    raise ConfigError(
        f"the stack in {data_dir} is running already{where} (pid {pid};"
        " see it: fleetmeter status, stop it: fleetmeter down)"
    )


def require_running(stack: Stack) -> None:
    """Raise ConfigError when the stack does not run."""
    if supervisor.pid(stack.data_dir) is None:
        raise ConfigError(f"the stack in {stack.data_dir} is not running (start it: fleetmeter up)")


def _bring_up(stack: Stack, environ: Mapping[str, str], display: Display, since: float) -> Started:
    for name in services.FOUNDATION:
        supervisor.launch(stack.data_dir, name)
    _await_ready(stack, "kafka", KAFKA_SECONDS_MAX, display)
    _await_ready(stack, "store", READY_SECONDS_MAX, display)
    display.waiting_for("topics and tables")
    _migrate(stack, environ)
    project_id, api_key, is_first = _default_project(stack)
    for name in services.SERVICES:
        supervisor.launch(stack.data_dir, name)
    for name in services.SERVICES:
        _await_ready(stack, name, READY_SECONDS_MAX, display)
    return Started(
        stack=stack,
        project_id=project_id,
        api_key=api_key,
        is_first=is_first,
        seconds=time.monotonic() - since,
    )


def _await_ready(stack: Stack, name: str, seconds_max: float, display: Display) -> None:
    display.waiting_for(name)
    deadline = time.monotonic() + seconds_max
    while (why := readiness.why_not_ready(stack, name)) is not None:
        if time.monotonic() > deadline or _gives_up(stack, name):
            log = stack.logs / f"{name}.log"
            raise Unavailable(f"{name} does not start: {last_words(log) or why} (see {log})")
        time.sleep(POLL_SECONDS)


def _gives_up(stack: Stack, name: str) -> bool:
    """Whether it will not become better by waiting."""
    found = {each.name: each for each in supervisor.status(stack.data_dir)}
    # Nothing at all: somebody else took the stack down.
    return name not in found or found[name].restarts >= RESTARTS_MAX


def _migrate(stack: Stack, environ: Mapping[str, str]) -> None:
    log = stack.logs / "migrate.log"
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                services.module_command("migrate"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**stacks.own(environ), **stacks.environment(stack)},
                timeout=MIGRATE_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"migrate does not end (see {log})") from error
    if done.returncode:
        raise ConfigError(f"migrate failed: {last_words(log)} (see {log})")


def _default_project(stack: Stack) -> tuple[str, str, bool]:
    """The project `default` and its key, made where they are missing.

    The key is kept before the log knows it: a start that is killed in between finds it again.
    """
    try:
        api_key = stacks.api_key(stack.data_dir)
    except ConfigError:
        api_key = str(uuid4())
        stacks.keep_api_key(stack.data_dir, api_key)
    known = keys.read(stack.control).api_keys.get(keys.hash_hash(api_key))
    if known is not None:
        return known["project_id"], api_key, False
    made = keys.create(
        stack.control, project=stacks.PROJECT_DEFAULT, idle_timeout_ms=None, api_key=api_key
    )
    stacks.keep_project_key(stack.data_dir, made.project_id, made.api_key)
    return made.project_id, made.api_key, True


def down(data_dir: Path) -> bool:
    """Stop everything in this folder, in order; whether there was anything to stop."""
    with uninterrupted():
        return supervisor.stop(data_dir)


def stay(stack: Stack) -> None:
    """Wait until Ctrl-C or SIGTERM, then stop the stack; or until somebody else stopped it."""
    try:
        while supervisor.pid(stack.data_dir) is not None:
            time.sleep(STAY_POLL_SECONDS)
    except (KeyboardInterrupt, SystemExit):
        down(stack.data_dir)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C or SIGTERM not cut a stop in half."""
    with _handling(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that what the block started is stopped."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with _handling(leave, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handling(handler: _Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Handle these signals so; what is ignored, as by nohup, stays ignored."""
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, handled_so in before.items():
            signal.signal(number, handled_so)

"""What happens to clients when their process forks, exits, crashes or is told to stop.

Installs its hooks with the first client that opens, and takes the crash handlers away with
the last one that closes. Knows clients only by what it calls on them.
"""

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol

from fleetmeter.config import Config
from fleetmeter.events import traceback_of
from fleetmeter.lifecycle import REASON_CHARS_MAX
from fleetmeter.payload import safe_str
from fleetmeter.transport import FlushResult

LOG = logging.getLogger("fleetmeter")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], Any] | int | None


class Member(Protocol):
    """What this module calls on a client."""

    @property
    def config(self) -> Config:
        """Its settings."""

    def end_all(self, reason: str) -> None:
        """Ends its sessions as Failure."""

    def flush(self, timeout_ms: int | None = None) -> FlushResult:
        """Waits for delivery."""

    def close(self) -> FlushResult:
        """Flushes and stops."""

    def renew_after_fork(self) -> None:
        """Leaves everything to the parent."""


_members: list[Member] = []
_previous: dict[int, _Handler] = {}
_previous_excepthook: Callable[..., Any] | None = None
_permanent_hooks: list[str] = []
_stopping: list[int] = []


def remember(member: Member) -> None:
    """A client is open from now on. Again: harmless."""
    if not _permanent_hooks:
        _permanent_hooks.append("installed")
        os.register_at_fork(after_in_child=_after_fork)
        atexit.register(_at_exit)
    if not any(member is known for known in _members):
        _members.append(member)
    _finish_with_multiprocessing()
    if member.config.crash_handlers:
        _install_crash_handlers()


def forget(member: Member) -> None:
    """A client is closed; the last one takes the crash handlers along."""
    _members[:] = [known for known in _members if known is not member]
    if not any(known.config.crash_handlers for known in _members):
        _remove_crash_handlers()


def reason_of(exception: BaseException) -> str:
    """An uncaught exception as a reason: type, message and the traceback's end."""
    head = f"{type(exception).__name__}: {safe_str(exception)}"[: REASON_CHARS_MAX // 2]
    trace = traceback_of(exception)
    return f"{head}\n{trace[-(REASON_CHARS_MAX - len(head) - 1) :]}"


def _install_crash_handlers() -> None:
    global _previous_excepthook
    if _previous_excepthook is None:
        _previous_excepthook, sys.excepthook = sys.excepthook, _on_uncaught
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        # None: not installed from Python, so it could not be called. Ignored: nothing happens.
        if number not in _previous and handler not in {None, signal.SIG_IGN}:
            _previous[number] = handler
            signal.signal(number, _on_signal)


def _remove_crash_handlers() -> None:
    """Puts back what was there, where nobody has put something else on top."""
    global _previous_excepthook
    if _previous_excepthook is not None and sys.excepthook is _on_uncaught:
        sys.excepthook, _previous_excepthook = _previous_excepthook, None
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in list(_previous.items()):
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, handler)
            del _previous[number]


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Ends everything, once; then does what would have been done without us."""
    if not _stopping and not _lives_on(number):
        _stopping.append(number)
        try:
            _end_all(lambda _: f"Signal {signal.Signals(number).name} detected")
        finally:
            _stopping.clear()
    previous = _previous.get(number)
    if callable(previous):
        previous(number, frame)
    elif previous == signal.SIG_DFL:
        # The exit status must say that the signal ended the process.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _is_interactive() -> bool:
    """At a prompt or in a notebook the program lives on after an exception or a Ctrl-C."""
    return hasattr(sys, "ps1")


def _lives_on(number: int) -> bool:
    return number == signal.SIGINT and _is_interactive()


def _on_uncaught(
    kind: type[BaseException], exception: BaseException, trace: TracebackType | None
) -> None:
    previous = _previous_excepthook or sys.__excepthook__
    if not _is_interactive():
        _end_all(lambda member: _crash_reason(member, exception))
    previous(kind, exception, trace)


def _crash_reason(member: Member, exception: BaseException) -> str:
    """With a redaction hook, which never sees this text, only the exception's type."""
    if member.config.before_send is not None:
        return type(exception).__name__
    return reason_of(exception)


def _end_all(reason: Callable[[Member], str]) -> None:
    members = [member for member in _members if member.config.crash_handlers]
    for member in members:
        _guarded(lambda member=member: member.end_all(reason(member)))  # type: ignore[misc]
    deadline = time.monotonic() + max((m.config.flush_timeout_ms for m in members), default=0) / 1e3
    for member in members:
        left_ms = max(0, int((deadline - time.monotonic()) * 1000))
        _guarded(lambda member=member, left_ms=left_ms: member.flush(left_ms))  # type: ignore[misc]


def _guarded(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:
        LOG.exception("process.hook_failed")


def _at_exit() -> None:
    while _members:
        _guarded(_members.pop().close)


def _after_fork() -> None:
    _stopping.clear()
    for member in _members:
        _guarded(member.renew_after_fork)
    _finish_with_multiprocessing()


def _finish_with_multiprocessing() -> None:
    """Children of multiprocessing skip atexit and run its finalizers; forked ones lose those."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and not _finalizers:
        _finalizers.append(util)
        util.register_after_fork(_owner, _add_finalizer)
        _add_finalizer(_owner)


class _Owner:
    """What multiprocessing ties our function to, weakly."""


_owner = _Owner()
_finalizers: list[Any] = []


def _add_finalizer(_: object) -> None:
    _finalizers[0].Finalize(None, _at_exit, exitpriority=100)

"""Keeps libraries that log every failed attempt from filling the log; touches no line of ours."""

import logging
import time
from collections.abc import Callable
from typing import Final

REPEAT_SECONDS: Final = 30.0
KINDS_MAX: Final = 1_000


class Seldom(logging.Filter):
    """Lets a library's line through once, and again when half a minute has passed.

    Lines are told apart by logger and unformatted message.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._passed_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        kind = record.name, str(record.msg)
        now = self._now()
        if now - self._passed_at.get(kind, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._passed_at) >= KINDS_MAX:
            self._passed_at.clear()
        self._passed_at[kind] = now
        return True


def thin_out() -> None:
    """Let the lines of foreign loggers through seldom, from now on."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())

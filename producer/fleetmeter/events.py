"""The events a program records, with AgentOps' field names; turns them into nothing itself."""

import os
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from fleetmeter import current
from fleetmeter.payload import safe_str

Timestamp = str | datetime | int | float | None
"""A datetime or ISO 8601 text (without offset: UTC), or seconds since the Unix epoch."""
UNFINISHED = "unfinished"
"""As `end_timestamp`: it has not ended, or never returned. None: `record()` sets the present."""
Money = str | int | float | Decimal | None
"""US dollars."""


def new_id() -> str:
    """A fresh UUID of version 7: unique, and ascending with the time."""
    random = int.from_bytes(os.urandom(10), "big")
    low = random & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    digits = f"{time.time_ns() // 1_000_000:012x}7{random >> 68:03x}{low:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def traceback_of(exception: BaseException) -> str:
    """The traceback as Python prints it; the exception's type alone where that fails."""
    try:
        return "".join(traceback.format_exception(exception))
    except Exception:  # noqa: BLE001 - foreign exceptions may raise anything
        return type(exception).__name__


@dataclass(slots=True)
class Event:
    """Anything that happened. `event_type` comes first: `Event("search", params={…})`.

    The types `llms`, `tools`, `actions` and `errors` count as such; any other word is an action
    of that name. `params` and `returns` may be anything; what is not JSON is written as text.
    """

    event_type: str = "actions"
    params: Any = None
    returns: Any = None
    init_timestamp: Timestamp = field(default_factory=now)
    end_timestamp: Timestamp = None
    agent_id: str | UUID | None = field(default_factory=current.AGENT_ID.get)
    id: str | UUID = field(default_factory=new_id)
    session_id: str | UUID | None = None
    parent_id: str | UUID | None = field(default_factory=current.EVENT_ID.get, kw_only=True)
    trace_id: str | None = field(default=None, kw_only=True)
    span_id: str | None = field(default=None, kw_only=True)
    attributes: dict[str, Any] | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class ActionEvent(Event):
    """Something the agent did: an operation, a function of the program."""

    action_type: str | None = None
    logs: Any = None
    screenshot: str | None = None
    error_type: str | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class LLMEvent(Event):
    """A call of a model.

    Tokens: `prompt_tokens` is all input, cache included; `completion_tokens` all output,
    reasoning included; the further counts are parts of these. `cost` in US dollars, when the
    provider said it; it wins over every price list. `time_to_first_token` in seconds.
    """

    event_type: str = "llms"
    thread_id: str | UUID | None = None
    prompt: Any = None
    prompt_tokens: int | None = None
    completion: Any = None
    completion_tokens: int | None = None
    cost: Money = None
    model: str | None = None
    provider: str | None = field(default=None, kw_only=True)
    service_tier: str | None = field(default=None, kw_only=True)
    cache_read_tokens: int | None = field(default=None, kw_only=True)
    cache_write_5m_tokens: int | None = field(default=None, kw_only=True)
    cache_write_1h_tokens: int | None = field(default=None, kw_only=True)
    reasoning_tokens: int | None = field(default=None, kw_only=True)
    time_to_first_token: float | None = field(default=None, kw_only=True)
    error_type: str | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class ToolEvent(Event):
    """A call of a tool. `cost` in US dollars, when the tool costs something by itself."""

    event_type: str = "tools"
    name: str | None = None
    logs: Any = None
    cost: Money = field(default=None, kw_only=True)
    error_type: str | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class ErrorEvent(Event):
    """Something went wrong, perhaps because of `trigger_event`.

    `exception`, or the one being handled where the event is made, fills in what is not given.
    """

    event_type: str = "errors"
    trigger_event: Event | None = None
    exception: BaseException | None = None
    error_type: str | None = None
    code: str | None = None
    details: Any = None
    logs: Any = None

    def __post_init__(self) -> None:
        exception = self.exception or sys.exception()
        if exception is None:
            return
        self.error_type = self.error_type or type(exception).__name__
        self.details = safe_str(exception) if self.details is None else self.details
        if self.logs is None:
            self.logs = traceback_of(exception)

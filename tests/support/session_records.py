"""Deltas and their parts for tests of the session machine: plain ones, changed by keyword."""

from typing import Any, cast

from fleetmeter_schemas.records import NUMBER_NAMES, Delta, Kind, Numbers, WriterRecord

MINUTE_MS = 60_000
START_US = 1_700_000_000_000_000


def numbers(**values: int) -> Numbers:
    """Numbers that are zero but for those given."""
    return cast("Numbers", dict.fromkeys(NUMBER_NAMES, 0) | values)


def writer(**values: Any) -> WriterRecord:
    """A writer that was heard at 0 and numbered nothing."""
    base: dict[str, Any] = {
        "writer_id": "w",
        "heard_ms": 0,
        "heartbeat": False,
        "announced": 0,
        "ended": False,
        "runs": [],
    }
    return cast("WriterRecord", base | values)


def delta(**values: Any) -> Delta:
    """A delta of one action event at START_US."""
    heard_ms = values.get("heard_ms", 0)
    base: dict[str, Any] = {
        "project_id": "p",
        "session_id": "s",
        "first_offset": 7,
        "first_time_us": START_US,
        "last_time_us": START_US,
        "heard_ms": heard_ms,
        "log_time_ms": 1_700_000_000_000,
        "idle_timeout_ms": 30 * MINUTE_MS,
        "counted": 1,
        "saturated": False,
        "numbers": numbers(events=1, actions=1),
        "conversation_id": "",
        "user_id": "",
        "writers": [writer(heard_ms=heard_ms)],
        "lifecycle": None,
    }
    return cast("Delta", base | values)


def lifecycle(kind: Kind, detail: Any = None, *, time_us: int = START_US, **values: Any) -> Delta:
    """A delta that holds nothing but one lifecycle event."""
    said = {"kind": kind, "event_time_us": time_us, "writer_id": "w", "detail": detail}
    nothing: dict[str, Any] = {
        "counted": 0,
        "first_time_us": None,
        "last_time_us": None,
        "numbers": numbers(),
        "lifecycle": said,
    }
    return delta(**(nothing | values))


def heartbeat(**values: Any) -> Delta:
    """A delta of one heartbeat."""
    heard_ms = values.get("heard_ms", 0)
    nothing: dict[str, Any] = {
        "counted": 0,
        "first_time_us": None,
        "last_time_us": None,
        "numbers": numbers(),
        "writers": [writer(heard_ms=heard_ms, heartbeat=True)],
    }
    return delta(**(nothing | values))


def end(state: str, *, reason: str = "", said: str = "", **values: Any) -> Delta:
    """A delta of one session_ended."""
    detail = {
        "end_state": state,
        "end_state_said": said or state,
        "reason": reason,
        "last_sequence": 0,
        "video": None,
    }
    return lifecycle(Kind.SESSION_ENDED, detail, **values)


def update(**values: Any) -> dict[str, Any]:
    """A SessionUpdate that leaves everything as it is, but for what is given."""
    base: dict[str, Any] = {
        "name": None,
        "user_id": None,
        "video": None,
        "tags_set": None,
        "tags_added": [],
        "agents": {},
    }
    return base | values

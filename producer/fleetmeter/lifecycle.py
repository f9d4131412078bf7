"""Builds the records that steer a session: started, updated, ended, heartbeat. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from fleetmeter.payload import json_text, label
from fleetmeter_schemas.records import EndState, Event, Kind, SessionEnd, SessionUpdate

REASON_CHARS_MAX: Final = 32_000
# The meter refuses a detail of over 500 kB.
TAG_CHARS_MAX: Final = 200
TAGS_MAX: Final = 500
_SAID: Final = {**{state.value: state for state in EndState}, "Fail": EndState.FAILURE}


def end_state_of(said: object) -> EndState:
    """The end state that a word means: Success, Failure, Indeterminate, or Fail for Failure.

    Raises:
        ValueError: Any other word.
    """
    found = _SAID.get(said) if isinstance(said, str) else None
    if found is None:
        raise ValueError(f"end_state must be one of {', '.join(_SAID)}; not {said!r}")
    return found


def started(
    event_id: str, time_us: int, update: SessionUpdate, host: Mapping[str, object] | None
) -> Event:
    """A writer starts a session, or joins one."""
    record = _record(Kind.SESSION_STARTED, event_id, time_us)
    record["detail"] = ("fleetmeter.SessionUpdate", update)
    if host is not None:
        record["attributes"] = json_text({"host_environment": host})
    return record


def updated(event_id: str, time_us: int, update: SessionUpdate) -> Event:
    """Something about the session is said or changed."""
    record = _record(Kind.SESSION_UPDATED, event_id, time_us)
    record["detail"] = ("fleetmeter.SessionUpdate", update)
    return record


def ended(event_id: str, time_us: int, end: SessionEnd) -> Event:
    """A writer's word on how the session ended."""
    record = _record(Kind.SESSION_ENDED, event_id, time_us)
    record["detail"] = ("fleetmeter.SessionEnd", end)
    return record


def heartbeat(event_id: str, time_us: int, last_sequence: int) -> Event:
    """The writer lives, and has given numbers up to this one."""
    record = _record(Kind.HEARTBEAT, event_id, time_us)
    record["sequence"] = last_sequence
    return record


def update(
    *,
    name: object = None,
    user_id: object = None,
    tags_set: Sequence[str] | None = None,
    tags_added: Sequence[str] = (),
    agents: Mapping[str, str] | None = None,
) -> SessionUpdate:
    """What a started or updated says; texts are made valid and bounded."""
    return {
        "name": label(name) or None,
        "user_id": label(user_id) or None,
        "video": None,
        "tags_set": None if tags_set is None else _tags(tags_set),
        "tags_added": _tags(tags_added),
        "agents": {label(agent): label(called) for agent, called in (agents or {}).items()},
    }


def end(said: str, reason: object, video: object, last_sequence: int) -> SessionEnd:
    """What an ended says; raises ValueError for an unknown end state."""
    return {
        "end_state": end_state_of(said).value,
        "end_state_said": said,
        "reason": label(reason, REASON_CHARS_MAX),
        "last_sequence": last_sequence,
        "video": label(video) or None,
    }


def _tags(tags: Sequence[str]) -> list[str]:
    return [label(tag, TAG_CHARS_MAX) for tag in tags[:TAGS_MAX]]


def _record(kind: Kind, event_id: str, time_us: int) -> Event:
    return {
        "event_id": event_id,
        "kind": kind.value,
        "start_time_us": time_us,
        "end_time_us": time_us,
    }

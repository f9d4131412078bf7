"""Maps recorded events (format: data/README.md) to the SDK's events; sends nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fleetmeter import UNFINISHED, ActionEvent, ErrorEvent, Event, LLMEvent, ToolEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What has a place of its own in an event; all else is kept in `attributes`.
_PLACED = frozenset(
    {
        *("kind", "start_ms", "end_ms", "agent", "provider", "model", "name", "error_type"),
        *("input_tokens", "output_tokens", "cache_read_tokens"),
        *("cache_write_5m_tokens", "cache_write_1h_tokens"),
    }
)


def event_of(recorded: dict[str, Any], event_id: UUID) -> Event:
    """The SDK's event for a recorded one, at its recorded time."""
    common = {
        "id": str(event_id),
        "init_timestamp": _time(recorded["start_ms"]),
        "end_timestamp": _time(recorded.get("end_ms")),
        "agent_id": recorded.get("agent"),
        "attributes": _attributes(recorded),
    }
    match recorded["kind"]:
        case "llm":
            return _llm(recorded, common)
        case "tool":
            failed = "tool_error" if recorded.get("is_error") else None
            return ToolEvent(name=recorded.get("name"), error_type=failed, **common)
        case "action":
            return ActionEvent(recorded.get("name") or "action", **common)
        case "error":
            return ErrorEvent(error_type=recorded.get("error_type"), **common)
        case kind:
            raise AssertionError(kind)


def _llm(recorded: dict[str, Any], common: dict[str, Any]) -> LLMEvent:
    read = recorded.get("cache_read_tokens") or 0
    write_5m = recorded.get("cache_write_5m_tokens") or 0
    write_1h = recorded.get("cache_write_1h_tokens") or 0
    # The file tells the parts of the input apart; the SDK wants the whole, and the parts beside it.
    whole = (recorded.get("input_tokens") or 0) + read + write_5m + write_1h
    return LLMEvent(
        provider=recorded.get("provider"),
        model=recorded.get("model"),
        prompt_tokens=whole,
        completion_tokens=recorded.get("output_tokens") or 0,
        cache_read_tokens=read,
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        **common,
    )


def _attributes(recorded: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in recorded.items() if name not in _PLACED and value is not None
    }


def _time(at_ms: int | None) -> Any:
    return UNFINISHED if at_ms is None else _EPOCH + timedelta(milliseconds=at_ms)

"""The shapes of an export's parts: AgentOps' field names and ours beside them. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from fleetmeter_api.sessions import rfc3339, usd
from fleetmeter_schemas.records import Kind, Snapshot

# The lists of an export, in its order, and the kind of event in each.
LISTS: Final[Mapping[str, Kind]] = MappingProxyType(
    {"actions": Kind.ACTION, "llms": Kind.LLM, "tools": Kind.TOOL, "errors": Kind.ERROR}
)
Row = dict[str, Any]


def session_part(
    session: Snapshot, stats: Mapping[str, Any], attributes: str | None, *, complete: bool
) -> Row:
    """Who and what the session is. `complete_export`: all that `stats` counts is in the lists."""
    return {
        "id": session["session_id"],
        "project_id": session["project_id"],
        "name": session["name"],
        "user_id": session["user_id"],
        "conversation_id": session["conversation_id"],
        "state": session["state"],
        "init_timestamp": stats["init_timestamp"],
        "end_timestamp": stats["end_timestamp"],
        "end_state": stats["end_state"],
        "end_state_reason": session["end_state_reason"],
        "tags": session["tags"],
        "video": session["video"] or None,
        "host_env": parsed(attributes).get("host_environment"),
        "complete_export": complete,
    }


def agents_part(session: Snapshot) -> list[Row]:
    """The agents that the session's writers named."""
    agents = sorted(session["agents"].items())
    return [{"id": agent_id, "name": name} for agent_id, name in agents]


def exported(row: Row) -> Row:
    """One event in its list's shape; `row` has the columns of statements.EVENTS."""
    more = parsed(row["attributes"])
    match row["kind"]:
        case Kind.LLM:
            return _common(row) | _llm(row, more) | _rest(row)
        case Kind.TOOL:
            return _common(row) | _call(row) | {"name": row["name"]} | _rest(row)
        case Kind.ERROR:
            return _common(row) | _error(row, more) | _rest(row)
        case _:
            action = {"action_type": row["name"], "screenshot": more.get("screenshot")}
            return _common(row) | _call(row) | action | _rest(row)


def parsed(text: str | None) -> Row:
    """The JSON object in a text; empty where there is none."""
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _common(row: Row) -> Row:
    return {
        "id": row["event_id"],
        "session_id": row["session_id"],
        "agent_id": row["agent_id"] or None,
        "init_timestamp": rfc3339(row["start_us"]),
        "end_timestamp": None if row["end_us"] is None else rfc3339(row["end_us"]),
        "logs": row["logs"],
    }


def _call(row: Row) -> Row:
    return {"params": row["input"], "returns": row["output"]}


def _llm(row: Row, more: Row) -> Row:
    cost_pico_usd = row["cost_pico_usd"]
    return {
        "params": more.get("params", ""),
        "returns": more.get("returns", ""),
        "thread_id": more.get("thread_id"),
        "prompt": _wrapped(row["input"]),
        "completion": _wrapped(row["output"]),
        "model": row["model"],
        "provider": row["provider"],
        "service_tier": row["service_tier"],
        "prompt_tokens": row["input_tokens"],
        "completion_tokens": row["output_tokens"],
        "cache_read_tokens": row["cache_read_tokens"],
        "cache_write_tokens": _sum(row["cache_write_5m_tokens"], row["cache_write_1h_tokens"]),
        "reasoning_tokens": row["reasoning_tokens"],
        "time_to_first_token_us": row["time_to_first_token_us"],
        "cost": None if cost_pico_usd is None else usd(cost_pico_usd),
        "cost_status": row["cost_status"],
        "price_id": row["price_id"],
    }


def _error(row: Row, more: Row) -> Row:
    return {
        "timestamp": rfc3339(row["start_us"]),
        "trigger_event_id": row["parent_id"] or None,
        "trigger_event_type": more.get("trigger_event_type"),
        "code": more.get("code"),
        "details": row["output"],
    }


def _rest(row: Row) -> Row:
    return {
        "error_type": row["error_type"] or None,
        "user_id": row["user_id"],
        "parent_id": row["parent_id"] or None,
        "trace_id": row["trace_id"],
        "span_id": row["span_id"],
        "revision": row["revision"],
        "attributes": _object_or_text(row["attributes"]),
    }


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


def _wrapped(text: str) -> Row:
    """A prompt or completion as AgentOps has it: messages where it is JSON, else a string."""
    messages = _json(text) if text.lstrip()[:1] in ("[", "{") else None
    if messages is None:
        return {"type": "string", "string": text}
    return {"type": "chatml", "messages": messages}


def _object_or_text(text: str) -> Any:
    found = _json(text) if text.lstrip()[:1] == "{" else None
    return (text or None) if found is None else found


def _json(text: str) -> orjson.Fragment | None:
    """JSON text as it stands, digits and all; None where it is none."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return orjson.Fragment(text)

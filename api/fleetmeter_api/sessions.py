"""What is told of a session: its parts put together, as numbers, words and times. Pure.

A session that was forgotten and came back has several parts. Totals are sums over them, and
what they say is merged as the session machine would have had it, had it not forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any, Final, cast

from fleetmeter_schemas.records import (
    NUMBER_NAMES,
    EndState,
    Numbers,
    SessionState,
    Snapshot,
)

OLDER_PARTS_UNKNOWN: Final = "older_parts_unknown"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PICO_DIGITS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """How current an answer is."""

    log_time_ms: int | None
    now_ms: int
    caught_up: bool

    @property
    def lag_ms(self) -> int | None:
        """How old it is, milliseconds; None where that is not known."""
        return None if self.log_time_ms is None else max(0, self.now_ms - self.log_time_ms)

    def as_fields(self) -> dict[str, Any]:
        """The three fields that every answer carries."""
        as_of = None if self.log_time_ms is None else rfc3339(self.log_time_ms * 1000)
        return {"caught_up": self.caught_up, "as_of": as_of, "lag_ms": self.lag_ms}


def overlay(stored: Iterable[Snapshot], live: Iterable[Snapshot]) -> list[Snapshot]:
    """The parts of one session by age: of each the snapshot that goes further in the log."""
    parts: dict[int, Snapshot] = {}
    for snapshot in (*stored, *live):
        known = parts.get(snapshot["part"])
        if known is None or snapshot["next"] >= known["next"]:
            parts[snapshot["part"]] = snapshot
    return [parts[part] for part in sorted(parts)]


def merge(parts: Sequence[Snapshot]) -> Snapshot:
    """One session out of its parts, the oldest first; there is at least one."""
    assert parts  # noqa: S101 - a session without parts does not exist
    return reduce(_merged, parts)


def stats(session: Snapshot, as_of: AsOf) -> dict[str, Any]:
    """The answer of `/v2/sessions/{id}/stats`."""
    numbers = session["numbers"]
    return {
        "session_id": session["session_id"],
        "project_id": session["project_id"],
        **_lifecycle(session),
        "events": numbers["events"],
        "llm_calls": numbers["llm_calls"],
        "tool_calls": numbers["tool_calls"],
        "actions": numbers["actions"],
        "errors": numbers["errors"],
        "prompt_tokens": numbers["input_tokens"],
        "completion_tokens": numbers["output_tokens"],
        "cache_read_tokens": numbers["cache_read_tokens"],
        "cache_write_tokens": numbers["cache_write_tokens"],
        "reasoning_tokens": numbers["reasoning_tokens"],
        "total_tokens": numbers["input_tokens"] + numbers["output_tokens"],
        "cost": usd(numbers["cost_pico_usd"]),
        "unpriced_events": numbers["unpriced_events"],
        "late_events": session["late_events"],
        "complete": session["complete"],
        "flags": session["flags"],
        "tags": session["tags"],
        "name": session["name"],
        "user_id": session["user_id"],
        "revision": session["revision"],
        **as_of.as_fields(),
    }


def _lifecycle(session: Snapshot) -> dict[str, Any]:
    ended_at_us = session["ended_at_us"]
    last_us = session["last_event_at_us"] if ended_at_us is None else ended_at_us
    return {
        "state": session["state"],
        "end_state": session["end_state_said"] or session["end_state"],
        "end_state_reason": session["end_state_reason"],
        "init_timestamp": rfc3339(session["started_at_us"]),
        "end_timestamp": None if ended_at_us is None else rfc3339(ended_at_us),
        "duration_s": max(0, last_us - session["started_at_us"]) / 1_000_000,
    }


def usd(pico_usd: int) -> str:
    """USD as plain decimal text: exact, no exponent, trailing zeros cut down to two decimals."""
    whole, _, decimals = f"{Decimal(pico_usd).scaleb(-_PICO_DIGITS):f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def rfc3339(time_us: int) -> str:
    """Microseconds since the Unix epoch as RFC 3339 text in UTC, such as 2026-01-02T03:04:05…."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat(timespec="microseconds")


def added(one: Numbers, other: Numbers) -> Numbers:
    """The sums of two sets of numbers."""
    sums = {name: cast("Any", one)[name] + cast("Any", other)[name] for name in NUMBER_NAMES}
    return cast("Numbers", sums)


def _merged(older: Snapshot, newer: Snapshot) -> Snapshot:
    merged = newer.copy()
    _merge_end(merged, older, newer)
    merged["part"] = older["part"]
    # Sums, because a part starts its own count: the merged one must never go back.
    merged["revision"] = older["revision"] + newer["revision"]
    merged["started_at_us"] = min(older["started_at_us"], newer["started_at_us"])
    merged["last_event_at_us"] = max(older["last_event_at_us"], newer["last_event_at_us"])
    for name in ("name", "user_id", "conversation_id", "video"):
        merged[name] = newer[name] or older[name]
    merged["tags"] = list(dict.fromkeys([*older["tags"], *newer["tags"]]))
    merged["agents"] = older["agents"] | newer["agents"]
    merged["numbers"] = added(older["numbers"], newer["numbers"])
    merged["late_events"] = older["late_events"] + newer["late_events"] + _late(older, newer)
    # A part that begins in the middle misses what the older one has: only "true" can be trusted.
    merged["complete"] = True if older["complete"] and newer["complete"] else None
    merged["flags"] = sorted({*older["flags"], *newer["flags"]})
    return merged


def _merge_end(merged: Snapshot, older: Snapshot, newer: Snapshot) -> None:
    """An ended session stays ended, and a verdict replaces Indeterminate, never the reverse."""
    if older["state"] != SessionState.ENDED:
        return
    merged["state"] = SessionState.ENDED
    if newer["state"] == SessionState.ENDED and newer["end_state"] != EndState.INDETERMINATE:
        return
    merged["end_state"] = older["end_state"]
    merged["end_state_said"] = older["end_state_said"]
    merged["end_state_reason"] = older["end_state_reason"]
    merged["ended_at_us"] = older["ended_at_us"]


def _late(older: Snapshot, newer: Snapshot) -> int:
    """Events of the newer part that came after the older one had been ended."""
    if older["state"] != SessionState.ENDED:
        return 0
    return max(0, newer["numbers"]["events"] - newer["late_events"])

"""What a session may hold, and how it is kept within bounds: sums, tags, agents, writers.

Nothing here is dropped silently: what does not fit raises a flag on the session.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from fleetmeter_schemas.records import (
    LONG_MAX,
    LONG_MIN,
    NUMBER_NAMES,
    Numbers,
    SessionUpdate,
    Snapshot,
    WriterRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one session, and on the sessions of one partition."""

    writers_max: int = 64
    runs_max: int = 64
    tags_max: int = 100
    agents_max: int = 200
    text_chars_max: int = 1_000
    reason_chars_max: int = 32_000
    heartbeat_timeout_ms: int = 5 * 60_000
    retention_ms: int = 2 * 3_600_000
    open_sessions_max: int = 100_000


def add_numbers(one: Numbers, other: Numbers) -> tuple[Numbers, bool]:
    """The sums, held within 64 bits, and whether one had to be held."""
    sums = {name: one[name] + other[name] for name in NUMBER_NAMES}  # type: ignore[literal-required]
    if min(sums.values()) >= LONG_MIN and max(sums.values()) <= LONG_MAX:
        return cast("Numbers", sums), False
    held = {name: max(LONG_MIN, min(LONG_MAX, value)) for name, value in sums.items()}
    return cast("Numbers", held), True


def flagged(flags: list[str], flag: str) -> list[str]:
    """The flags with one more, sorted."""
    return flags if flag in flags else sorted([*flags, flag])


def text(said: str | None, before: str, limits: Limits) -> str:
    """What was said, cut to the bound; what was there before when nothing was said."""
    return before if said is None else said[: limits.text_chars_max]


def set_tags(session: Snapshot, detail: SessionUpdate, limits: Limits) -> None:
    """Replace, then add, the tags; without repeats, in the order they came."""
    base = session["tags"] if detail["tags_set"] is None else detail["tags_set"]
    wanted = [tag[: limits.text_chars_max] for tag in (*base, *detail["tags_added"])]
    unique = list(dict.fromkeys(wanted))
    session["tags"] = unique[: limits.tags_max]
    if len(unique) > limits.tags_max:
        session["flags"] = flagged(session["flags"], "tags_truncated")


def add_agents(session: Snapshot, agents: dict[str, str], limits: Limits) -> None:
    """Merge agent names; of more than fit, those that came first stay."""
    if not agents:
        return
    merged = dict(session["agents"])
    for agent_id, name in agents.items():
        if agent_id in merged or len(merged) < limits.agents_max:
            merged[agent_id[: limits.text_chars_max]] = name[: limits.text_chars_max]
        else:
            session["flags"] = flagged(session["flags"], "agents_truncated")
    session["agents"] = merged


def merge_writers(session: Snapshot, said: Iterable[WriterRecord], limits: Limits) -> None:
    """Merge what a delta says of its writers into what is known of them."""
    known = {writer["writer_id"]: writer for writer in session["writers"]}
    for writer in said:
        before = known.get(writer["writer_id"])
        if before is None and len(known) >= limits.writers_max:
            session["flags"] = flagged(session["flags"], "writers_truncated")
            continue
        merged, cut = _merged(before, writer, limits.runs_max)
        known[writer["writer_id"]] = merged
        if cut:
            session["flags"] = flagged(session["flags"], "runs_truncated")
    session["writers"] = list(known.values())


def merge_runs(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """The union of two lists of runs: first and last in turn, ascending, touching ones joined."""
    pairs = sorted([*_pairs(one), *_pairs(other)])
    merged: list[int] = []
    for first, last in pairs:
        if merged and first <= merged[-1] + 1:
            merged[-1] = max(merged[-1], last)
        else:
            merged += (first, last)
    return merged


def complete(session: Snapshot) -> bool | None:
    """Whether all that the writers numbered has been counted; None while one has not ended."""
    answers = [_writer_complete(writer) for writer in session["writers"]]
    if False in answers:
        return False
    unsure = {"writers_truncated", "runs_truncated"} & set(session["flags"])
    return None if unsure or None in answers or not answers else True


def _merged(
    before: WriterRecord | None, said: WriterRecord, runs_max: int
) -> tuple[WriterRecord, bool]:
    if before is None:
        runs = list(said["runs"])
        merged: WriterRecord = {**said}
    else:
        runs = merge_runs(before["runs"], said["runs"])
        merged = {
            "writer_id": before["writer_id"],
            "heard_ms": max(before["heard_ms"], said["heard_ms"]),
            "heartbeat": before["heartbeat"] or said["heartbeat"],
            "announced": max(before["announced"], said["announced"]),
            "ended": before["ended"] or said["ended"],
            "runs": runs,
        }
    merged["runs"] = runs[: 2 * runs_max]
    return merged, len(runs) > 2 * runs_max


def _writer_complete(writer: WriterRecord) -> bool | None:
    if not writer["ended"] or not writer["announced"]:
        return None
    return writer["runs"] == [1, writer["announced"]]


def _pairs(runs: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(runs[::2], runs[1::2], strict=True))

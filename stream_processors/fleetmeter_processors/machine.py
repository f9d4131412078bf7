"""The session machine: what a delta, or silence, makes of one session.

Everything that can change a session's state is in this file. It has no clock, no I/O and no
memory of its own: a session is a `Snapshot`, every function returns a new one.

                 event          heartbeat, update  started       end             deadline passed
    none         open           ignored            open          ended (*)       -
    open         fold           refresh, apply     join          ended           timed_out
    timed_out    fold, re-open  re-open            re-open       ended           -
    ended        fold, late     apply              ignored       verdict rule    -

(*) flagged start_missing. Verdict rule: Success or Failure replaces Indeterminate, never the
reverse; between verdicts the last one wins.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

from fleetmeter_processors import bounded
from fleetmeter_processors.bounded import Limits
from fleetmeter_schemas.records import (
    NUMBER_NAMES,
    Delta,
    EndState,
    Kind,
    Lifecycle,
    Numbers,
    SessionEnd,
    SessionState,
    SessionUpdate,
    Snapshot,
)

IDLE_TIMEOUT: Final = "idle_timeout"
WRITER_LOST: Final = "writer_lost"
SESSION_LIMIT: Final = "session_limit"


class Input(StrEnum):
    """What reaches a session."""

    EVENT = "event"
    HEARTBEAT = "heartbeat"
    UPDATE = "update"
    START = "start"
    END = "end"


class Step(StrEnum):
    """What the table says to do."""

    IGNORE = "ignore"
    OPEN = "open"
    APPLY = "apply"
    REOPEN = "reopen"
    LATE = "late"
    END = "end"
    END_UNSTARTED = "end_unstarted"
    REVISE_VERDICT = "revise_verdict"
    APPLY_LATE = "apply_late"


OPEN, TIMED_OUT, ENDED = SessionState.OPEN, SessionState.TIMED_OUT, SessionState.ENDED

TRANSITIONS: Final[dict[SessionState | None, dict[Input, Step]]] = {
    None: {
        Input.EVENT: Step.OPEN,
        Input.HEARTBEAT: Step.IGNORE,
        Input.UPDATE: Step.IGNORE,
        Input.START: Step.OPEN,
        Input.END: Step.END_UNSTARTED,
    },
    OPEN: {
        Input.EVENT: Step.APPLY,
        Input.HEARTBEAT: Step.APPLY,
        Input.UPDATE: Step.APPLY,
        Input.START: Step.APPLY,
        Input.END: Step.END,
    },
    TIMED_OUT: {
        Input.EVENT: Step.REOPEN,
        Input.HEARTBEAT: Step.REOPEN,
        Input.UPDATE: Step.REOPEN,
        Input.START: Step.REOPEN,
        Input.END: Step.END,
    },
    ENDED: {
        Input.EVENT: Step.LATE,
        Input.HEARTBEAT: Step.IGNORE,
        Input.UPDATE: Step.APPLY_LATE,
        Input.START: Step.IGNORE,
        Input.END: Step.REVISE_VERDICT,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the log a session is being changed: the block's partition, next and log time."""

    partition: int
    next: int
    log_time_ms: int


def apply(session: Snapshot | None, delta: Delta, place: Place, limits: Limits) -> Snapshot | None:
    """The session after a delta: its events first, then the lifecycle event that ended the run.

    Args:
        session: The session so far, or None where none is known.
        delta: Sums and lifecycle of one run of its records.
        place: The block the delta is in.
        limits: Bounds on what a session may hold.

    Returns:
        The session after it, or None where it was ignored and none existed.
    """
    lifecycle = delta["lifecycle"]
    changed = session
    if delta["counted"] or lifecycle is None:
        cause = Input.EVENT if delta["counted"] else Input.HEARTBEAT
        changed = _step(changed, cause, delta, None, limits)
    if lifecycle is not None:
        changed = _step(changed, _input_of(lifecycle), delta, lifecycle, limits)
    if changed is None:
        return None
    if changed is session:  # ignored, but for who was heard
        changed = _changed(changed)
    _hear(changed, delta, limits)
    return _stamped(changed, place)


def deadline_ms(session: Snapshot, limits: Limits) -> int:
    """Heard time after which an open session has timed out."""
    return max(_writer_deadlines(session, limits))[0]


def expire(session: Snapshot, place: Place, heard_ms: int, limits: Limits) -> Snapshot:
    """The open session, timed out: it ended with its last event, nobody said how."""
    _, by_heartbeat = max(_writer_deadlines(session, limits))
    reason = WRITER_LOST if by_heartbeat else IDLE_TIMEOUT
    return close(session, place, heard_ms, reason)


def close(session: Snapshot, place: Place, heard_ms: int, reason: str) -> Snapshot:
    """The open session, closed without a word from its writers."""
    assert session["state"] == OPEN, session["state"]  # noqa: S101
    closed = _changed(session)
    closed["state"] = TIMED_OUT
    closed["revision"] += 1
    closed["end_state"] = EndState.INDETERMINATE
    closed["end_state_said"] = ""
    closed["end_state_reason"] = reason
    closed["ended_at_us"] = closed["last_event_at_us"]
    closed["closed_at_ms"] = place.log_time_ms
    closed["closed_heard_ms"] = heard_ms
    return _stamped(closed, place)


def forget_ms(session: Snapshot, limits: Limits) -> int:
    """Heard time after which a closed session leaves memory."""
    closed_ms = session["closed_heard_ms"]
    assert closed_ms is not None  # noqa: S101
    return max(closed_ms, session["heard_ms"]) + limits.retention_ms


def _input_of(lifecycle: Lifecycle) -> Input:
    match lifecycle["kind"]:
        case Kind.SESSION_STARTED:
            return Input.START
        case Kind.SESSION_ENDED:
            return Input.END
        case _:
            return Input.UPDATE


def _step(
    session: Snapshot | None,
    cause: Input,
    delta: Delta,
    lifecycle: Lifecycle | None,
    limits: Limits,
) -> Snapshot | None:
    state = None if session is None else SessionState(session["state"])
    step = TRANSITIONS[state][cause]
    if step is Step.IGNORE:
        return session
    changed = _opened(delta, lifecycle) if session is None else _changed(session)
    if step is Step.REOPEN:
        _reopen(changed)
    if lifecycle is None:
        _fold(changed, delta)
    elif cause is Input.END:
        _end(changed, step, delta, lifecycle, limits)
    else:
        _update(changed, lifecycle, limits)
    if step in (Step.LATE, Step.APPLY_LATE):
        changed["revision"] += 1
    if step is Step.LATE:
        changed["late_events"] += max(0, delta["numbers"]["events"])
    return changed


def _opened(delta: Delta, lifecycle: Lifecycle | None) -> Snapshot:
    """A session of which nothing is known but that this delta opens it."""
    first = delta["first_time_us"]
    start = lifecycle["event_time_us"] if lifecycle is not None else first
    # A correction may be the first that is heard of a session; its log time stands in.
    started_at_us = start if start is not None else delta["log_time_ms"] * 1000
    return {
        "project_id": delta["project_id"],
        "session_id": delta["session_id"],
        "part": delta["first_offset"],
        "partition": 0,
        "next": 0,
        "log_time_ms": 0,
        "state": OPEN,
        "revision": 1,
        "end_state": EndState.INDETERMINATE,
        "end_state_said": "",
        "end_state_reason": "",
        "started_at_us": started_at_us,
        "ended_at_us": None,
        "last_event_at_us": started_at_us,
        "closed_at_ms": None,
        "closed_heard_ms": None,
        "heard_ms": delta["heard_ms"],
        "idle_timeout_ms": delta["idle_timeout_ms"],
        "name": "",
        "user_id": "",
        "conversation_id": "",
        "video": "",
        "tags": [],
        "agents": {},
        "numbers": cast("Numbers", dict.fromkeys(NUMBER_NAMES, 0)),
        "late_events": 0,
        "complete": None,
        "flags": [],
        "writers": [],
    }


def _changed(session: Snapshot) -> Snapshot:
    """A copy whose own fields may be set; what they hold is replaced, never edited."""
    return session.copy()


def _stamped(session: Snapshot, place: Place) -> Snapshot:
    session["partition"] = place.partition
    session["next"] = place.next
    session["log_time_ms"] = place.log_time_ms
    return session


def _reopen(session: Snapshot) -> None:
    session["state"] = OPEN
    session["revision"] += 1
    session["end_state_reason"] = ""
    session["ended_at_us"] = None
    session["closed_at_ms"] = None
    session["closed_heard_ms"] = None


def _fold(session: Snapshot, delta: Delta) -> None:
    numbers, saturated = bounded.add_numbers(session["numbers"], delta["numbers"])
    session["numbers"] = numbers
    if saturated or delta["saturated"]:
        session["flags"] = bounded.flagged(session["flags"], "sums_saturated")
    first, last = delta["first_time_us"], delta["last_time_us"]
    if first is not None:
        session["started_at_us"] = min(session["started_at_us"], first)
    if last is not None:
        session["last_event_at_us"] = max(session["last_event_at_us"], last)
    session["user_id"] = delta["user_id"] or session["user_id"]
    session["conversation_id"] = delta["conversation_id"] or session["conversation_id"]


def _update(session: Snapshot, lifecycle: Lifecycle, limits: Limits) -> None:
    if lifecycle["kind"] == Kind.SESSION_STARTED:
        session["started_at_us"] = min(session["started_at_us"], lifecycle["event_time_us"])
    detail = cast("SessionUpdate | None", lifecycle["detail"])
    if detail is None:
        return
    session["name"] = bounded.text(detail["name"], session["name"], limits)
    session["user_id"] = bounded.text(detail["user_id"], session["user_id"], limits)
    session["video"] = bounded.text(detail["video"], session["video"], limits)
    bounded.set_tags(session, detail, limits)
    bounded.add_agents(session, detail["agents"], limits)


def _end(session: Snapshot, step: Step, delta: Delta, lifecycle: Lifecycle, limits: Limits) -> None:
    said = cast("SessionEnd | None", lifecycle["detail"])
    verdict = EndState(said["end_state"]) if said is not None else EndState.INDETERMINATE
    if step is Step.REVISE_VERDICT and verdict is EndState.INDETERMINATE:
        return
    if step is Step.END_UNSTARTED:
        session["flags"] = bounded.flagged(session["flags"], "start_missing")
    if step is not Step.END_UNSTARTED:
        session["revision"] += 1
    session["state"] = ENDED
    session["end_state"] = verdict
    session["ended_at_us"] = lifecycle["event_time_us"]
    if step is not Step.REVISE_VERDICT:
        session["closed_at_ms"] = delta["log_time_ms"]
        session["closed_heard_ms"] = delta["heard_ms"]
    if said is not None:
        session["end_state_said"] = bounded.text(said["end_state_said"], "", limits)
        session["end_state_reason"] = said["reason"][: limits.reason_chars_max]
        session["video"] = bounded.text(said["video"], session["video"], limits)


def _hear(session: Snapshot, delta: Delta, limits: Limits) -> None:
    session["heard_ms"] = max(session["heard_ms"], delta["heard_ms"])
    session["idle_timeout_ms"] = delta["idle_timeout_ms"]
    bounded.merge_writers(session, delta["writers"], limits)
    session["complete"] = bounded.complete(session)


def _writer_deadlines(session: Snapshot, limits: Limits) -> list[tuple[int, bool]]:
    """For each writer when its silence has lasted too long, and whether heartbeats say so."""
    idle_ms = session["idle_timeout_ms"]
    heartbeat_ms = min(limits.heartbeat_timeout_ms, idle_ms)
    found = [
        (
            writer["heard_ms"] + (heartbeat_ms if writer["heartbeat"] else idle_ms),
            writer["heartbeat"],
        )
        for writer in session["writers"]
    ]
    if not found or "writers_truncated" in session["flags"]:
        found.append((session["heard_ms"] + idle_ms, False))
    return found

"""Which recorded events a writer sends, in which order, under which ids; sends nothing.

Everything follows from the run's id and the file, so that a writer that died can begin again:
the same events come under the same ids and count once.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid5

from fleetmeter_local.recorded import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event of one session, or the session's end (`event` None)."""

    at_ms: int
    session_id: str
    event_id: UUID
    event: dict[str, Any] | None
    end_state: str | None = None


def session_id(run: UUID, session: Recorded) -> str:
    """The fresh id of a recorded session in this run."""
    return str(uuid5(run, f"{session.line}:{session.session}"))


def share(sessions: Iterable[Recorded], writer: int, writers: int) -> list[Recorded]:
    """The sessions of one writer: every session has exactly one."""
    return [session for place, session in enumerate(sessions) if place % writers == writer]


def steps(run: UUID, sessions: Iterable[Recorded]) -> Iterator[Step]:
    """The events of these sessions in the order of their starts, as the fleet did them."""
    streams = [_of_session(session_id(run, session), session) for session in sessions]
    return heapq.merge(*streams, key=attrgetter("at_ms"))


def _of_session(fresh_id: str, session: Recorded) -> Iterator[Step]:
    at_ms = 0
    for place, event in enumerate(session.events):
        at_ms = max(at_ms, event["start_ms"])
        yield Step(
            at_ms=at_ms,
            session_id=fresh_id,
            event_id=uuid5(UUID(fresh_id), str(place)),
            event=event,
        )
    if session.end_state is not None:
        yield Step(
            at_ms=at_ms,
            session_id=fresh_id,
            event_id=uuid5(UUID(fresh_id), "end"),
            event=None,
            end_state=session.end_state,
        )

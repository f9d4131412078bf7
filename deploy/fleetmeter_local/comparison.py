"""Holds what was expected of sessions against what was observed; asks nobody, pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fleetmeter_local.observed import Ended
from fleetmeter_local.recompute import Totals, empty

SOURCES = ("api", "events", "sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a replayed session must show; `end_state` None: it was abandoned."""

    recorded_as: str
    totals: Totals
    end_state: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What each source says, by session id."""

    api: Mapping[str, Totals]
    events: Mapping[str, Totals]
    sessions: Mapping[str, Totals]
    ended: Mapping[str, Ended]

    def source(self, name: str) -> Mapping[str, Totals]:
        """What one of SOURCES says."""
        sources = {"api": self.api, "events": self.events, "sessions": self.sessions}
        return sources[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One number that is not as it was sent."""

    session_id: str
    recorded_as: str
    source: str
    field: str
    expected: str
    actual: str


def mismatches(expected: Mapping[str, Expected], observed: Observed) -> list[Mismatch]:
    """Everything that differs, session by session."""
    return [
        found
        for session_id, wanted in expected.items()
        for found in _of_session(session_id, wanted, observed)
    ]


def _of_session(session_id: str, wanted: Expected, observed: Observed) -> Iterator[Mismatch]:
    right = flat(wanted.totals)
    for source in SOURCES:
        found = observed.source(source).get(session_id)
        # A recorded session without events leaves no row in the events table, rightly.
        left = flat(found if found is not None else empty())
        if found is None and source != "events":
            yield _mismatch(session_id, wanted, source, "session", ("present", "absent"))
            continue
        for field, value in right.items():
            if left[field] != value:
                yield _mismatch(session_id, wanted, source, field, (value, left[field]))
    ended = observed.ended.get(session_id)
    if ended is not None and ended.state not in _allowed(wanted):
        said = (_allowed(wanted)[-1], ended.state)
        yield _mismatch(session_id, wanted, "sessions", "end_state", said)


def _allowed(wanted: Expected) -> tuple[str, ...]:
    """An abandoned session is open until its silence was long enough."""
    return ("open", "Indeterminate") if wanted.end_state is None else (wanted.end_state,)


def _mismatch(
    session_id: str, wanted: Expected, source: str, field: str, values: tuple[Any, Any]
) -> Mismatch:
    return Mismatch(
        session_id=session_id,
        recorded_as=wanted.recorded_as,
        source=source,
        field=field,
        expected=written(values[0]),
        actual=written(values[1]),
    )


def flat(totals: Totals) -> dict[str, int | Decimal]:
    """All numbers of the sums under one name each."""
    return {
        **{f"events.{kind}": count for kind, count in totals.events.items()},
        **{f"tokens.{name}": count for name, count in totals.tokens.items()},
        "cost_usd": totals.cost_usd,
        "unpriced_events": totals.unpriced_events,
    }


def written(value: Any) -> str:
    """The value in digits; money without an exponent and without trailing zeros past cents."""
    return money(value) if isinstance(value, Decimal) else str(value)


def money(amount: Decimal) -> str:
    """Exact USD, at least two digits behind the point."""
    whole, _, digits = f"{amount:f}".partition(".")
    return f"{whole}.{digits.rstrip('0'):0<2}"


def summed(totals: Mapping[str, Totals]) -> Totals:
    """The sums over all sessions."""
    total = empty()
    for each in totals.values():
        total.add(each)
    return total


def end_states(expected: Mapping[str, Expected], observed: Observed) -> dict[str, int]:
    """How many sessions ended how; `missing` are those that never came."""
    found = Counter(
        observed.ended[session_id].state if session_id in observed.ended else "missing"
        for session_id in expected
    )
    return dict(sorted(found.items()))

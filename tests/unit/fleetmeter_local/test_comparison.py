from collections.abc import Callable
from decimal import Decimal

import pytest

from fleetmeter_local import comparison
from fleetmeter_local.comparison import Expected, Observed
from fleetmeter_local.observed import Ended
from fleetmeter_local.recompute import Totals, empty


def totals() -> Totals:
    """Some sums."""
    made = empty()
    made.events.update(llm=2, tool=1)
    made.tokens.update(input=100, output=5)
    made.cost_usd = Decimal("0.123456789012")
    made.unpriced_events = 1
    return made


def expected(end_state: str | None = None) -> dict[str, Expected]:
    """One session that must show these sums."""
    return {"s": Expected(recorded_as="r", totals=totals(), end_state=end_state)}


def observed(
    *,
    api: Totals | None = None,
    events: Totals | None = None,
    sessions: Totals | None = None,
    state: str = "Indeterminate",
) -> Observed:
    """What all sources say, the same unless given."""
    return Observed(
        api={"s": api or totals()},
        events={"s": events or totals()},
        sessions={"s": sessions or totals()},
        ended={"s": Ended(state=state, reason="idle_timeout")},
    )


def changed(change: Callable[[Totals], object]) -> Totals:
    """The sums with one of them changed."""
    made = totals()
    change(made)
    return made


def test_equal_sums_are_no_mismatch() -> None:
    """Every source says what the file says."""
    assert [] == comparison.mismatches(expected(), observed())


@pytest.mark.parametrize("source", comparison.SOURCES)
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("events.tool", lambda made: made.events.update(tool=2)),
        ("tokens.input", lambda made: made.tokens.update(input=99)),
        ("tokens.reasoning", lambda made: made.tokens.update(reasoning=1)),
        ("cost_usd", lambda made: setattr(made, "cost_usd", Decimal("0.123456789013"))),
        ("unpriced_events", lambda made: setattr(made, "unpriced_events", 0)),
    ],
)
def test_every_number_of_every_source_counts(
    source: str, field: str, change: Callable[[Totals], object]
) -> None:
    """A difference of one token or of the last digit of the money is found and named."""
    wrong = changed(change)
    seen = {
        "api": observed(api=wrong),
        "events": observed(events=wrong),
        "sessions": observed(sessions=wrong),
    }[source]
    (found,) = comparison.mismatches(expected(), seen)
    assert (source, field) == (found.source, found.field)


@pytest.mark.parametrize(
    ("said", "state", "count"),
    [
        ("Success", "Success", 0),
        ("Success", "open", 1),
        ("Success", "Indeterminate", 1),
        ("Failure", "Success", 1),
        (None, "Indeterminate", 0),
        (None, "open", 0),
        (None, "Failure", 1),
    ],
)
def test_end_states_are_compared(said: str | None, state: str, count: int) -> None:
    """A recorded verdict must be there; an abandoned session is open or Indeterminate."""
    assert count == len(comparison.mismatches(expected(said), observed(state=state)))


def test_a_session_that_never_came_is_missing_everywhere() -> None:
    """Absence is a mismatch of its own in api and sessions, and of numbers in events."""
    nothing = Observed(api={}, events={}, sessions={}, ended={})
    found = comparison.mismatches(expected(), nothing)
    assert {"api", "events", "sessions"} == {each.source for each in found}
    assert {"missing": 1} == comparison.end_states(expected(), nothing)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1114.12781910", "1114.1278191"),
        ("0", "0.00"),
        ("1E-12", "0.000000000001"),
        ("5", "5.00"),
        ("1E+3", "1000.00"),
    ],
)
def test_money_is_written_exactly(amount: str, text: str) -> None:
    """No exponent, nothing rounded, at least cents."""
    assert text == comparison.money(Decimal(amount))

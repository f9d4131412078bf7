"""Parts put together, and how numbers and times are written."""

from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_fakes import START_US, numbers, snapshot
from fleetmeter_api.sessions import AsOf, merge, overlay, rfc3339, stats, usd

NOW = AsOf(log_time_ms=1, now_ms=2, caught_up=True)


@pytest.mark.parametrize(
    ("pico_usd", "text"),
    [
        (0, "0.00"),
        (1, "0.000000000001"),
        (1_500_000_000_000, "1.50"),
        (1_114_127_819_100_000, "1114.1278191"),
        (100 * 10**12, "100.00"),
        (-2_500_000_000, "-0.0025"),
        (2**63 - 1, "9223372.036854775807"),
        (10**27, "1000000000000000.00"),
    ],
)
def test_money_is_plain_decimal_text(pico_usd: int, text: str) -> None:
    """Costs are exact, without exponent, with two decimals at least."""
    assert usd(pico_usd) == text


@given(st.integers(-(2**70), 2**70))
def test_money_loses_nothing(pico_usd: int) -> None:
    """The text is the number, whatever its size."""
    assert int(Decimal(usd(pico_usd)).scaleb(12)) == pico_usd


def test_times_have_microseconds_and_an_offset() -> None:
    """Times are RFC 3339 with six decimals, also where they are zero."""
    assert rfc3339(START_US) == "2025-10-09T08:53:20.000000+00:00"
    assert rfc3339(START_US + 1) == "2025-10-09T08:53:20.000001+00:00"


def test_overlay_takes_the_further_snapshot_of_each_part() -> None:
    """Per part the higher position wins, and the parts come by age."""
    stored = [snapshot(part=50, next=60), snapshot(part=10, next=20)]
    live = [snapshot(part=50, next=59, name="stale"), snapshot(part=10, next=21, name="live")]
    told = [(one["part"], one["next"], one["name"]) for one in overlay(stored, live)]
    assert told == [(10, 21, "live"), (50, 60, "")]


def test_one_part_is_told_as_it_is() -> None:
    """A session with one part is that part."""
    assert merge([snapshot()]) == snapshot()


def test_numbers_are_sums_over_parts() -> None:
    """All numbers, late events and revisions add up, times span all parts."""
    older = snapshot(numbers=numbers(events=2, cost_pico_usd=2**63 - 1), revision=3, late_events=1)
    newer = snapshot(
        part=50,
        next=60,
        numbers=numbers(events=3, cost_pico_usd=5),
        started_at_us=START_US + 100,
        last_event_at_us=START_US + 9_000_000,
    )
    merged = merge([older, newer])
    assert merged["numbers"] == numbers(events=5, cost_pico_usd=2**63 + 4)
    told = (merged["revision"], merged["late_events"], merged["next"], merged["part"])
    assert told == (4, 1, 60, 10)
    assert merged["started_at_us"] == START_US
    assert merged["last_event_at_us"] == START_US + 9_000_000


def test_words_of_the_newer_part_win_where_it_has_any() -> None:
    """Names are the last said; tags, agents and flags of all parts stay."""
    older = snapshot(
        name="old", user_id="u", tags=["a", "b"], agents={"1": "x", "2": "y"}, flags=["z"]
    )
    newer = snapshot(part=50, name="new", tags=["b", "c"], agents={"2": "Y"}, flags=["s"])
    merged = merge([older, newer])
    assert (merged["name"], merged["user_id"]) == ("new", "u")
    assert merged["tags"] == ["a", "b", "c"]
    assert merged["agents"] == {"1": "x", "2": "Y"}
    assert merged["flags"] == ["s", "z"]


ENDED = {"state": "ended", "ended_at_us": START_US + 5}
SUCCESS = ENDED | {"end_state": "Success", "end_state_said": "Success"}
FAILURE = ENDED | {"end_state": "Failure", "end_state_said": "Fail", "ended_at_us": START_US + 9}
SILENT = {
    "state": "timed_out",
    "end_state_reason": "idle_timeout",
    "ended_at_us": START_US + 7,
}


@pytest.mark.parametrize(
    ("older", "newer", "expected"),
    [
        (SUCCESS, {}, ("ended", "Success", "", START_US + 5)),
        (SUCCESS, SILENT, ("ended", "Success", "", START_US + 5)),
        (SUCCESS, ENDED, ("ended", "Success", "", START_US + 5)),
        (SUCCESS, FAILURE, ("ended", "Fail", "", START_US + 9)),
        (ENDED, FAILURE, ("ended", "Fail", "", START_US + 9)),
        (ENDED, {}, ("ended", "Indeterminate", "", START_US + 5)),
        (SILENT, {}, ("open", "Indeterminate", "", None)),
        (SILENT, FAILURE, ("ended", "Fail", "", START_US + 9)),
        ({}, SILENT, ("timed_out", "Indeterminate", "idle_timeout", START_US + 7)),
    ],
)
def test_ends_merge_by_the_machines_rule(
    older: dict[str, object], newer: dict[str, object], expected: tuple[object, ...]
) -> None:
    """Ended stays ended; a verdict replaces Indeterminate, never the reverse; the last one wins."""
    merged = merge([snapshot(**older), snapshot(part=50, **newer)])
    told = stats(merged, NOW)
    found = (told["state"], told["end_state"], told["end_state_reason"], merged["ended_at_us"])
    assert found == expected


def test_events_after_an_end_are_late_in_a_new_part_too() -> None:
    """What a new part counts after an ended one came late, each event once."""
    newer = snapshot(part=50, numbers=numbers(events=4), late_events=1)
    assert merge([snapshot(**SUCCESS), newer])["late_events"] == 4
    assert merge([snapshot(), newer])["late_events"] == 1


@pytest.mark.parametrize(
    ("older", "newer", "expected"),
    [(True, True, True), (True, False, None), (False, True, None), (True, None, None)],
)
def test_completeness_of_parts_is_only_trusted_when_all_are(
    older: bool,  # noqa: FBT001 - a field's value
    newer: bool | None,  # noqa: FBT001 - a field's value
    expected: bool | None,  # noqa: FBT001 - a field's value
) -> None:
    """A part that begins in the middle seems incomplete: that is no loss."""
    merged = merge([snapshot(complete=older), snapshot(part=50, complete=newer)])
    assert merged["complete"] is expected


def test_merging_does_not_change_the_parts() -> None:
    """Merging and telling leave what they were given as it was."""
    parts = [snapshot(tags=["a"], **SUCCESS), snapshot(part=50, tags=["b"])]
    stats(merge(parts), NOW)
    assert parts == [snapshot(tags=["a"], **SUCCESS), snapshot(part=50, tags=["b"])]


def test_totals_do_not_depend_on_how_parts_are_grouped() -> None:
    """Merging two parts first gives what merging all gives."""
    a, b, c = snapshot(), snapshot(part=50, **SUCCESS), snapshot(part=90, numbers=numbers(events=7))
    assert merge([merge([a, b]), c]) == merge([a, b, c])


def test_overlay_does_not_depend_on_order() -> None:
    """However the store orders its rows, the parts are the same."""
    rows = [snapshot(part=part) for part in (1, 2, 3)]
    found = {tuple(one["part"] for one in overlay(some, ())) for some in permutations(rows)}
    assert found == {(1, 2, 3)}


@pytest.mark.parametrize(
    ("ended_at_us", "seconds"),
    [(None, 1.5), (START_US + 2_000_001, 2.000001), (START_US - 1, 0.0)],
)
def test_durations_are_on_the_event_clock(ended_at_us: int | None, seconds: float) -> None:
    """A running session lasts until its last event, an ended one to its end, never less than 0."""
    assert stats(snapshot(ended_at_us=ended_at_us), NOW)["duration_s"] == seconds


def test_lag_is_never_negative() -> None:
    """A broker's clock ahead of ours is no negative age."""
    ahead = AsOf(log_time_ms=5, now_ms=2, caught_up=True)
    unknown = AsOf(log_time_ms=None, now_ms=2, caught_up=False)
    assert (ahead.lag_ms, unknown.lag_ms) == (0, None)
    assert unknown.as_fields() == {"caught_up": False, "as_of": None, "lag_ms": None}

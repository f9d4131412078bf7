from decimal import Decimal
from typing import Any

from fleetmeter_local import recompute, recorded
from fleetmeter_local.recorded import Recorded


def session(*events: dict[str, Any]) -> Recorded:
    """A session of these events."""
    return Recorded(line=1, session="s", end_state=None, events=list(events))


def call(**changes: Any) -> dict[str, Any]:
    """A recorded call of a model."""
    event = {
        "kind": "llm",
        "start_ms": 1_767_621_256_903,
        "end_ms": 1_767_621_261_281,
        "provider": "anthropic",
        "model": "claude-opus-4-5-20251101",
        "input_tokens": 10,
        "cache_read_tokens": 2_000,
        "cache_write_5m_tokens": 100,
        "cache_write_1h_tokens": 50,
        "output_tokens": 7,
    }
    return event | changes


def test_the_demo_file_adds_up_to_what_is_promised() -> None:
    """205 sessions, 35,023 events, $1,114.12781910, 27 calls without a price."""
    total = recompute.empty()
    sessions = 0
    for each in recorded.read(recorded.demo_file()):
        total.add(recompute.expected(each))
        sessions += 1
    assert (205, 35_023) == (sessions, sum(total.events.values()))
    assert (Decimal("1114.12781910"), 27) == (total.cost_usd, total.unpriced_events)


def test_input_contains_the_cache() -> None:
    """The disjoint parts of the file are summed."""
    totals = recompute.expected(session(call()))
    expected = {
        "input": 2_160,
        "output": 7,
        "cache_read": 2_000,
        "cache_write": 150,
        "reasoning": 0,
    }
    assert expected == totals.tokens


def test_each_part_of_the_input_has_its_own_price() -> None:
    """$5 fresh, $0.50 read, $6.25 and $10 written, $25 out, each a million tokens."""
    totals = recompute.expected(session(call()))
    million = Decimal(1_000_000)
    parts = (
        10 * Decimal(5),
        2_000 * Decimal("0.5"),
        100 * Decimal("6.25"),
        50 * Decimal(10),
        7 * Decimal(25),
    )
    assert sum(parts) / million == totals.cost_usd


def test_a_model_without_a_price_is_counted_and_costs_nothing_known() -> None:
    """No price is not a price of zero."""
    totals = recompute.expected(session(call(model="<synthetic>"), call()))
    assert (1, 2) == (totals.unpriced_events, totals.events["llm"])
    assert recompute.expected(session(call())).cost_usd == totals.cost_usd


def test_a_call_is_priced_at_its_own_time() -> None:
    """o3 cost $10 a million input tokens in May 2025, and $2 from June on."""
    usage = {
        "provider": "openai",
        "model": "o3",
        "input_tokens": 1_000_000,
        "cache_read_tokens": 0,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "output_tokens": 0,
    }
    before = recompute.expected(session(call(**usage, start_ms=1_746_057_600_000)))
    after = recompute.expected(session(call(**usage, start_ms=1_767_621_256_903)))
    assert (Decimal(10), Decimal(2)) == (before.cost_usd, after.cost_usd)

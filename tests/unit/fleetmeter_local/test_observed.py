from decimal import Decimal
from typing import Any

import pytest

from fleetmeter_local.observed import stats_totals
from fleetmeter_schemas.errors import Unavailable

STATS: dict[str, Any] = {
    "llm_calls": 1,
    "tool_calls": 2,
    "actions": 3,
    "errors": 4,
    "prompt_tokens": 5,
    "completion_tokens": 6,
    "cache_read_tokens": 7,
    "cache_write_tokens": 8,
    "reasoning_tokens": 9,
    "cost": "12345678901234567.000000000001",
    "unpriced_events": 10,
}


def test_stats_are_read_without_loss() -> None:
    """Money goes from text to decimal, never through a float."""
    totals = stats_totals(STATS)
    assert {"llm": 1, "tool": 2, "action": 3, "error": 4} == totals.events
    expected = {"input": 5, "output": 6, "cache_read": 7, "cache_write": 8, "reasoning": 9}
    assert expected == totals.tokens
    assert (Decimal("12345678901234567.000000000001"), 10) == (
        totals.cost_usd,
        totals.unpriced_events,
    )


def test_a_cost_that_is_no_number_is_said() -> None:
    """It is the api's fault, and not a difference of numbers."""
    with pytest.raises(Unavailable, match="'free'"):
        stats_totals({**STATS, "cost": "free"})

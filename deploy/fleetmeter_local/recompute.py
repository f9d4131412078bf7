"""What a recorded file adds up to, from the file alone; uses no code of the pipeline.

Money is the price list's own `Decimal`, summed exactly, and each call is priced at its start.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price

from fleetmeter_local.recorded import Recorded


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over events: counts by kind, tokens by their place, cost in USD."""

    events: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    cost_usd: Decimal = Decimal(0)
    unpriced_events: int = 0

    def add(self, other: "Totals") -> None:
        """Add another's sums to these."""
        _add(self.events, other.events)
        _add(self.tokens, other.tokens)
        self.cost_usd += other.cost_usd
        self.unpriced_events += other.unpriced_events


TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")


def expected(session: Recorded) -> Totals:
    """What a recorded session adds up to."""
    totals = empty()
    for event in session.events:
        totals.events[event["kind"]] += 1
        if event["kind"] == "llm":
            _add_call(totals, event)
    return totals


def empty() -> Totals:
    """The sums over nothing, every name present."""
    return Totals(
        events=dict.fromkeys(("llm", "tool", "action", "error"), 0),
        tokens=dict.fromkeys(TOKENS, 0),
    )


def _add_call(totals: Totals, event: dict[str, Any]) -> None:
    # The four parts of the input are disjoint in the file.
    cache_read = event.get("cache_read_tokens") or 0
    write_5m = event.get("cache_write_5m_tokens") or 0
    write_1h = event.get("cache_write_1h_tokens") or 0
    usage = {
        "input": (event.get("input_tokens") or 0) + cache_read + write_5m + write_1h,
        "output": event.get("output_tokens") or 0,
        "cache_read": cache_read,
        "cache_write": write_5m + write_1h,
    }
    _add(totals.tokens, usage)
    cost = _cost_usd(event, usage, write_5m, write_1h)
    if cost is None:
        totals.unpriced_events += 1
    else:
        totals.cost_usd += cost


def _cost_usd(
    event: dict[str, Any], usage: dict[str, int], write_5m: int, write_1h: int
) -> Decimal | None:
    try:
        price = calc_price(
            Usage(
                input_tokens=usage["input"],
                output_tokens=usage["output"],
                cache_read_tokens=usage["cache_read"],
                cache_write_tokens=usage["cache_write"],
                cache_write_5m_tokens=write_5m,
                cache_write_1h_tokens=write_1h,
            ),
            event["model"],
            provider_id=event["provider"],
            genai_request_timestamp=datetime.fromtimestamp(event["start_ms"] / 1000, UTC),
        )
    except LookupError:
        return None
    return price.total_price


def _add(sums: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + count

"""What one event adds to its session's sums; sums up nothing itself.

Token counts belong to `llm` events only, and not to an `aggregate`, whose parts are counted
elsewhere: what tools and agents report of their parts' usage would be counted twice. A tool may
have a cost of its own.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fleetmeter_processors.prefix import Prefix
from fleetmeter_schemas.records import (
    COUNTED_KINDS,
    LONG_MAX,
    LONG_MIN,
    NUMBER_NAMES,
    CostStatus,
    Kind,
)

# One value for each of records.NUMBER_NAMES, in that order.
Counts = tuple[int, ...]

NOTHING: Final[Counts] = (0,) * len(NUMBER_NAMES)
_KIND_NUMBERS: Final = {
    Kind.LLM: "llm_calls",
    Kind.TOOL: "tool_calls",
    Kind.ACTION: "actions",
    Kind.ERROR: "errors",
}
_TOKENS_AT: Final = NUMBER_NAMES.index("input_tokens")
_COST_AT: Final = NUMBER_NAMES.index("cost_pico_usd")


def _plain(kind: Kind, *, skewed: int) -> Counts:
    ones = {"events": 1, _KIND_NUMBERS[kind]: 1, "skewed_events": skewed}
    return tuple(ones.get(name, 0) for name in NUMBER_NAMES)


_PLAIN: Final = {
    (kind, bool(skewed)): _plain(kind, skewed=skewed) for kind in COUNTED_KINDS for skewed in (0, 1)
}


class Verdict(NamedTuple):
    """What of the meter's verdict on an event is counted."""

    clock_skewed: bool
    cost_status: str
    cost_pico_usd: int | None
    cost_input_pico_usd: int | None
    cost_output_pico_usd: int | None


def counts_of(prefix: Prefix, verdict: Verdict) -> Counts:
    """What this event, with this verdict on it, counts for; nothing when it only steers."""
    clock_skewed, cost_status, cost, cost_input, cost_output = verdict
    kind = prefix.kind
    if kind is Kind.CORRECTION and prefix.detail is not None:
        numbers = prefix.detail.record["numbers"]
        return tuple(numbers[name] for name in NUMBER_NAMES)
    plain = _PLAIN.get((kind, clock_skewed))
    if plain is None:
        return NOTHING
    if kind is not Kind.LLM or cost_status == CostStatus.AGGREGATE:
        return plain if cost is None else (*plain[:_COST_AT], cost, *plain[_COST_AT + 1 :])
    return (
        *plain[:_TOKENS_AT],
        prefix.input_tokens or 0,
        prefix.output_tokens or 0,
        prefix.cache_read_tokens or 0,
        (prefix.cache_write_5m_tokens or 0) + (prefix.cache_write_1h_tokens or 0),
        prefix.reasoning_tokens or 0,
        cost or 0,
        cost_input or 0,
        cost_output or 0,
        int(cost_status == CostStatus.UNPRICED),
        int(cost_status == CostStatus.INVALID_USAGE),
        int(clock_skewed),
    )


def difference(new: Counts, old: Counts) -> Counts:
    """What a replaced revision adds: new minus old."""
    return tuple(after - before for after, before in zip(new, old, strict=True))


def saturated_sum(counts: Sequence[Counts]) -> tuple[Counts, bool]:
    """The sums, each held within 64 bits, and whether one had to be held."""
    if not counts:
        return NOTHING, False
    sums = tuple(map(sum, zip(*counts, strict=True))) if len(counts) > 1 else counts[0]
    if min(sums) >= LONG_MIN and max(sums) <= LONG_MAX:
        return sums, False
    return tuple(max(LONG_MIN, min(LONG_MAX, value)) for value in sums), True

"""What one LLM call cost, in integer pico-USD; knows no event, no project and no clock.

A reported cost wins, then the price list at the event's own time, then null: never 0, never a
guess. Project overrides will stand between the first two, in `Pricer.price`. Prices are exact up
to the event's total, which is rounded half-even to a whole pico-USD (10^-12 USD).
"""

from functools import lru_cache
from typing import NamedTuple

from fleetmeter_processors.price_resolver import BUNDLED_PRICES, PriceResolver, canonical_tier
from fleetmeter_processors.price_schedule import Counts
from fleetmeter_schemas.records import CostStatus

# Longer names are nobody's model: they are unpriced at once and remembered nowhere.
NAME_LENGTH_MAX = 200
# Names remembered, unknown ones included. A fleet uses some dozens; strangers' names push out
# those that were used least recently.
CACHED_NAMES_MAX = 4096


class Tokens(NamedTuple):
    """Normalised token counts of one call; None is "not known" and is priced like 0.

    `input` includes the three cache counts, `output` includes reasoning.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None


class Cost(NamedTuple):
    """The verdict on one event; None is "not known".

    `total_pico_usd` counts. `computed_pico_usd` is what the price list says, also beside a reported
    total. The two sides are those of a computed total and sum to it; a reported one has no sides.
    """

    input_pico_usd: int | None
    output_pico_usd: int | None
    total_pico_usd: int | None
    computed_pico_usd: int | None
    status: CostStatus
    price_id: str
    price_match: str


_SILENT = Tokens()


def _without_cost(status: CostStatus) -> Cost:
    return Cost(
        input_pico_usd=None,
        output_pico_usd=None,
        total_pico_usd=None,
        computed_pico_usd=None,
        status=status,
        price_id="",
        price_match="",
    )


# The verdict on events that cost nothing: the price list knows LLM calls only.
NO_COST = _without_cost(CostStatus.NONE)


def provided(pico_usd: int) -> Cost:
    """What a writer said that something without a price list cost, such as a tool."""
    return _without_cost(CostStatus.PROVIDED)._replace(total_pico_usd=pico_usd)


_UNPRICED = _without_cost(CostStatus.UNPRICED)
_NO_USAGE = _without_cost(CostStatus.NO_USAGE)
_INVALID_USAGE = _without_cost(CostStatus.INVALID_USAGE)


class Pricer:
    """Prices calls from one price list; its memory is bounded whatever names it is asked for."""

    def __init__(self, prices: PriceResolver = BUNDLED_PRICES) -> None:
        self._find = lru_cache(maxsize=CACHED_NAMES_MAX)(prices.find)

    def price(
        self,
        *,
        provider: str,
        model: str,
        service_tier: str,
        tokens: Tokens,
        reported_pico_usd: int | None,
        event_time_us: int,
    ) -> Cost:
        """Judge one LLM call that happened at `event_time_us` (microseconds since the epoch).

        Strings are empty when not said. Negative or absurd numbers were rejected before.
        """
        computed = self._computed(provider, model, service_tier, tokens, event_time_us)
        if reported_pico_usd is None:
            return computed
        return Cost(
            input_pico_usd=None,
            output_pico_usd=None,
            total_pico_usd=reported_pico_usd,
            computed_pico_usd=computed.computed_pico_usd,
            status=CostStatus.PROVIDED,
            price_id=computed.price_id,
            price_match=computed.price_match,
        )

    def _computed(
        self, provider: str, model: str, service_tier: str, tokens: Tokens, event_time_us: int
    ) -> Cost:
        if tokens == _SILENT:
            return _NO_USAGE
        counts = _counts(tokens)
        if not _is_consistent(counts):
            return _INVALID_USAGE
        if not model or len(model) > NAME_LENGTH_MAX or len(provider) > NAME_LENGTH_MAX:
            return _UNPRICED
        found = self._find(provider, model, canonical_tier(service_tier))
        if found is None:
            return _UNPRICED
        parts = found.schedule.rates(event_time_us).cost(counts)
        if parts is None:
            return _UNPRICED
        total = parts.input_pico_usd + parts.output_pico_usd
        return Cost(
            input_pico_usd=parts.input_pico_usd,
            output_pico_usd=parts.output_pico_usd,
            total_pico_usd=total,
            computed_pico_usd=total,
            status=CostStatus.PRICED,
            price_id=found.price_id,
            price_match=found.price_match,
        )


def _counts(tokens: Tokens) -> Counts:
    return Counts._make([count or 0 for count in tokens])


def _is_consistent(counts: Counts) -> bool:
    """No part is negative or larger than its whole, so the wholes are not negative either."""
    tokens_in, tokens_out, cache_read, cache_write_5m, cache_write_1h, reasoning = counts
    return (
        cache_read >= 0
        and cache_write_5m >= 0
        and cache_write_1h >= 0
        and reasoning >= 0
        and tokens_in >= cache_read + cache_write_5m + cache_write_1h
        and tokens_out >= reasoning
    )

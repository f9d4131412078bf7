"""One model's prices as integers, and when each of them holds; finds no models and judges no usage.

genai-prices says which price is active. Its own multiplication (about 100 us a call) is replaced
where a price is made of plain token rates, and asked for everything else.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import lcm
from typing import NamedTuple, TypeAlias

from genai_prices import Usage
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

_PICO_PER_USD = 10**12
# A rate is USD per million tokens, so one token costs this many times the rate in pico-USD.
_PICO_PER_RATE = 10**6
_DAY_US = 86_400_000_000
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Enough digits for any rate times any count: what the library computes for us is exact as well.
_EXACT = Context(prec=80)

_TOKEN_RATES: AbstractSet[str] = {
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_5m_mtok",
    "cache_write_1h_mtok",
}
# Events carry no counts of tool calls, so these prices multiply nothing.
_NEVER_COUNTED: AbstractSet[str] = {
    "web_searches_kcount",
    "social_searches_kcount",
    "storage_searches_kcount",
    "code_executions_kcount",
}


class Counts(NamedTuple):
    """Tokens of one call: the caches are parts of `input`, `reasoning` is a part of `output`.

    A tuple because the hot path takes it apart once an event.
    """

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    reasoning: int


class Parts(NamedTuple):
    """The two sides of a cost in pico-USD; their sum is the total."""

    input_pico_usd: int
    output_pico_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    """Pico-USD per token, times `scale`, for prompts of one size class."""

    scale: int
    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRates:
    """Plain rates per token; the size of the whole prompt chooses one band for all tokens."""

    starts: tuple[int, ...]
    bands: tuple[_Band, ...]
    prices_output: bool

    def cost(self, counts: Counts) -> Parts | None:
        """What `counts` cost; None when they hold output and output has no rate."""
        tokens_in, tokens_out, cache_read, cache_write_5m, cache_write_1h, _ = counts
        if tokens_out and not self.prices_output:
            return None
        # A tier holds *above* its start, so a prompt of exactly that size is in the band below.
        band = self.bands[bisect_left(self.starts, tokens_in) if self.starts else 0]
        scaled_in = (
            (tokens_in - cache_read - cache_write_5m - cache_write_1h) * band.input
            + cache_read * band.cache_read
            + cache_write_5m * band.cache_write_5m
            + cache_write_1h * band.cache_write_1h
        )
        scaled_out = tokens_out * band.output
        if band.scale == 1:
            return Parts(scaled_in, scaled_out)
        return _rounded(scaled_in + scaled_out, scaled_out, band.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryRates:
    """A price with units beyond plain token rates (reasoning, media, requests): the library's."""

    price: ModelPrice

    def cost(self, counts: Counts) -> Parts | None:
        """What `counts` cost; None when a side has tokens but no rate, or the price is broken.

        What belongs to no side, such as a fee per request, is counted to the input.
        """
        if self._has_unpriced_side(counts):
            return None
        try:
            with localcontext(_EXACT):
                price = self.price.calc_price(_usage(counts))
        except ValueError:
            # The usage was proved consistent before, so the price list contradicts itself.
            return None
        total, output = (Fraction(price[key]) for key in ("total_price", "output_price"))
        scale = lcm(total.denominator, output.denominator)
        return _rounded(
            int(total * scale) * _PICO_PER_USD, int(output * scale) * _PICO_PER_USD, scale
        )

    def _has_unpriced_side(self, counts: Counts) -> bool:
        priced_in = self.price.input_mtok is not None
        priced_out = self.price.output_mtok is not None
        if not priced_in and not priced_out:
            return True
        return bool((counts.input and not priced_in) or (counts.output and not priced_out))


Rates: TypeAlias = TokenRates | LibraryRates


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All prices of one model for one price context, each valid between two change points.

    The prices of a model change at midnights (`dates_us`) and at times of day (`times_us`) only.
    So all instants between the same neighbours have the same price, and what was resolved for one
    of them is right for the others, to the microsecond. The cells are bounded by the price list.
    """

    model: ModelInfo
    context: Mapping[str, str]
    dates_us: tuple[int, ...]
    times_us: tuple[int, ...]
    cells: dict[tuple[int, int], Rates] = field(default_factory=dict)

    def rates(self, event_time_us: int) -> Rates:
        """The rates that hold at `event_time_us`, microseconds since the Unix epoch."""
        cell = (
            bisect_right(self.dates_us, event_time_us),
            bisect_right(self.times_us, event_time_us % _DAY_US),
        )
        rates = self.cells.get(cell)
        if rates is None:
            at = _EPOCH + event_time_us * _MICROSECOND
            rates = _rates(self.model.get_prices(at, self.context))
            self.cells[cell] = rates
        return rates


def schedule(model: ModelInfo, context: Mapping[str, str]) -> Schedule:
    """Read the change points of `model` under `context`; prices are resolved when asked for."""
    constraints = list(_constraints(model))
    dates = {_midnight_us(c.start_date) for c in constraints if isinstance(c, StartDateConstraint)}
    times = {
        _time_of_day_us(end)
        for c in constraints
        if isinstance(c, TimeOfDateConstraint)
        for end in (c.start_time, c.end_time)
    }
    return Schedule(
        model=model,
        context=context,
        dates_us=tuple(sorted(dates)),
        times_us=tuple(sorted(times)),
    )


def _constraints(model: ModelInfo) -> Iterator[StartDateConstraint | TimeOfDateConstraint]:
    conditional = [] if isinstance(model.prices, ModelPrice) else model.prices
    for owner in (*conditional, *(model.price_variants or ())):
        if owner.constraint is not None:
            yield owner.constraint


def _midnight_us(day: date) -> int:
    return (datetime.combine(day, time(), UTC) - _EPOCH) // _MICROSECOND


def _time_of_day_us(at: time) -> int:
    instant = datetime.combine(_EPOCH.date(), at, at.tzinfo or UTC)
    return (instant - _EPOCH) // _MICROSECOND % _DAY_US


def _rates(price: ModelPrice) -> Rates:
    rates = {key: rate for key, rate in vars(price).items() if rate is not None}
    if not _is_plain(rates.keys()):
        return LibraryRates(price=price)
    tiered = [rate for rate in rates.values() if isinstance(rate, TieredPrices)]
    starts = sorted({tier.start for rate in tiered for tier in rate.tiers})
    return TokenRates(
        starts=tuple(starts),
        bands=tuple(_band(rates, size) for size in (0, *(start + 1 for start in starts))),
        prices_output="output_mtok" in rates,
    )


def _is_plain(keys: AbstractSet[str]) -> bool:
    if not keys <= _TOKEN_RATES | _NEVER_COUNTED or "input_mtok" not in keys:
        return False
    split_write = keys & {"cache_write_5m_mtok", "cache_write_1h_mtok"}
    return not split_write or "cache_write_mtok" in keys


def _band(rates: Mapping[str, Decimal | TieredPrices], prompt_size: int) -> _Band:
    """A part without a rate of its own costs what the whole costs, as in the library."""
    known = {key: _per_token(rate, prompt_size) for key, rate in rates.items()}
    write = known.get("cache_write_mtok", known["input_mtok"])
    exact = {
        "input": known["input_mtok"],
        "output": known.get("output_mtok", Fraction(0)),
        "cache_read": known.get("cache_read_mtok", known["input_mtok"]),
        "cache_write_5m": known.get("cache_write_5m_mtok", write),
        "cache_write_1h": known.get("cache_write_1h_mtok", write),
    }
    scale = lcm(*(rate.denominator for rate in exact.values()))
    return _Band(scale=scale, **{name: int(rate * scale) for name, rate in exact.items()})


def _per_token(rate: Decimal | TieredPrices, prompt_size: int) -> Fraction:
    if isinstance(rate, TieredPrices):
        held = [tier.price for tier in rate.tiers if prompt_size > tier.start]
        rate = held[-1] if held else rate.base
    return Fraction(rate) * _PICO_PER_RATE


def _usage(counts: Counts) -> Usage:
    return Usage(
        input_tokens=counts.input,
        output_tokens=counts.output,
        cache_read_tokens=counts.cache_read,
        cache_write_tokens=counts.cache_write_5m + counts.cache_write_1h,
        cache_write_5m_tokens=counts.cache_write_5m,
        cache_write_1h_tokens=counts.cache_write_1h,
        output_reasoning_tokens=counts.reasoning,
    )


def _rounded(scaled_total: int, scaled_output: int, scale: int) -> Parts:
    """Round the event's total; the input takes what is left, so the parts sum to the total."""
    output = _half_even(scaled_output, scale)
    return Parts(_half_even(scaled_total, scale) - output, output)


def _half_even(numerator: int, denominator: int) -> int:
    return round(Fraction(numerator, denominator))

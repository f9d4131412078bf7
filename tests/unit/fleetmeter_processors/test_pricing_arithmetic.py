"""Our integer arithmetic against the price library's own, to the pico-USD."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import genai_prices
from genai_prices.data import providers
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    PriceCalculation,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmeter_processors.pricing import Pricer, Tokens
from fleetmeter_schemas.records import CostStatus

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXACT = Context(prec=100)
CONTEXTS: dict[str, dict[str, str]] = {
    "": {},
    "standard": {},
    "batch": {"processing": "batch"},
    "default": {"service_tier": "default"},
    "fast": {"service_tier": "fast", "speed": "fast"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}
MODELS = [(seller.id, model) for seller in providers for model in seller.models]
PRICER = Pricer()


def prices_of(model: ModelInfo) -> list[ModelPrice]:
    """All prices of a model, variants included."""
    standard = (
        [model.prices]
        if isinstance(model.prices, ModelPrice)
        else [conditional.prices for conditional in model.prices]
    )
    return standard + [variant.prices for variant in model.price_variants or ()]


def is_simple(model: ModelInfo) -> bool:
    """Whether a model has one flat price of plain token rates."""
    flat = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"}
    return len(prices_of(model)) == 1 and all(
        key in flat and isinstance(rate, Decimal)
        for key, rate in vars(prices_of(model)[0]).items()
        if rate is not None
    )


def change_points(model: ModelInfo, day: datetime) -> list[datetime]:
    """The instants at which a price of a model may change, times of day on `day`."""
    constraints = [
        owner.constraint
        for owner in (
            *(() if isinstance(model.prices, ModelPrice) else model.prices),
            *(model.price_variants or ()),
        )
    ]
    midnights = [
        datetime(c.start_date.year, c.start_date.month, c.start_date.day, tzinfo=UTC)
        for c in constraints
        if isinstance(c, StartDateConstraint)
    ]
    return midnights + [
        datetime.combine(day, end)
        for c in constraints
        if isinstance(c, TimeOfDateConstraint)
        for end in (c.start_time, c.end_time)
    ]


@st.composite
def instants(draw: st.DrawFn, model: ModelInfo) -> datetime:
    """Any instant of seven years, or one at or beside a change of the model's price."""
    any_time = draw(
        st.datetimes(datetime(2023, 1, 1), datetime(2029, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy wants naive bounds
    )
    changes = change_points(model, any_time)
    if not changes or draw(st.booleans()):
        return any_time
    return draw(st.sampled_from(changes)) + timedelta(
        microseconds=draw(st.sampled_from([-1_000_000, -1, 0, 1]))
    )


@st.composite
def usages(draw: st.DrawFn, model: ModelInfo) -> Tokens:
    """Consistent token counts, often with a prompt at or beside the start of a tier."""
    starts = {
        tier.start
        for price in prices_of(model)
        for rate in vars(price).values()
        if isinstance(rate, TieredPrices)
        for tier in rate.tiers
    }
    edges = sorted({0, 1, *starts, *(start + 1 for start in starts)})
    count = st.sampled_from(edges) | st.integers(0, 10**6) | st.integers(0, 10**9)
    tokens_in, tokens_out = draw(count), draw(count)
    cache_read = draw(st.integers(0, tokens_in))
    cache_write_5m = draw(st.integers(0, tokens_in - cache_read))
    cache_write_1h = draw(st.integers(0, tokens_in - cache_read - cache_write_5m))
    return Tokens(
        input=tokens_in,
        output=tokens_out,
        cache_read=cache_read,
        cache_write_5m=cache_write_5m,
        cache_write_1h=cache_write_1h,
        reasoning=draw(st.integers(0, tokens_out)),
    )


def library(
    provider: str, model: str, tier: str, tokens: Tokens, at: datetime
) -> PriceCalculation | None:
    """What the library says about the same call; None where it knows no price for it."""
    usage = genai_prices.Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=(tokens.cache_write_5m or 0) + (tokens.cache_write_1h or 0),
        cache_write_5m_tokens=tokens.cache_write_5m,
        cache_write_1h_tokens=tokens.cache_write_1h,
        output_reasoning_tokens=tokens.reasoning,
    )
    with localcontext(EXACT):
        try:
            found = genai_prices.calc_price(
                usage,
                model,
                provider_id=provider or None,
                genai_request_timestamp=at,
                price_context=CONTEXTS[tier],
            )
        except LookupError:
            return None
    rates = found.model_price
    if rates.input_mtok is None and (tokens.input or rates.output_mtok is None):
        return None
    return None if rates.output_mtok is None and tokens.output else found


def pico(usd: Decimal) -> int:
    """Decimal USD as whole pico-USD."""
    with localcontext(EXACT):
        return int((usd * 10**12).to_integral_value(ROUND_HALF_EVEN))


def both(
    provider: str, model: str, tier: str, tokens: Tokens, at: datetime
) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """The library's verdict on a call and ours, each as input, output, total and status."""
    cost = PRICER.price(
        provider=provider,
        model=model,
        service_tier=tier,
        tokens=tokens,
        reported_pico_usd=None,
        event_time_us=(at - EPOCH) // timedelta(microseconds=1),
    )
    ours = (cost.input_pico_usd, cost.output_pico_usd, cost.total_pico_usd, cost.status)
    found = library(provider, model, tier, tokens, at)
    if found is None:
        return (None, None, None, CostStatus.UNPRICED), ours
    output, total = pico(found.output_price), pico(found.total_price)
    return (total - output, output, total, CostStatus.PRICED), ours


SPECIAL = [entry for entry in MODELS if not is_simple(entry[1])]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_call_costs_what_the_library_says(data: st.DataObject) -> None:
    """Any model, provider, tier, time and usage cost what the library computes exactly."""
    owner, model = data.draw(st.sampled_from(SPECIAL) | st.sampled_from(MODELS))
    provider = data.draw(st.sampled_from([owner, owner, owner, "azure", "google", "litellm", ""]))
    tier = data.draw(st.sampled_from(sorted(CONTEXTS)))
    tokens = data.draw(usages(model))
    at = data.draw(instants(model))
    expected, actual = both(provider, model.id, tier, tokens, at)
    assert expected == actual


def test_every_model_of_the_list() -> None:
    """Each model of the bundled list is priced as the library prices it."""
    tokens = Tokens(
        input=300_007, output=11, cache_read=5, cache_write_5m=3, cache_write_1h=2, reasoning=7
    )
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    verdicts = [
        (provider, model.id, *both(provider, model.id, "", tokens, at))
        for provider, model in MODELS
    ]
    assert [verdict for verdict in verdicts if verdict[2] != verdict[3]] == []


def test_tiers_of_the_list_are_known() -> None:
    """The list has no service tier, speed or processing that we would not ask for."""
    whens = {
        item
        for _, model in MODELS
        for variant in model.price_variants or ()
        for item in variant.when.items()
        if item[0] in {"service_tier", "speed", "processing"}
    }
    asked = {item for context in CONTEXTS.values() for item in context.items()}
    assert whens == asked

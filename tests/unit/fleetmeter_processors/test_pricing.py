"""What an LLM call costs: whose word wins, which price holds when, and what has no price."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from importlib.resources import files

import pytest
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider

from fleetmeter_processors.price_resolver import PriceMatch, PriceResolver
from fleetmeter_processors.pricing import NAME_LENGTH_MAX, Cost, Pricer, Tokens
from fleetmeter_schemas.records import CostStatus

USD = 10**12


@pytest.fixture(scope="module", name="pricer")
def shared_pricer() -> Pricer:
    """One pricer for all tests, so that earlier questions are in its memory."""
    return Pricer()


def micros(text: str) -> int:
    """An ISO instant in UTC as microseconds since the epoch."""
    at = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def price(  # one call with the defaults of these tests
    pricer: Pricer,
    model: str,
    tokens: Tokens,
    *,
    provider: str = "",
    tier: str = "",
    reported: int | None = None,
    at: str = "2026-11-20T12:00:00",
) -> Cost:
    """Price one call."""
    return pricer.price(
        provider=provider,
        model=model,
        service_tier=tier,
        tokens=tokens,
        reported_pico_usd=reported,
        event_time_us=micros(at),
    )


def price_list(**rates: Decimal) -> PriceResolver:
    """A price list with one model, `one/model`, at these rates."""
    model = ModelInfo(id="model", match=ClauseEquals(equals="model"), prices=ModelPrice(**rates))
    return PriceResolver([Provider(id="one", name="One", api_pattern="one", models=[model])])


def test_cost_of_each_part(pricer: Pricer) -> None:
    """Cached, written and fresh input are billed once each by their own rate."""
    tokens = Tokens(
        input=130_213,
        output=1_000,
        cache_read=128_955,
        cache_write_5m=1_000,
        cache_write_1h=253,
        reasoning=600,
    )
    cost = price(pricer, "claude-sonnet-4-5-20250929", tokens, provider="anthropic")
    # $3 fresh, $0.30 read, $3.75 and $6 written, $15 output, each per million tokens.
    input_pico_usd = 5 * 3_000_000 + 128_955 * 300_000 + 1_000 * 3_750_000 + 253 * 6_000_000
    expected = Cost(
        input_pico_usd=input_pico_usd,
        output_pico_usd=15_000_000_000,
        total_pico_usd=input_pico_usd + 15_000_000_000,
        computed_pico_usd=input_pico_usd + 15_000_000_000,
        status=CostStatus.PRICED,
        price_id="genai-prices/0.2.3/anthropic/claude-sonnet-4-5",
        price_match="exact",
    )
    assert expected == cost


def test_reported_cost_wins(pricer: Pricer) -> None:
    """A reported cost is the total, and the price list's opinion stands beside it."""
    cost = price(
        pricer, "o3", Tokens(input=1_000_000), provider="openai", reported=7, at="2025-05-01"
    )
    expected = Cost(
        input_pico_usd=None,
        output_pico_usd=None,
        total_pico_usd=7,
        computed_pico_usd=10 * USD,
        status=CostStatus.PROVIDED,
        price_id="genai-prices/0.2.3/openai/o3",
        price_match="exact",
    )
    assert expected == cost


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("no-such-model", Tokens(input=1)),
        ("", Tokens(input=1)),
        ("o3", Tokens()),
        ("o3", Tokens(input=1, cache_read=2)),
    ],
)
def test_reported_cost_without_price(pricer: Pricer, model: str, tokens: Tokens) -> None:
    """A reported cost, even of zero, stands where ours cannot be computed."""
    cost = price(pricer, model, tokens, provider="openai", reported=0)
    assert (
        cost.total_pico_usd,
        cost.computed_pico_usd,
        cost.status,
        cost.price_id,
        cost.price_match,
    ) == (0, None, "provided", "", "")


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        ("2025-05-01T00:00:00", 10),
        ("2025-06-09T23:59:59.999999", 10),
        ("2025-06-10T00:00:00", 2),
        ("2025-06-09T23:59:59", 10),
        ("2026-11-20T12:00:00", 2),
        ("2025-06-01T00:00:00", 10),
    ],
)
def test_price_of_its_day(pricer: Pricer, at: str, usd: int) -> None:
    """O3 costs $10 before 10 June 2025 and $2 from its first microsecond on, in any order."""
    cost = price(pricer, "o3", Tokens(input=1_000_000), provider="openai", at=at)
    assert usd * USD == cost.total_pico_usd


@pytest.mark.parametrize("day", ["2025-03-01", "2026-11-20", "2025-03-02"])
@pytest.mark.parametrize(
    ("time", "pico_usd"),
    [
        ("00:29:59.999999", 135_000),
        ("00:30:00", 270_000),
        ("16:29:59.999999", 270_000),
        ("16:30:00", 135_000),
        ("00:00:00", 135_000),
        ("00:30:00.000001", 270_000),
        ("23:59:59.999999", 135_000),
    ],
)
def test_price_of_its_hour(pricer: Pricer, day: str, time: str, pico_usd: int) -> None:
    """A model with cheap hours changes its price at the microsecond, every day, in any order."""
    cost = price(pricer, "deepseek-chat", Tokens(input=1), provider="deepseek", at=f"{day}T{time}")
    assert pico_usd == cost.total_pico_usd


@pytest.mark.parametrize(
    ("tokens_in", "pico_usd"), [(200_000, 250_000_000_000), (200_001, 500_002_500_000)]
)
def test_tier_is_a_cliff(pricer: Pricer, tokens_in: int, pico_usd: int) -> None:
    """Above its start a tier's rate holds for all tokens, at its start for none."""
    cost = price(pricer, "gemini-2.5-pro", Tokens(input=tokens_in), provider="google")
    assert pico_usd == cost.total_pico_usd


def test_tier_counts_the_whole_prompt(pricer: Pricer) -> None:
    """The tier is chosen by the prompt with its cached part, and moves the output's rate too."""
    tokens = Tokens(input=200_001, cache_read=200_000, output=1)
    cost = price(pricer, "gemini-2.5-pro", tokens, provider="google")
    assert (
        cost.input_pico_usd,
        cost.output_pico_usd,
    ) == (2_500_000 + 200_000 * 250_000, 15_000_000)


@pytest.mark.parametrize(
    ("tier", "at", "usd"),
    [
        ("", "2026-11-20", 2),
        ("flex", "2026-11-20", 1),
        ("FLEX", "2026-11-20", 1),
        ("batch", "2026-11-20", 1),
        ("priority", "2026-11-20", Decimal("3.5")),
        ("no-such-tier", "2026-11-20", 2),
        ("flex", "2026-10-11", 2),
    ],
)
def test_service_tier(pricer: Pricer, tier: str, at: str, usd: Decimal) -> None:
    """A service tier has its own dated rates, an unknown one the standard rates."""
    cost = price(pricer, "o3", Tokens(input=1_000_000), provider="openai", tier=tier, at=at)
    assert usd * USD == cost.total_pico_usd


def test_service_tier_of_a_lent_model(pricer: Pricer) -> None:
    """A tier's rates are the seller's own and do not hold where another one lends the model."""
    tokens = Tokens(input=1_000_000)
    cost = price(pricer, "o3", tokens, provider="azure", tier="flex")
    assert cost.total_pico_usd == 2 * USD


def test_fast_mode(pricer: Pricer) -> None:
    """The tier `fast` selects what Anthropic calls a speed."""
    cost = price(pricer, "claude-opus-5", Tokens(input=1), provider="anthropic", tier="fast")
    assert cost.total_pico_usd == 10_000_000


@pytest.mark.parametrize(
    ("tokens", "status"),
    [
        (Tokens(), CostStatus.NO_USAGE),
        (Tokens(input=0), CostStatus.PRICED),
        (Tokens(output=5), CostStatus.PRICED),
        (Tokens(input=10, cache_read=4, cache_write_5m=3, cache_write_1h=3), CostStatus.PRICED),
        (
            Tokens(input=10, cache_read=4, cache_write_5m=3, cache_write_1h=4),
            CostStatus.INVALID_USAGE,
        ),
        (Tokens(cache_read=1), CostStatus.INVALID_USAGE),
        (Tokens(output=5, reasoning=5), CostStatus.PRICED),
        (Tokens(output=5, reasoning=6), CostStatus.INVALID_USAGE),
        (Tokens(reasoning=1), CostStatus.INVALID_USAGE),
        (Tokens(input=-1), CostStatus.INVALID_USAGE),
        (Tokens(output=-1), CostStatus.INVALID_USAGE),
        (Tokens(input=5, cache_read=-1), CostStatus.INVALID_USAGE),
        (Tokens(input=5, cache_write_5m=-1), CostStatus.INVALID_USAGE),
        (Tokens(input=5, cache_write_1h=-1), CostStatus.INVALID_USAGE),
        (Tokens(output=5, reasoning=-1), CostStatus.INVALID_USAGE),
    ],
)
def test_usage_is_judged(pricer: Pricer, tokens: Tokens, status: CostStatus) -> None:
    """Only null tokens are no usage, and parts larger than their whole are invalid usage."""
    cost = price(pricer, "claude-sonnet-4-5", tokens, provider="anthropic")
    assert (status, status is CostStatus.PRICED) == (cost.status, cost.total_pico_usd is not None)


def test_no_tokens_cost_nothing(pricer: Pricer) -> None:
    """Counts that are known to be zero cost zero, which is not the same as unknown."""
    cost = price(pricer, "claude-sonnet-4-5", Tokens(input=0, output=0), provider="anthropic")
    assert (
        cost.input_pico_usd,
        cost.output_pico_usd,
        cost.total_pico_usd,
        cost.computed_pico_usd,
    ) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("provider", "model", "tokens"),
    [
        ("openai", "my-own-model", Tokens(input=1)),
        ("anthropic", "<synthetic>", Tokens(input=0, output=0)),
        ("", "my-own-model", Tokens(input=1)),
        ("no-such-provider", "gpt-4o", Tokens(input=1)),
        ("ollama", "llama3", Tokens(input=1)),
        ("openai", "", Tokens(input=1)),
        ("openai", "   ", Tokens(input=1)),
        ("openai", "o3" + " " * NAME_LENGTH_MAX, Tokens(input=1)),
        ("openai" * NAME_LENGTH_MAX, "o3", Tokens(input=1)),
        # Listed without any rate, without a rate per token, and without one for output.
        ("google", "gemma-3", Tokens(input=1, output=1)),
        ("google", "gemma-3", Tokens(input=0)),
        ("groq", "whisper-large-v3", Tokens(input=1)),
        ("openai", "text-embedding-3-small", Tokens(input=1, output=1)),
    ],
)
def test_unknown_is_null(pricer: Pricer, provider: str, model: str, tokens: Tokens) -> None:
    """Where no price is known the cost is null, never zero."""
    expected = Cost(
        input_pico_usd=None,
        output_pico_usd=None,
        total_pico_usd=None,
        computed_pico_usd=None,
        status=CostStatus.UNPRICED,
        price_id="",
        price_match="",
    )
    assert expected == price(pricer, model, tokens, provider=provider)


def test_embedding(pricer: Pricer) -> None:
    """A model without an output rate is priced as long as nothing came out."""
    tokens = Tokens(input=1_000_000, output=0)
    cost = price(pricer, "text-embedding-3-small", tokens, provider="openai")
    assert (cost.input_pico_usd, cost.output_pico_usd) == (20_000_000_000, 0)


def test_listed_as_free() -> None:
    """A rate of zero is a price: known and free."""
    free = price_list(input_mtok=Decimal(0), output_mtok=Decimal(0))
    cost = price(Pricer(free), "model", Tokens(input=9, output=9), provider="one")
    assert (cost.total_pico_usd, cost.status) == (0, CostStatus.PRICED)


def test_contradicting_price_list() -> None:
    """A price that the library itself refuses leaves the event unpriced and raises nothing."""
    broken = price_list(
        input_mtok=Decimal(1), output_mtok=Decimal(1), cache_write_1h_mtok=Decimal(1)
    )
    cost = price(Pricer(broken), "model", Tokens(input=1), provider="one")
    assert cost.status is CostStatus.UNPRICED


@pytest.mark.parametrize(
    ("rate", "tokens", "parts"),
    [
        # A rate of 5e-7 is half a pico-USD per token: ties go to the even total.
        ("0.0000005", Tokens(input=1), (0, 0, 0)),
        ("0.0000005", Tokens(input=3), (2, 0, 2)),
        ("0.0000005", Tokens(input=1, output=1), (1, 0, 1)),
        ("0.0000005", Tokens(input=0, output=3), (0, 2, 2)),
        ("0.0000004", Tokens(input=1, output=1), (1, 0, 1)),
    ],
)
def test_rounding(rate: str, tokens: Tokens, parts: tuple[int, int, int]) -> None:
    """The event's total is rounded half-even, once, and its sides sum to it."""
    prices = price_list(input_mtok=Decimal(rate), output_mtok=Decimal(rate))
    cost = price(Pricer(prices), "model", tokens, provider="one")
    assert parts == (cost.input_pico_usd, cost.output_pico_usd, cost.total_pico_usd)


def test_fee_per_request(pricer: Pricer) -> None:
    """A fee that belongs to no side is part of the total and is counted to the input."""
    cost = price(pricer, "sonar", Tokens(input=1, output=1), provider="perplexity")
    assert (cost.input_pico_usd, cost.output_pico_usd) == (1_000_000 + 12_000_000_000, 1_000_000)


def test_precision_of_the_host_is_ignored(pricer: Pricer) -> None:
    """A cost is exact whatever decimal precision the process has set."""
    with localcontext(Context(prec=3)):
        cost = price(pricer, "sonar", Tokens(input=123_457), provider="perplexity")
    assert cost.total_pico_usd == 123_457_000_000 + 12_000_000_000


@pytest.mark.parametrize(
    ("provider", "model", "price_id", "match"),
    [
        ("openai", "gpt-4o", "openai/gpt-4o", PriceMatch.EXACT),
        ("OpenAI", " GPT-4o ", "openai/gpt-4o", PriceMatch.EXACT),
        ("x_ai", "grok-3", "x-ai/grok-3", PriceMatch.EXACT),
        ("azure.ai.inference", "gpt-4o", "azure/gpt-4o", PriceMatch.EXACT),
        ("gcp.gen_ai", "gemini-2.5-pro", "google/gemini-2.5-pro", PriceMatch.EXACT),
        ("litellm", "openai/gpt-4o", "openai/gpt-4o", PriceMatch.EXACT),
        ("", "gpt-4o", "openai/gpt-4o", PriceMatch.MODEL_ONLY),
        ("langchain", "claude-opus-4-6", "anthropic/claude-opus-4-6", PriceMatch.MODEL_ONLY),
    ],
)
def test_names_in_use(
    pricer: Pricer, provider: str, model: str, price_id: str, match: PriceMatch
) -> None:
    """Providers' other names find their prices, and frameworks leave it to the model's name."""
    cost = price(pricer, model, Tokens(input=1), provider=provider)
    assert (f"genai-prices/0.2.3/{price_id}", match) == (cost.price_id, cost.price_match)


def test_statuses_are_the_contracts() -> None:
    """The statuses are the symbols of the contract's enum, in its order."""
    schema = json.loads(
        (files("fleetmeter_schemas") / "avro" / "fleetmeter.Enrichment.avsc").read_text()
    )
    symbols = next(f["type"]["symbols"] for f in schema["fields"] if f["name"] == "cost_status")
    assert symbols == [status.value for status in CostStatus]

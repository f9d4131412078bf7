"""Whatever names strangers send, the pricer's memory is bounded and so is the library's."""

import tracemalloc

from genai_prices.data_snapshot import get_snapshot

from fleetmeter_processors.pricing import CACHED_NAMES_MAX, Pricer, Tokens
from fleetmeter_schemas.records import CostStatus

TOKENS = Tokens(input=1_000, output=10)


def price(pricer: Pricer, provider: str, model: str, tier: str = "") -> CostStatus:
    """Price one call and return its status."""
    return pricer.price(
        provider=provider,
        model=model,
        service_tier=tier,
        tokens=TOKENS,
        reported_pico_usd=None,
        event_time_us=1_764_000_000_000_000,
    ).status


def library_entries() -> int:
    """How many names the library itself remembers."""
    snapshot = get_snapshot()
    return (
        len(snapshot._lookup_cache) + len(snapshot._provider_cache) + len(snapshot._provider_misses)
    )


def test_huge_names_are_remembered_nowhere() -> None:
    """Ten thousand invented names of 5 kB leave no entry and no memory behind."""
    pricer = Pricer()
    price(pricer, "openai", "gpt-4o")
    before = library_entries()
    tracemalloc.start()
    statuses = {price(pricer, "openai", f"{i:05}" * 1_000) for i in range(10_000)}
    statuses |= {price(pricer, f"{i:05}" * 1_000, "gpt-4o") for i in range(10_000)}
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {CostStatus.UNPRICED} == statuses
    assert (1, before) == (pricer._find.cache_info().currsize, library_entries())
    assert grown < 100_000


def test_many_short_names_are_bounded() -> None:
    """Invented names of ordinary length fill the memory to its limit and no further."""
    pricer = Pricer()
    before = library_entries()
    statuses = {price(pricer, "", f"invented-{i}") for i in range(CACHED_NAMES_MAX + 1_000)}
    assert {CostStatus.UNPRICED} == statuses
    assert (CACHED_NAMES_MAX, before) == (
        pricer._find.cache_info().currsize,
        library_entries(),
    )


def test_unknown_names_are_looked_up_once() -> None:
    """A name without a price is remembered as such."""
    pricer = Pricer()
    for _ in range(10):
        price(pricer, "openai", "invented")
    assert (pricer._find.cache_info().misses, pricer._find.cache_info().hits) == (1, 9)


def test_invented_tiers_are_one() -> None:
    """Invented service tiers share the entry of the standard tier."""
    pricer = Pricer()
    for i in range(100):
        price(pricer, "openai", "gpt-4o", tier=f"tier-{i}" * 1_000)
    assert pricer._find.cache_info().currsize == 1


def test_cells_are_bounded_by_the_price_list() -> None:
    """A model that changes its price by the hour keeps one price per change, not one per hour."""
    pricer = Pricer()
    hour_us = 3_600_000_000
    for hour in range(10_000):
        pricer.price(
            provider="deepseek",
            model="deepseek-chat",
            service_tier="",
            tokens=TOKENS,
            reported_pico_usd=None,
            event_time_us=1_735_689_600_000_000 + hour * hour_us,
        )
    found = pricer._find("deepseek", "deepseek-chat", "")
    assert found is not None
    assert len(found.schedule.cells) == 3

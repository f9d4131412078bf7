"""From the words of an event (provider, model, service tier) to a model's prices; computes no cost.

It knows the price list bundled with genai-prices and never fetches another one. Today's lookup is
exact; further tries (prefixes, regions, fine-tuned names) belong into `PriceResolver.find`, each
with a `PriceMatch` of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import genai_prices
from genai_prices.data import providers as _bundled
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelInfo, Provider

from fleetmeter_processors.price_schedule import Schedule, schedule

STANDARD_TIER = ""

# What the library must be told to select a provider's rates for a service tier.
_PRICE_CONTEXTS: Mapping[str, Mapping[str, str]] = {
    STANDARD_TIER: {},
    "batch": {"processing": "batch"},
    "default": {"service_tier": "default"},
    "fast": {"service_tier": "fast", "speed": "fast"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}

# Names in use (several are OpenTelemetry's own) that the library does not know, and its word for
# them. Frameworks are no providers: empty, so the model's name decides.
_PROVIDER_ALIASES: Mapping[str, str] = {
    "az.ai.inference": "azure",
    "azure.ai.inference": "azure",
    "crewai": "",
    "fireworks_ai": "fireworks",
    "gcp.gen_ai": "google",
    "langchain": "",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
    "z_ai": "zai",
}

_LIST_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class PriceMatch(StrEnum):
    """How a model's name found its price."""

    EXACT = "exact"
    MODEL_ONLY = "model_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPrice:
    """The prices of one model, which list and entry they come from, and how they were found."""

    schedule: Schedule
    price_id: str
    price_match: PriceMatch


def canonical_tier(service_tier: str) -> str:
    """One of the tiers that a price can depend on; whatever else was said is the standard tier."""
    if not service_tier:
        return STANDARD_TIER
    tier = service_tier.lower()
    return tier if tier in _PRICE_CONTEXTS else STANDARD_TIER


class PriceResolver:
    """Finds models in one price list; holds no state that grows."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = list(providers)

    def find(self, provider: str, model: str, tier: str) -> FoundPrice | None:
        """The prices of `model`, None when the list has none.

        `provider` may be empty: then the model's name decides. `tier` is a canonical tier.
        """
        name = provider.strip().lower()
        name = _PROVIDER_ALIASES.get(name, name)
        found = self._lookup(name, model.strip())
        if found is None:
            return None
        seller, info = found
        # Variants are the seller's own: they do not hold for models lent by another provider.
        context = _PRICE_CONTEXTS[tier] if any(info is own for own in seller.models) else {}
        return FoundPrice(
            schedule=schedule(info, context),
            price_id=f"genai-prices/{genai_prices.__version__}/{seller.id}/{info.id}",
            price_match=PriceMatch.EXACT if name else PriceMatch.MODEL_ONLY,
        )

    def _lookup(self, provider: str, model: str) -> tuple[Provider, ModelInfo] | None:
        # A throw-away snapshot: the library remembers every name it was asked for, for ever.
        snapshot = DataSnapshot(
            providers=self._providers, from_auto_update=False, timestamp=_LIST_TIME
        )
        try:
            return snapshot.find_provider_model(model, None, provider or None, None)
        except LookupError:
            return None


BUNDLED_PRICES = PriceResolver(_bundled)

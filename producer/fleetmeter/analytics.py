"""The numbers of a session as AgentOps' `get_analytics` words them. Pure."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from fleetmeter_schemas.records import Kind

_TENTHS_PER_MINUTE: Final = 600
_SIX_PLACES: Final = Decimal("0.000001")


def analytics(
    counts: Mapping[Kind, int], duration_us: int, cost: str | None
) -> dict[str, int | str]:
    """Counts of this process, duration by its clock, cost as far as it is known."""
    return {
        "LLM calls": counts.get(Kind.LLM, 0),
        "Tool calls": counts.get(Kind.TOOL, 0),
        "Actions": counts.get(Kind.ACTION, 0),
        "Errors": counts.get(Kind.ERROR, 0),
        "Duration": duration_text(duration_us),
        "Cost": cost_text(cost),
    }


def duration_text(duration_us: int) -> str:
    """`1h 2m 3.4s`; hours and minutes only where there are any."""
    tenths = max(0, (duration_us + 50_000) // 100_000)
    minutes, tenths = divmod(tenths, _TENTHS_PER_MINUTE)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h"] if hours else []
    parts += [f"{minutes}m"] if minutes else []
    return " ".join([*parts, f"{tenths // 10}.{tenths % 10}s"])


def cost_text(cost: str | None) -> str:
    """Six decimals, half up; `0.00` for nothing and for what is not known."""
    if cost is None or not Decimal(cost):
        return "0.00"
    return f"{Decimal(cost).quantize(_SIX_PLACES, ROUND_HALF_UP):f}"

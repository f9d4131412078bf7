import pytest

from fleetmeter.analytics import analytics, cost_text, duration_text
from fleetmeter_schemas.records import Kind


@pytest.mark.parametrize(
    ("duration_us", "expected"),
    [
        (0, "0.0s"),
        (900_000, "0.9s"),
        (949_999, "0.9s"),
        (59_960_000, "1m 0.0s"),
        (61_500_000, "1m 1.5s"),
        (3_600_000_000, "1h 0.0s"),
        (7_325_250_000, "2h 2m 5.3s"),
        (-5, "0.0s"),
    ],
)
def test_durations(duration_us: int, expected: str) -> None:
    """Hours and minutes only where there are any, seconds with one decimal."""
    assert duration_text(duration_us) == expected


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (None, "0.00"),
        ("0", "0.00"),
        ("0.00", "0.00"),
        ("0.0012345", "0.001235"),
        ("0.0000005", "0.000001"),
        ("0.0000004", "0.000000"),
        ("1114.1278191", "1114.127819"),
    ],
)
def test_costs(cost: str | None, expected: str) -> None:
    """Six decimals, half up; nothing is 0.00."""
    assert cost_text(cost) == expected


def test_keys() -> None:
    """The keys are those that AgentOps documents."""
    assert analytics({Kind.LLM: 1, Kind.TOOL: 2}, 900_000, None) == {
        "LLM calls": 1,
        "Tool calls": 2,
        "Actions": 0,
        "Errors": 0,
        "Duration": "0.9s",
        "Cost": "0.00",
    }

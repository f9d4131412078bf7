import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_local.durations import parse_ms, write_ms
from fleetmeter_schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20s", 20_000),
        ("20", 20_000),
        ("30m", 1_800_000),
        ("1h30m", 5_400_000),
        (" 2D ", 172_800_000),
        ("500ms", 500),
    ],
)
def test_a_duration_is_read(text: str, expected: int) -> None:
    """Units may be combined; a plain number counts seconds."""
    assert expected == parse_ms(text)


@pytest.mark.parametrize("text", ["", "0", "0s", "-5s", "5x", "1.5h", "m", "5 s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed, and nothing is not a duration."""
    with pytest.raises(ConfigError, match="not a duration"):
        parse_ms(text)


@given(st.integers(min_value=1, max_value=10**12))
def test_what_is_written_is_read_again(duration_ms: int) -> None:
    """Writing and reading are each other's inverse."""
    assert duration_ms == parse_ms(write_ms(duration_ms))

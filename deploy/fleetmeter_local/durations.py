"""Reads and writes durations such as `30m`, `1h30m` or `20s`; knows no clock."""

import re

from fleetmeter_schemas.errors import ConfigError

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART = re.compile(r"(\d+)(ms|[dhms])")


def parse_ms(text: str) -> int:
    """The milliseconds of a duration; a plain number counts seconds.

    Raises:
        ConfigError: It is none, or not above zero.
    """
    written = text.strip().lower()
    written = f"{written}s" if written.isdigit() else written
    parts = _PART.findall(written)
    duration_ms = sum(int(count) * _UNITS_MS[unit] for count, unit in parts)
    if "".join(count + unit for count, unit in parts) != written or duration_ms <= 0:
        raise ConfigError(f"{text!r} is not a duration: write it like 20s, 30m or 1h30m")
    return duration_ms


def write_ms(duration_ms: int) -> str:
    """The duration as people write it, such as `1h30m`."""
    out = ""
    left = duration_ms
    for unit, size in _UNITS_MS.items():
        count, left = divmod(left, size)
        out += f"{count}{unit}" if count else ""
    return out or "0s"

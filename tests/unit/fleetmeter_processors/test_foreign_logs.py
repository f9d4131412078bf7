"""Foreign log lines that repeat themselves."""

import logging

from fleetmeter_processors.foreign_logs import Seldom


def line(message: str, *values: int, logger: str = "library") -> logging.LogRecord:
    """A line of a library."""
    return logging.LogRecord(logger, logging.ERROR, "file", 1, message, values, None)


def test_a_repeated_line_waits_half_a_minute() -> None:
    """The same message, whatever its values, passes once in that time; others pass at once."""
    seconds = 100.0
    seldom = Seldom(lambda: seconds)
    assert seldom.filter(line("node %d is away", 1))
    assert not seldom.filter(line("node %d is away", 2))
    assert seldom.filter(line("node %d is back", 1))
    assert seldom.filter(line("node %d is away", 1, logger="other"))
    seconds = 130.0
    assert seldom.filter(line("node %d is away", 3))

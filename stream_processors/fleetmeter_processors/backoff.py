"""How long to wait before trying again; waits for nobody itself."""

import random
from collections.abc import Iterator

FIRST_SECONDS = 0.1


def delays(longest_seconds: float, first_seconds: float = FIRST_SECONDS) -> Iterator[float]:
    """Yield waits in seconds without end: doubling up to the longest, each half to fully used.

    The random half keeps processes that failed together from coming back together.
    """
    ceiling = first_seconds
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, guards nothing
        ceiling = min(ceiling * 2, longest_seconds)

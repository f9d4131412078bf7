from itertools import islice

from fleetmeter_processors.backoff import delays


def test_waits_double_up_to_the_longest() -> None:
    """Each is between half of its ceiling and the whole of it."""
    waits = list(islice(delays(1.0, 0.1), 8))
    ceilings = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert [True] * 8 == [c / 2 <= wait <= c for wait, c in zip(waits, ceilings, strict=True)]


def test_two_processes_do_not_wait_alike() -> None:
    """What failed together must not come back together."""
    assert list(islice(delays(10.0), 20)) != list(islice(delays(10.0), 20))

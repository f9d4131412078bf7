"""How far back the recent blocks are remembered."""

import pytest

from fleetmeter_processors.tail import Entry, Tail, TailLimits
from fleetmeter_schemas.tiling import Position


def entry(number: int, *, ids: int = 1, size_bytes: int = 1) -> Entry:
    """The block at offset `number`, one second after the one before."""
    return Entry(
        before=Position(metered_offset=number - 1, epoch=0, next=number),
        heard_ms=1_000 * number,
        log_time_ms=1_000 * number,
        ids=ids,
        size_bytes=size_bytes,
        data=b"%d" % number,
    )


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (TailLimits(window_ms=2_000), 3),
        (TailLimits(ids_max=35), 3),
        (TailLimits(bytes_max=250), 2),
        (TailLimits(bytes_max=1), 1),
        (TailLimits(), 9),
    ],
)
def test_the_tail_is_bounded(limits: TailLimits, kept: int) -> None:
    """Time, ids or bytes, whichever is first, bound the tail; the last block always stays."""
    tail = Tail(limits)
    for number in range(9):
        tail.add(entry(number, ids=10, size_bytes=100))
    oldest = tail.oldest
    assert oldest is not None
    assert (len(tail), oldest.before.next) == (kept, 9 - kept)


def test_the_bytes_are_given_once() -> None:
    """Blocks' bytes are held only until they have been read."""
    tail = Tail(TailLimits())
    tail.add(entry(1))
    tail.add(entry(2))
    assert [list(tail.take_data()), list(tail.take_data())] == [[b"1", b"2"], []]
    tail.clear()
    assert (len(tail), tail.oldest) == (0, None)

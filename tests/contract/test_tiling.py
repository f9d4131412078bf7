import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_schemas.tiling import (
    UNKNOWN,
    BarrierRead,
    BlockRead,
    Gap,
    Position,
    Verdict,
    accept,
)

HERE = Position(metered_offset=9, epoch=7, next=100)
FIRST = Position()
MET = Position(metered_offset=9, epoch=9)


def block(epoch: int, first: int, following: int) -> BlockRead:
    """A block of an epoch on [first, following)."""
    return BlockRead(epoch=epoch, first=first, next=following)


def at(offset: int, epoch: int, following: int) -> Position:
    """A position."""
    return Position(metered_offset=offset, epoch=epoch, next=following)


@pytest.mark.parametrize(
    ("position", "record", "expected", "verdict"),
    [
        pytest.param(HERE, block(7, 100, 120), at(10, 7, 120), Verdict.ACCEPTED, id="fits"),
        pytest.param(HERE, block(7, 100, 101), at(10, 7, 101), Verdict.ACCEPTED, id="one_record"),
        pytest.param(HERE, block(6, 100, 120), at(10, 7, 100), Verdict.SKIPPED, id="stale_epoch"),
        pytest.param(HERE, block(8, 100, 120), at(10, 7, 100), Verdict.SKIPPED, id="unmet_epoch"),
        pytest.param(HERE, block(7, 90, 100), at(10, 7, 100), Verdict.SKIPPED, id="twice"),
        pytest.param(HERE, block(7, 90, 120), at(10, 7, 100), Verdict.SKIPPED, id="overlaps"),
        pytest.param(HERE, block(7, 101, 120), at(10, 7, 100), Verdict.SKIPPED, id="leaves_a_hole"),
        pytest.param(HERE, BarrierRead(), at(10, 10, 100), Verdict.BARRIER, id="barrier"),
        pytest.param(MET, block(9, 50, 60), at(10, 9, 60), Verdict.ACCEPTED, id="tells_the_start"),
        pytest.param(MET, block(8, 50, 60), at(10, 9, UNKNOWN), Verdict.SKIPPED, id="start_stale"),
        pytest.param(MET, BarrierRead(), at(10, 10, UNKNOWN), Verdict.BARRIER, id="second_barrier"),
    ],
)
def test_verdicts(
    position: Position, record: BarrierRead | BlockRead, expected: Position, verdict: Verdict
) -> None:
    """A record moves the position as the table says."""
    assert (expected, verdict) == accept(position, 10, record)


@pytest.mark.parametrize("offset", [0, 5, 10_000])
def test_reader_without_position_meets_barrier(offset: int) -> None:
    """A reader without a position takes the first barrier it meets, wherever it is."""
    assert (at(offset, offset, UNKNOWN), Verdict.BARRIER) == accept(FIRST, offset, BarrierRead())


@pytest.mark.parametrize("epoch", [UNKNOWN, 0, 3])
def test_reader_without_position_skips_blocks(epoch: int) -> None:
    """A reader that met no barrier skips every block, one of an unknown epoch too."""
    read = block(epoch, 0, 10)
    assert (at(5, UNKNOWN, UNKNOWN), Verdict.SKIPPED) == accept(FIRST, 5, read)


@pytest.mark.parametrize("offset", [0, 8, 9, 11, 1000])
@pytest.mark.parametrize("record", [BarrierRead(), block(7, 100, 120)], ids=["barrier", "block"])
def test_gap(offset: int, record: BarrierRead | BlockRead) -> None:
    """A record that is not the one after the last stops the reader, which tells both offsets."""
    with pytest.raises(Gap, match=f"{offset} after 9"):
        accept(HERE, offset, record)


BARRIERS = st.just(BarrierRead())
BLOCKS = st.builds(
    lambda epoch, first, size: block(epoch, first, first + size),
    epoch=st.integers(0, 12),
    first=st.integers(0, 8),
    size=st.integers(1, 3),
)
LOGS = st.lists(st.one_of(BARRIERS, BLOCKS, BLOCKS, BLOCKS), max_size=40)


@given(log=LOGS)
def test_accepted_blocks_tile(log: list[BarrierRead | BlockRead]) -> None:
    """Whatever was written, accepted blocks follow each other, in the epoch of the last barrier."""
    position, barrier = FIRST, UNKNOWN
    covered: list[tuple[int, int]] = []
    for offset, record in enumerate(log):
        position, verdict = accept(position, offset, record)
        if isinstance(record, BarrierRead):
            barrier = offset
        elif verdict is Verdict.ACCEPTED:
            assert barrier == record.epoch
            covered.append((record.first, record.next))
    assert [end for _, end in covered[:-1]] == [first for first, _ in covered[1:]]
    assert (len(log) - 1, barrier) == (position.metered_offset, position.epoch)


@given(log=LOGS, data=st.data())
def test_reading_from_a_position(log: list[BarrierRead | BlockRead], data: st.DataObject) -> None:
    """Reading in two parts, from the position of the first, is reading at once."""

    def read(start: Position, first: int, last: int) -> Position:
        for offset in range(first, last):
            start, _ = accept(start, offset, log[offset])
        return start

    cut = data.draw(st.integers(0, len(log)))
    assert read(FIRST, 0, len(log)) == read(read(FIRST, 0, cut), cut, len(log))

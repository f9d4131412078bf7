import pytest

from fleetmeter_processors.progress import Standing, metadata_of, restored_position
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.tiling import Gap, Position, Verdict
from lander_records import BARRIER, block

POSITION = Position(metered_offset=41, epoch=7, next=900)


def standing(position: Position) -> Standing:
    """Return a standing at a position."""
    return Standing(topic="metered.v1", partition=0, next_offset=0, position=position)


def test_a_position_survives_the_commit() -> None:
    """What is committed beside an offset gives the same position back."""
    assert restored_position(42, metadata_of(POSITION)) == POSITION


def test_the_committed_text_is_the_one_that_the_api_reads() -> None:
    """The names are a contract between services."""
    assert metadata_of(POSITION) == '{"metered_offset":41,"epoch":7,"next":900}'


@pytest.mark.parametrize("metadata", [None, "", "{}", "[1]", "x", '{"metered_offset":"a"}'])
def test_what_is_no_position_is_none(metadata: str | None) -> None:
    """Somebody who moved the group's offsets by hand left no position."""
    assert restored_position(42, metadata) is None


def test_a_position_of_another_offset_is_none() -> None:
    """A position counts only beside the offset it was committed with."""
    assert restored_position(43, metadata_of(POSITION)) is None


def test_only_accepted_blocks_come_back() -> None:
    """Of a barrier, a block, a zombie's block and the next block two are landed."""
    stands = standing(Position())
    log = [
        BARRIER,
        block(epoch=0, first=5, following=9),
        block(epoch=-1, first=9, following=99),
        block(epoch=0, first=9, following=12),
    ]
    taken = [stands.take(offset, value) for offset, value in enumerate(log)]
    assert [Verdict.BARRIER, Verdict.ACCEPTED, Verdict.SKIPPED, Verdict.ACCEPTED] == [
        verdict for _, verdict in taken
    ]
    assert [5, 9] == [opened.first for opened, _ in taken if opened is not None]
    assert (Position(metered_offset=3, epoch=0, next=12), 4) == (
        stands.position,
        stands.next_offset,
    )


def test_a_missing_record_stops() -> None:
    """What retention took away is not passed over."""
    with pytest.raises(Gap, match="goes on at 50 after 41"):
        standing(POSITION).take(50, BARRIER)


def test_a_record_of_nobody_stops() -> None:
    """Neither block nor barrier: no reader can tell what it would have said."""
    with pytest.raises(InvalidRecord, match="not_avro"):
        standing(POSITION).take(42, b"hello")

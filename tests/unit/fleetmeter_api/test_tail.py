"""What the tail makes of the records of sessions.v1, fed by hand."""

import asyncio

import pytest
from structlog.testing import capture_logs

from api_fakes import PROJECT, SESSION, snapshot
from fleetmeter_api.tail import SNAPSHOT, Progress, Tail
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import CHECKPOINT_KEY, snapshot_key

CHECKPOINT = Codec("Checkpoint")
KEY = snapshot_key(PROJECT, SESSION, 10)


def checkpoint(following: int, partition: int = 0) -> bytes:
    """An encoded checkpoint."""
    return CHECKPOINT.encode(
        {
            "partition": partition,
            "metered_offset": 1,
            "epoch": 0,
            "next": following,
            "heard_ms": 0,
            "log_time_ms": following * 10,
        }
    )


@pytest.fixture
def tail() -> Tail:
    """A tail of two partitions, the second of which begins in the middle."""
    tail = Tail(100, 10**6)
    tail.started({0: 0, 1: 500})
    return tail


def test_snapshots_are_told_decoded(tail: Tail) -> None:
    """A session's last snapshot is told as a record, others' sessions are not."""
    tail.read(0, 1, KEY, SNAPSHOT.encode(snapshot()))
    assert tail.parts(PROJECT, SESSION) == [snapshot()]
    assert tail.parts("other", SESSION) == []
    assert (tail.sessions, tail.records, tail.partitions) == (1, 1, 2)


def test_parts_of_a_session_stand_beside_each_other(tail: Tail) -> None:
    """Each part has a snapshot of its own, the last one read."""
    for part, following in ((10, 20), (50, 60), (50, 61)):
        one = snapshot(part=part, next=following)
        tail.read(0, following, snapshot_key(PROJECT, SESSION, part), SNAPSHOT.encode(one))
    assert [one["next"] for one in tail.parts(PROJECT, SESSION)] == [20, 61]


def test_tombstone_changes_nothing(tail: Tail) -> None:
    """A session that left the memory of the sessions process is as it was."""
    tail.read(0, 1, KEY, SNAPSHOT.encode(snapshot()))
    tail.read(0, 2, KEY, None)
    assert tail.parts(PROJECT, SESSION) == [snapshot()]


def test_checkpoints_tell_how_old_an_offset_is(tail: Tail) -> None:
    """What has landed up to an offset is as old as the last checkpoint before it."""
    tail.read(0, 4, CHECKPOINT_KEY, checkpoint(7))
    tail.read(0, 6, CHECKPOINT_KEY, checkpoint(9))
    told = [tail.log_time_before(0, offset) for offset in (4, 5, 6, 7)]
    assert [None, 70, 70, 90] == told
    assert tail.log_time_before(1, 99) is None


def test_checkpoints_are_progress(tail: Tail) -> None:
    """The last checkpoint of a partition says how far it has come."""
    assert tail.progress(0) is None
    tail.read(0, 1, CHECKPOINT_KEY, checkpoint(7))
    tail.read(0, 2, CHECKPOINT_KEY, checkpoint(9))
    assert tail.progress(0) == Progress(next=9, log_time_ms=90)
    assert tail.progress(1) is None
    assert (tail.has_passed(0, 8), tail.has_passed(0, 9), tail.has_passed(1, 0)) == (
        True,
        False,
        False,
    )


def test_floor_is_where_reading_began(tail: Tail) -> None:
    """Nothing is missing in a partition read from its beginning."""
    assert (tail.floor(0), tail.floor(1)) == (0, 500)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (KEY, b"\xc3\x01" + bytes(20)),
        (KEY, b""),
        (b"no part", SNAPSHOT.encode(snapshot())),
        (CHECKPOINT_KEY, b"garbage that is no record"),
    ],
)
def test_undecodable_record_is_counted_and_missed(tail: Tail, key: bytes, value: bytes) -> None:
    """A record that is not understood is left out, and it is known that it is missing."""
    with capture_logs() as logs:
        tail.read(0, 41, key, value)
    assert (tail.undecodable, tail.floor(0)) == (1, 42)
    assert [entry["event"] for entry in logs] == ["session_record.undecodable"]


def test_waiting_ends_with_the_checkpoint(tail: Tail) -> None:
    """Who waits for an offset is answered by the first checkpoint behind it, of its partition."""

    async def work() -> tuple[bool, list[bool]]:
        waiting = asyncio.create_task(tail.wait_until(0, 50, 30))
        seen = []
        for data in (checkpoint(50), checkpoint(99, partition=1)):
            await asyncio.to_thread(tail.read, 0, 1, CHECKPOINT_KEY, data)
            await asyncio.sleep(0)
            seen.append(waiting.done())
        await asyncio.to_thread(tail.read, 0, 2, CHECKPOINT_KEY, checkpoint(51))
        return await waiting, seen

    assert asyncio.run(work()) == (True, [False, False])


def test_waiting_for_what_is_there_does_not_wait(tail: Tail) -> None:
    """An offset that has been passed is answered at once, with no time to wait either."""
    tail.read(0, 1, CHECKPOINT_KEY, checkpoint(51))
    assert asyncio.run(tail.wait_until(0, 50, 0)) is True


def test_waiting_is_bounded(tail: Tail) -> None:
    """When time is over, the answer is no, and nobody waits any more."""
    assert asyncio.run(tail.wait_until(0, 50, 0.01)) is False
    assert tail._waiters == []

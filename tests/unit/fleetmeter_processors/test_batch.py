from io import BytesIO
from typing import Any

import fastavro
import pytest

from fleetmeter_processors.batch import Batch, Table
from fleetmeter_schemas.block import CODEC, Block, open_block
from fleetmeter_schemas.errors import InvalidRecord
from lander_records import block, reject, snapshot


def opened(*, events: list[bytes], rejects: list[bytes]) -> Block:
    """Return a block, opened."""
    return open_block(
        block(epoch=0, first=3, following=9, events=events, rejects=rejects, log_time_ms=77)
    )


def landed(batch: Batch) -> dict[Table, list[Any]]:
    """Return what an Avro reader finds in the batch's files of sessions and dead letters."""
    return {
        rows.table: list(fastavro.reader(BytesIO(rows.file())))
        for rows in batch.rows()
        if rows.table is not Table.EVENTS
    }


def test_of_a_session_only_the_last_snapshot_is_landed() -> None:
    """Snapshots hold everything, so the last one of a batch says all."""
    batch = Batch()
    batch.add_snapshot(0, b"p/s", snapshot(next=1))
    batch.add_snapshot(0, b"p/s", snapshot(next=2))
    batch.add_snapshot(0, b"p/t", snapshot(next=3))
    assert [2, 3] == [row["next"] for row in landed(batch)[Table.SESSIONS]]


def test_the_last_snapshot_before_a_tombstone_is_landed_too() -> None:
    """A session that is forgotten and comes back is another row."""
    batch = Batch()
    batch.add_snapshot(0, b"p/s", snapshot(part=0, next=1))
    batch.add_snapshot(0, b"p/s", snapshot(part=0, next=2))
    batch.add_tombstone(0, b"p/s")
    batch.add_snapshot(0, b"p/s", snapshot(part=8, next=9))
    rows = landed(batch)[Table.SESSIONS]
    assert [(0, 2), (8, 9)] == [(row["part"], row["next"]) for row in rows]


def test_a_tombstone_of_an_unknown_session_is_nothing() -> None:
    """The session's last snapshot was landed in an earlier batch."""
    batch = Batch()
    batch.add_tombstone(0, b"p/s")
    assert [] == list(batch.rows())


def test_a_snapshot_of_a_stranger_is_refused() -> None:
    """Bytes that no version of the contract wrote are not put into a file."""
    with pytest.raises(InvalidRecord, match="not_avro"):
        Batch().add_snapshot(0, b"p/s", b"hello")


def test_events_are_sliced_out_as_they_are() -> None:
    """The bytes of a block's events are not read, whatever they are."""
    batch = Batch()
    batch.add_block(2, CODEC.header, opened(events=[b"one", b"two"], rejects=[]))
    batch.add_block(2, CODEC.header, opened(events=[b"three"], rejects=[]))
    (rows,) = batch.rows()
    assert [(2, b"onetwo"), (1, b"three")] == [(run.count, bytes(run.data)) for run in rows.runs]
    assert (Table.EVENTS, 3, 11, [77, 77]) == (
        rows.table,
        rows.count,
        batch.bytes,
        batch.log_times_ms,
    )


def test_rejects_become_dead_letters() -> None:
    """What the meter rejected is landed from accepted blocks."""
    batch = Batch()
    batch.add_block(0, CODEC.header, opened(events=[], rejects=[reject(4), reject(5)]))
    assert [4, 5] == [row["offset"] for row in landed(batch)[Table.DEAD_LETTERS]]

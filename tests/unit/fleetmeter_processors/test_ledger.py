"""A partition's ledger over a log in memory: what is written when, and what a crash leaves."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fleetmeter_processors.ledger import REST_SECONDS_PER_SNAPSHOT, Ledger, LogRecord, MeteredRecord
from fleetmeter_processors.metrics import SessionsMetrics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import CHECKPOINT_KEY, snapshot_key
from fleetmeter_schemas.tiling import Gap
from metered_log import MeteredLog, story
from session_records import MINUTE_MS, delta

CHECKPOINT = Codec("Checkpoint")
SNAPSHOT = Codec("Snapshot")
STORY = story(0, blocks=50, width=4)


@dataclass
class MemoryLog:
    """sessions.v1 in memory; breaks after `writes_left` transactions."""

    transactions: list[list[LogRecord]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    writes_left: int = 1_000_000

    def fence(self) -> None:
        """Note the call."""
        self.calls.append("fence")

    def read(self) -> Iterator[LogRecord]:
        """Everything written."""
        self.calls.append("read")
        for records in self.transactions:
            yield from records

    def write(self, records: Sequence[LogRecord]) -> None:
        """Keep all, or break and keep none."""
        if self.writes_left == 0:
            raise ConnectionError
        self.writes_left -= 1
        self.transactions.append(list(records))

    def close(self) -> None:
        """Note the call."""
        self.calls.append("close")

    def latest(self) -> dict[bytes, object]:
        """The last value of each key, decoded; without the forgotten ones."""
        found: dict[bytes, object] = {}
        for key, value in self.read():
            found.pop(key, None)
            if value is not None:
                codec = CHECKPOINT if key == CHECKPOINT_KEY else SNAPSHOT
                found[key] = codec.decode(value)
        return found


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def ledger(
    log: MemoryLog,
    *,
    snapshots_max: int = 1000,
    clock: Clock | None = None,
    metrics: SessionsMetrics | None = None,
) -> Ledger:
    """A ledger of partition 0, restored from the log."""
    opened = Ledger(
        partition=0,
        log=log,
        snapshots_max=snapshots_max,
        metrics=metrics or SessionsMetrics(CollectorRegistry()),
        now=clock or Clock(),
    )
    opened.restore()
    return opened


def records(log: MeteredLog, first: int = 0, end: int | None = None) -> list[MeteredRecord]:
    """Records of the metered log as they are read."""
    found = [MeteredRecord(offset, value) for offset, value in enumerate(log.records)]
    return found[first:end]


def undisturbed() -> dict[bytes, object]:
    """What the story leaves when it is taken record by record."""
    log = MemoryLog()
    one = ledger(log)
    for record in records(STORY):
        one.post([record])
    one.finish()
    return log.latest()


UNDISTURBED = undisturbed()


def test_a_batch_is_one_transaction_with_its_checkpoint_last() -> None:
    """Snapshots and the position that they belong to cannot part."""
    log = MemoryLog()
    ledger(log).post(records(STORY, 0, 2))
    (transaction,) = log.transactions
    expected = [snapshot_key("p", f"session-{number}", number) for number in range(4)]
    assert expected == [key for key, _ in transaction[:-1]]
    key, value = transaction[-1]
    assert key == CHECKPOINT_KEY
    assert value is not None
    assert CHECKPOINT.decode(value)["metered_offset"] == 1


def test_after_a_transaction_the_next_one_waits_for_each_snapshot_written() -> None:
    """A busy partition gathers changes; what is gathered is written by a later call."""
    clock = Clock()
    log = MemoryLog()
    one = ledger(log, clock=clock)
    one.post(records(STORY, 0, 2))
    written = len(log.transactions[0]) - 1
    one.post(records(STORY, 2, 3))
    assert (written, len(log.transactions)) == (4, 1)

    clock.seconds += written * REST_SECONDS_PER_SNAPSHOT
    one.post(records(STORY, 3, 4))
    assert len(log.transactions) == 2


def test_what_waits_needs_no_record_to_be_written() -> None:
    """When nothing more comes, whoever drives the ledger is told that something is due."""
    clock = Clock()
    log = MemoryLog()
    one = ledger(log, clock=clock)
    one._rest_seconds = 1.0
    one.post(records(STORY))
    assert (one.is_due, log.transactions) == (False, [])

    clock.seconds += 1.0
    assert one.is_due
    one.post([])
    assert (one.is_due, len(log.transactions)) == (False, 1)


def test_what_waits_is_written_at_the_end() -> None:
    """A process that stops in order leaves nothing to be done again."""
    log = MemoryLog()
    one = ledger(log)
    one._rest_seconds = 1.0
    one.post(records(STORY))
    assert log.transactions == []

    one.finish()
    assert log.latest() == UNDISTURBED


def test_every_part_of_a_large_batch_ends_with_a_checkpoint() -> None:
    """A transaction ends after so many snapshots, and each is a place to go on from."""
    log = MemoryLog()
    ledger(log, snapshots_max=4).post(records(STORY))
    assert len(log.transactions) > 40
    assert {CHECKPOINT_KEY} == {transaction[-1][0] for transaction in log.transactions}


def test_a_flood_of_expiries_is_cut_into_transactions() -> None:
    """A block that closes everything at once does not make one transaction of everything."""
    metered = MeteredLog(0)
    metered.barrier()
    metered.block(0, [delta(session_id=str(number), first_offset=number) for number in range(100)])
    metered.block(60 * MINUTE_MS)
    log = MemoryLog()
    one = ledger(log, snapshots_max=10)
    one.post(records(metered, 0, 2))
    before = len(log.transactions)
    one.post(records(metered, 2))
    assert [11] * 10 == [len(transaction) for transaction in log.transactions[before:]]


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    crashes=st.lists(st.integers(0, 6), max_size=5),
    snapshots_max=st.integers(1, 40),
)
def test_neither_cuts_nor_crashes_change_the_result(
    cuts: list[int], crashes: list[int], snapshots_max: int
) -> None:
    """However it is cut and wherever it breaks, the final snapshots are the same."""
    log = MemoryLog()
    for writes in crashes:
        log.writes_left = writes
        with suppress(ConnectionError):
            take_all(log, cuts, snapshots_max)
    log.writes_left = 1_000_000
    take_all(log, cuts, snapshots_max)
    assert log.latest() == UNDISTURBED


def take_all(log: MemoryLog, cuts: list[int], snapshots_max: int) -> None:
    """Restore, and take what is left of the story in batches of these sizes."""
    one = ledger(log, snapshots_max=snapshots_max)
    first = one.next_offset
    turn = 0
    while first < len(STORY.records):
        end = first + cuts[turn % len(cuts)]
        one.post(records(STORY, first, end))
        first, turn = end, turn + 1
    one.finish()


def test_what_was_taken_before_is_skipped() -> None:
    """Faust may hand out records from before its seek: they change nothing."""
    log = MemoryLog()
    metrics = SessionsMetrics(CollectorRegistry())
    one = ledger(log, metrics=metrics)
    one.post(records(STORY, 0, 10))
    one.post(records(STORY, 4, 12))
    assert one.next_offset == 12
    assert metrics.records.labels("replayed")._value.get() == 6
    assert CHECKPOINT_KEY == log.transactions[-1][-1][0]
    with pytest.raises(Gap):
        one.post(records(STORY, 13))


def test_time_alone_is_written_every_ten_seconds() -> None:
    """A checkpoint without a snapshot costs a transaction, so it can wait."""
    metered = MeteredLog(0)
    metered.barrier()
    for number in range(3):
        metered.block(number)
    log, clock = MemoryLog(), Clock()
    one = ledger(log, clock=clock)
    one.post(records(metered, 0, 2))
    clock.seconds = 9.9
    one.post(records(metered, 2, 3))
    assert log.transactions == []
    clock.seconds = 10.0
    one.post(records(metered, 3))
    assert [[CHECKPOINT_KEY]] == [[key for key, _ in written] for written in log.transactions]


def test_a_partition_is_fenced_before_it_is_read() -> None:
    """What the former owner still writes must not come behind what is read."""
    log = MemoryLog()
    ledger(log).close()
    assert log.calls == ["fence", "read", "close"]


def test_a_partition_without_a_checkpoint_starts_at_the_beginning() -> None:
    """Nothing was taken, so everything that there is will be; any record may be the first."""
    one = ledger(MemoryLog())
    assert one.next_offset == 0
    one.post(records(STORY, 27, 29))
    assert one.next_offset == 29


def test_a_closed_ledger_is_not_measured_any_more() -> None:
    """The partition is another process's to speak of."""
    registry = CollectorRegistry()
    one = ledger(MemoryLog(), metrics=SessionsMetrics(registry))
    labels = {"partition": "0"}
    assert registry.get_sample_value("fleetmeter_sessions_open_sessions", labels) == 0.0
    one.close()
    assert registry.get_sample_value("fleetmeter_sessions_open_sessions", labels) is None

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from prometheus_client import CollectorRegistry

from fleetmeter_processors.batch import Batch
from fleetmeter_processors.lander import RECORDS_MAX, Lander
from fleetmeter_processors.landing import Abandoned
from fleetmeter_processors.metrics import LanderMetrics
from fleetmeter_processors.progress import Standing
from fleetmeter_processors.settings import LanderSettings
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.identity import CHECKPOINT_KEY
from fleetmeter_schemas.tiling import Position
from lander_records import BARRIER, block, checkpoint, event, snapshot

METERED = "fleetmeter.metered.v1"
SESSIONS = "fleetmeter.sessions.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the lander asks of a message."""

    at: int
    body: bytes | None
    name: bytes | None = None

    def offset(self) -> int:
        """Return the offset."""
        return self.at

    def value(self) -> bytes | None:
        """Return the value."""
        return self.body

    def key(self) -> bytes | None:
        """Return the key."""
        return self.name


@dataclass(slots=True)
class FakeGroup:
    """Hands out what the test puts in, and remembers what was committed."""

    incoming: list[tuple[Standing, Record]] = field(default_factory=list)
    committed: list[TopicPartition] = field(default_factory=list)
    held: bool = False
    before_revoke: Any = None

    def consume(self, records_max: int, seconds: float) -> list[tuple[Standing, Record]]:
        """Return what there is."""
        del seconds
        found, self.incoming = self.incoming[:records_max], self.incoming[records_max:]
        return found

    def commit(self, reached: Iterable[tuple[Standing, TopicPartition]]) -> None:
        """Remember it."""
        self.committed += [offset for _, offset in reached]

    def commit_pending(self) -> None:
        """Nothing ever fails here."""

    def tell_lag(self) -> None:
        """Nobody asks here."""

    def hold(self, held: bool) -> None:  # noqa: FBT001 - as the real one
        """Remember it."""
        self.held = held


@dataclass(slots=True)
class FakeLanding:
    """Lands a batch when the gate is open; fails once when told to."""

    gate: Event = field(default_factory=Event)
    landed: list[Batch] = field(default_factory=list)
    failure: Exception | None = None

    def land(self, batch: Batch) -> None:
        """Land it."""
        assert self.gate.wait(10)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        self.landed.append(batch)

    def abandon(self) -> None:
        """Nothing is retried here."""


@dataclass(slots=True)
class Bench:
    """A lander between fakes, with a clock that the test moves."""

    group: FakeGroup = field(default_factory=FakeGroup)
    landing: FakeLanding = field(default_factory=FakeLanding)
    now: float = 0.0
    metered: Standing = field(
        default_factory=lambda: Standing(topic=METERED, partition=0, next_offset=0)
    )
    sessions: Standing = field(
        default_factory=lambda: Standing(topic=SESSIONS, partition=0, next_offset=0)
    )
    lander: Any = None

    def __post_init__(self) -> None:
        group: Any = self.group
        landing: Any = self.landing
        self.lander = Lander(
            group=group,
            landing=landing,
            settings=LanderSettings(lander_batch_bytes_max=1000),
            metrics=LanderMetrics(CollectorRegistry()),
            clock=lambda: self.now,
        )

    def put(self, *values: bytes) -> None:
        """Append records to metered.v1."""
        for value in values:
            at = self.metered.next_offset + len(self.group.incoming)
            self.group.incoming.append((self.metered, Record(at=at, body=value)))

    def step(self, seconds: float = 0.0) -> None:
        """Let time pass, and the lander make a step."""
        self.now += seconds
        self.lander.step()

    def is_held(self) -> bool:
        """Whether partitions are held."""
        return self.group.held

    def settle(self) -> None:
        """Open the gate, and let the lander see the end of the running insert."""
        self.landing.gate.set()
        self.lander._settle(10.0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give a bench; its threads end with the test."""
    made = Bench()
    yield made
    made.landing.gate.set()
    made.lander.give_up()


def rows(batch: Batch) -> int:
    """Return how many rows a batch has."""
    return sum(found.count for found in batch.rows())


def test_nothing_is_committed_before_it_is_landed(bench: Bench) -> None:
    """The commit carries the position behind the last record of the batch."""
    bench.put(BARRIER, block(epoch=0, first=7, following=9, events=[event(7)]))
    bench.step()
    bench.step(0.4)
    assert [] == bench.group.committed
    bench.settle()
    (committed,) = bench.group.committed
    assert (METERED, 0, 2, '{"metered_offset":1,"epoch":0,"next":9}') == (
        committed.topic,
        committed.partition,
        committed.offset,
        committed.metadata,
    )
    assert [1] == [rows(batch) for batch in bench.landing.landed]


def test_a_quiet_stream_waits_a_moment_only(bench: Bench) -> None:
    """Nothing more is waiting: 300 ms after the first record it is inserted."""
    bench.put(BARRIER)
    bench.step()
    bench.step(0.29)
    assert bench.lander._flight is None
    bench.step(0.02)
    assert bench.lander._flight is not None


def test_a_stream_that_is_behind_gathers_for_longer(bench: Bench) -> None:
    """More is waiting: it is gathered for two seconds."""
    for seconds in (0.0, 1.9):
        bench.put(*(BARRIER for _ in range(RECORDS_MAX)))
        bench.step(seconds)
        assert bench.lander._flight is None
    bench.put(*(BARRIER for _ in range(RECORDS_MAX)))
    bench.step(0.2)
    assert bench.lander._flight is not None


def test_a_full_batch_is_inserted_at_once(bench: Bench) -> None:
    """Bytes end a batch as well as time."""
    bench.put(BARRIER, block(epoch=0, first=0, following=1, events=[event(0, input="x" * 1000)]))
    bench.step()
    assert bench.lander._flight is not None


def test_while_an_insert_runs_the_next_batch_is_gathered_then_held(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polling goes on; partitions are held once the next batch is full, until there is room."""
    monkeypatch.setattr("fleetmeter_processors.lander.PATIENCE_SECONDS", 0.01)
    bench.put(BARRIER)
    bench.step()
    bench.step(1)
    bench.put(block(epoch=0, first=0, following=1, events=[event(0)]))
    bench.step()
    assert not bench.is_held()
    bench.put(block(epoch=0, first=1, following=2, events=[event(1, input="x" * 1000)]))
    bench.step()
    assert bench.is_held()
    assert [] == bench.group.committed
    bench.settle()
    bench.step()
    bench.settle()
    bench.step()
    assert not bench.is_held()
    assert [1, 3] == [committed.offset for committed in bench.group.committed]
    assert [0, 2] == [rows(batch) for batch in bench.landing.landed]


def test_an_abandoned_batch_is_not_committed(bench: Bench) -> None:
    """Its records are read again by whoever has the partition next."""
    bench.landing.failure = Abandoned()
    bench.put(BARRIER)
    bench.step()
    bench.step(1)
    bench.settle()
    assert [] == bench.group.committed


def test_nothing_behind_an_abandoned_batch_is_committed(bench: Bench) -> None:
    """Where the store is back a moment later, the batch behind it must not pass over its rows."""
    bench.put(BARRIER, block(epoch=0, first=0, following=1, events=[event(0)]))
    bench.step()
    bench.step(1)
    bench.put(block(epoch=0, first=1, following=2, events=[event(1)]))
    bench.step()
    bench.landing.failure = Abandoned()
    bench.landing.gate.set()
    bench.lander.finish()
    assert [] == bench.group.committed


def test_finishing_lands_what_is_in_hand(bench: Bench) -> None:
    """The running insert and the batch behind it are committed before the end."""
    bench.put(BARRIER)
    bench.step()
    bench.step(1)
    bench.put(block(epoch=0, first=0, following=1, events=[event(0)]))
    bench.step()
    bench.landing.gate.set()
    bench.lander.finish()
    assert [1, 2] == [committed.offset for committed in bench.group.committed]


def test_before_a_revoke_the_running_insert_is_committed(bench: Bench) -> None:
    """Who takes the partition over need not insert it again."""
    bench.put(BARRIER)
    bench.step()
    bench.step(1)
    bench.landing.gate.set()
    bench.group.before_revoke()
    assert [1] == [committed.offset for committed in bench.group.committed]


def test_checkpoints_move_the_position_only(bench: Bench) -> None:
    """Of sessions.v1 snapshots are landed; the commit carries no position."""
    bench.group.incoming += [
        (bench.sessions, Record(at=4, body=snapshot(), name=b"p/s")),
        (bench.sessions, Record(at=5, body=checkpoint(0), name=CHECKPOINT_KEY)),
        (bench.sessions, Record(at=6, body=None, name=b"p/s")),
    ]
    bench.step()
    bench.step(1)
    bench.settle()
    (committed,) = bench.group.committed
    assert (7, "") == (committed.offset, committed.metadata)
    assert [1] == [rows(batch) for batch in bench.landing.landed]


def test_a_gap_stops_it_in_one_sentence(bench: Bench) -> None:
    """The lander never passes over what it missed."""
    bench.metered.position = Position(metered_offset=4, epoch=0, next=9)
    bench.put(BARRIER)
    expected = "partition 0: metered.v1 goes on at 0 after 4; what was between is lost"
    with pytest.raises(ConfigError, match=expected):
        bench.step()


@pytest.mark.parametrize("value", [b"hello", b"\xc3\x01" + bytes(20)])
def test_a_record_of_nobody_stops_it_in_one_sentence(bench: Bench, value: bytes) -> None:
    """Where it stands is in the sentence."""
    bench.put(value)
    with pytest.raises(ConfigError, match=r"fleetmeter\.metered\.v1, partition 0, offset 0: "):
        bench.step()

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import fastavro
import pytest
import structlog

from fleetmeter_processors.batch import Batch
from fleetmeter_processors.landing import Abandoned, Landing
from fleetmeter_processors.metrics import LanderMetrics
from fleetmeter_processors.ops import Ops
from fleetmeter_schemas.block import CODEC, open_block
from fleetmeter_schemas.errors import ConfigError, InvalidRecord, Unavailable
from lander_records import block, event, snapshot


class Poison(Exception):  # noqa: N818 - test data
    """A row that the fake store cannot read."""


@dataclass(slots=True)
class FakeStore:
    """Keeps rows; refuses files in which `is_poison` finds a row, fails as often as told."""

    is_poison: Callable[[Any], bool] = lambda _: False
    failures: list[Exception] = field(default_factory=list)
    rows: dict[str, dict[Any, Any]] = field(default_factory=dict)
    attempts: list[bytes] = field(default_factory=list)
    fits: bool = True

    def insert(self, table: str, container: bytes) -> None:
        """Insert as the real one does: rows before the bad one may stay."""
        self.attempts.append(container)
        if self.failures:
            raise self.failures.pop(0)
        if not self.fits:
            raise InvalidRecord("unlandable", "no such column")
        try:
            self._read(table, container)
        except (Poison, EOFError, ValueError, IndexError) as error:
            raise InvalidRecord("unlandable", f"cannot read: {error}") from error

    def _read(self, table: str, container: bytes) -> None:
        reader: Any = fastavro.reader(BytesIO(container))
        for row in reader:
            if table != "dead_letters" and self.is_poison(row):
                raise Poison(row.get("event_id", "snapshot"))
            place = row.get("offset", row.get("part"))
            self.rows.setdefault(table, {})[row["partition"], place] = row


def batch_of(*blocks: list[bytes]) -> Batch:
    """Return a batch of blocks with these events; a block's first raw offset is its number."""
    batch = Batch()
    for first, events in enumerate(blocks):
        data = block(epoch=0, first=first, following=first + 1, events=events)
        batch.add_block(0, CODEC.header, open_block(data))
    return batch


@dataclass(slots=True)
class Bench:
    """A landing on a fake store."""

    store: FakeStore
    ops: Ops = field(default_factory=Ops)

    @property
    def landing(self) -> Landing:
        """The landing; waits between attempts are next to nothing."""
        return Landing(
            sink=self.store,
            ops=self.ops,
            metrics=LanderMetrics(self.ops.registry),
            log=structlog.get_logger(),
            retry_seconds_max=0.001,
        )

    def metric(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        return self.ops.registry.get_sample_value(name, labels)


def test_the_same_bytes_are_sent_again_until_the_store_takes_them() -> None:
    """A retried insert is not another insert."""
    bench = Bench(FakeStore(failures=[Unavailable("away"), Unavailable("away")]))
    bench.landing.land(batch_of([event(0), event(1)]))
    assert 3 == len(bench.store.attempts)
    assert 1 == len(set(bench.store.attempts))
    assert 2 == len(bench.store.rows["events"])
    assert 2 == bench.metric("fleetmeter_lander_retries_total", table="events")
    assert {} == bench.ops.reasons


def test_health_is_red_while_the_store_is_away() -> None:
    """Who gives up while the store is away leaves its reason behind."""
    bench = Bench(FakeStore(failures=[Unavailable("away")]))
    landing = bench.landing
    landing.abandon()
    with pytest.raises(Abandoned):
        landing.land(batch_of([event(0)]))
    assert {"store": "away"} == bench.ops.reasons
    assert {} == bench.store.rows


def test_one_row_that_cannot_be_landed_becomes_a_dead_letter() -> None:
    """All others are landed, and the letter names the row and holds its bytes."""
    blocks = [[event(10 * block + n) for n in range(10)] for block in range(7)]
    bench = Bench(FakeStore(is_poison=lambda row: row["offset"] == 34))
    bench.landing.land(batch_of(*blocks))
    assert set(range(70)) - {34} == {offset for _, offset in bench.store.rows["events"]}
    (letter,) = bench.store.rows["dead_letters"].values()
    assert letter == {
        "partition": 0,
        "offset": 34,
        "log_time_ms": 5,
        "reason": "unlandable",
        "detail": "events: cannot read: event-34",
        "project_id": "p",
        "key": b"session-34",
        "value": event(34),
    }
    assert 1 == bench.metric("fleetmeter_lander_dead_letters_total", reason="unlandable")


def test_a_block_that_nobody_can_read_is_one_dead_letter() -> None:
    """Its neighbours are landed; the letter has the block's first raw offset and its bytes."""
    torn = event(1)[:-3]
    bench = Bench(FakeStore())
    bench.landing.land(batch_of([event(0)], [event(10), torn], [event(2)]))
    assert {0, 2} == {offset for _, offset in bench.store.rows["events"]} - {10}
    (letter,) = bench.store.rows["dead_letters"].values()
    assert (1, event(10) + torn) == (letter["offset"], letter["value"])


def test_a_table_that_fits_no_row_is_no_reason_for_dead_letters() -> None:
    """Otherwise one wrong deployment would turn the whole stream into dead letters."""
    bench = Bench(FakeStore(fits=False))
    with pytest.raises(ConfigError, match="table events does not fit"):
        bench.landing.land(batch_of([event(0)]))
    assert {} == bench.store.rows


def test_a_store_without_room_for_dead_letters_is_our_own_mistake() -> None:
    """A dead letter is never dropped."""
    bench = Bench(FakeStore(is_poison=lambda _: True))
    original = bench.store.insert

    def no_letters(table: str, container: bytes) -> None:
        if table == "dead_letters":
            raise InvalidRecord("unlandable", "no")
        original(table, container)

    landing = Landing(
        sink=Only(no_letters),
        ops=bench.ops,
        metrics=LanderMetrics(bench.ops.registry),
        log=structlog.get_logger(),
        retry_seconds_max=0.001,
    )
    with pytest.raises(AssertionError, match="takes no dead letters"):
        landing.land(batch_of([event(0)]))


@dataclass(slots=True)
class Only:
    """A sink that is one function."""

    insert: Callable[[str, bytes], None]


def test_rows_and_bytes_are_counted() -> None:
    """What the store accepted is what the metrics say."""
    bench = Bench(FakeStore())
    bench.landing.land(batch_of([event(0)], [event(1), event(2)]))
    assert 1 == bench.metric("fleetmeter_lander_inserts_total", table="events")
    assert 3 == bench.metric("fleetmeter_lander_rows_total", table="events")
    (file,) = bench.store.attempts
    assert len(file) == bench.metric("fleetmeter_lander_bytes_total", table="events")


def test_nothing_is_inserted_for_an_empty_batch() -> None:
    """Ticks and barriers move positions only."""
    bench = Bench(FakeStore())
    bench.landing.land(Batch())
    assert [] == bench.store.attempts


def test_abandoning_does_not_stop_what_succeeds() -> None:
    """A process that stops finishes the batch in hand when the store is there."""
    bench = Bench(FakeStore())
    landing = bench.landing
    landing.abandon()
    landing.land(batch_of([event(0)]))
    assert 1 == len(bench.store.rows["events"])


def test_a_snapshot_that_cannot_be_landed_is_named_by_the_record_that_opened_its_part() -> None:
    """That raw record was accepted, so no other dead letter has its place."""
    bench = Bench(FakeStore(is_poison=lambda row: row.get("part") == 8))
    batch = Batch()
    batch.add_snapshot(0, b"p/s", snapshot(part=8, session_id="s"))
    batch.add_snapshot(0, b"p/t", snapshot(part=9, session_id="t"))
    bench.landing.land(batch)
    assert [9] == [row["part"] for row in bench.store.rows["sessions"].values()]
    (letter,) = bench.store.rows["dead_letters"].values()
    assert (8, b"s", "p", "unlandable") == (
        letter["offset"],
        letter["key"],
        letter["project_id"],
        letter["reason"],
    )

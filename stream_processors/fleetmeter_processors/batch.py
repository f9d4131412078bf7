"""What the lander gathers for one insert into each table; reads no topic, inserts nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fleetmeter_processors.container import container
from fleetmeter_schemas import block
from fleetmeter_schemas.block import Block, Items
from fleetmeter_schemas.codec import HEADER_BYTES, Codec
from fleetmeter_schemas.definitions import Schema, schema

SNAPSHOT = Codec("Snapshot")
# By the header of a block: how the events inside it are encoded. A block of another version of
# the schema gets its entry here, and its events a file of their own.
EVENT_SCHEMAS: Final = MappingProxyType({block.CODEC.header: schema("MeteredEvent")})


class Table(StrEnum):
    """Where rows go."""

    EVENTS = "events"
    SESSIONS = "sessions"
    DEAD_LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Records encoded one after the other, and the raw record they begin with."""

    count: int
    data: bytes | memoryview
    partition: int
    offset: int
    log_time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one table, encoded by one schema: they become one file."""

    table: Table
    schema: Schema
    runs: tuple[Run, ...]

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(run.count for run in self.runs)

    def file(self) -> bytes:
        """Return them as an Avro object container file."""
        return container(self.schema, ((run.count, run.data) for run in self.runs))


class Batch:
    """Rows gathered since the last insert, in the order of their logs.

    Of a session only the last snapshot is kept. A tombstone says that the session is forgotten:
    what comes after it is another part, another row, so the last one before it is kept as well.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.log_times_ms: list[int] = []
        self._events: dict[bytes, list[Run]] = {}
        self._rejects: list[Run] = []
        self._snapshots: dict[tuple[int, bytes], Run] = {}
        self._sealed: list[Run] = []

    def add_block(self, partition: int, header: bytes, opened: Block) -> None:
        """Take events and rejects of an accepted block."""
        if opened.events.count:
            self._events.setdefault(header, []).append(self._run(partition, opened, opened.events))
            self.log_times_ms.append(opened.log_time_ms)
        if opened.rejects.count:
            self._rejects.append(self._run(partition, opened, opened.rejects))

    def add_snapshot(self, partition: int, key: bytes, value: bytes) -> None:
        """Take a session's snapshot; raises InvalidRecord where it is none that we know."""
        SNAPSHOT.writer_schema(value)
        body = memoryview(value)[HEADER_BYTES:]
        self.bytes += len(body)
        self._snapshots[partition, key] = Run(
            count=1, data=body, partition=partition, offset=0, log_time_ms=0
        )

    def add_tombstone(self, partition: int, key: bytes) -> None:
        """Learn that a session was forgotten."""
        last = self._snapshots.pop((partition, key), None)
        if last is not None:
            self._sealed.append(last)

    def rows(self) -> Iterator[Rows]:
        """Yield what to insert, table by table."""
        for header, runs in self._events.items():
            yield Rows(table=Table.EVENTS, schema=EVENT_SCHEMAS[header], runs=tuple(runs))
        if self._rejects:
            yield Rows(table=Table.DEAD_LETTERS, schema=schema("Reject"), runs=tuple(self._rejects))
        snapshots = (*self._sealed, *self._snapshots.values())
        if snapshots:
            yield Rows(table=Table.SESSIONS, schema=SNAPSHOT.schema, runs=snapshots)

    def _run(self, partition: int, opened: Block, items: Items) -> Run:
        self.bytes += len(items.data)
        return Run(
            count=items.count,
            data=items.data,
            partition=partition,
            offset=opened.first,
            log_time_ms=opened.log_time_ms,
        )

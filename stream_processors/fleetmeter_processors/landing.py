"""Gets rows into the store: tries again what may succeed, finds what never will.

Knows no topic; what it cannot land becomes a dead letter, and it says so.
"""

import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import fastavro
from structlog.typing import FilteringBoundLogger

from fleetmeter_processors.backoff import delays
from fleetmeter_processors.batch import Batch, Rows, Run, Table
from fleetmeter_processors.metrics import LanderMetrics
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.sink import UNLANDABLE, Sink
from fleetmeter_schemas.codec import READ_ERRORS
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.errors import ConfigError, InvalidRecord, Unavailable

DETAIL_LENGTH_MAX = 300


class Abandoned(Exception):  # noqa: N818 - nothing went wrong here
    """Asked to give up while the store was away; nothing of the batch may be committed."""


class Landing:
    """Lands batches, one at a time."""

    def __init__(
        self,
        *,
        sink: Sink,
        ops: Ops,
        metrics: LanderMetrics,
        log: FilteringBoundLogger,
        retry_seconds_max: float,
    ) -> None:
        self._sink = sink
        self._ops = ops
        self._metrics = metrics
        self._log = log
        self._retry_seconds_max = retry_seconds_max
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        """Make the running `land` give up at its next failure, and every later one."""
        self._abandoned.set()

    def land(self, batch: Batch) -> None:
        """Insert everything in the batch; returns when it is visible.

        Raises:
            Abandoned: `abandon` was called while the store was away.
            ConfigError: The store refuses whatever we send.
        """
        letters = [run for rows in batch.rows() for run in self._land_rows(rows)]
        if letters:
            self._land_letters(tuple(letters))

    def _land_rows(self, rows: Rows) -> list[Run]:
        """Insert rows and return a dead letter for each that the store will never take."""
        try:
            self._insert(rows)
        except InvalidRecord as error:
            self._check_table(rows, error)
            return list(self._bisect(rows, error))
        if rows.table is Table.DEAD_LETTERS:
            self._count_rejects(rows)
        return []

    def _bisect(self, rows: Rows, error: InvalidRecord) -> Iterator[Run]:
        halves = _halves(rows)
        if not halves:
            self._log.error("row.unlandable", table=rows.table, why=error.detail)
            yield dead_letter(rows, error)
            return
        for half in halves:
            try:
                self._insert(half)
            except InvalidRecord as again:
                yield from self._bisect(half, again)

    def _land_letters(self, letters: tuple[Run, ...]) -> None:
        rows = Rows(table=Table.DEAD_LETTERS, schema=schema("Reject"), runs=letters)
        try:
            self._insert(rows)
        except InvalidRecord as error:
            # Every field of it was written by us.
            raise AssertionError(f"the store takes no dead letters: {error.detail}") from error
        self._count_rejects(rows)

    def _check_table(self, rows: Rows, error: InvalidRecord) -> None:
        """Tell bad bytes from a table that fits no row: that must not end in dead letters."""
        empty = Rows(table=rows.table, schema=rows.schema, runs=())
        try:
            self._insert(empty)
        except InvalidRecord as always:
            raise ConfigError(
                f"table {rows.table} does not fit this version: {always.detail}"
            ) from error

    def _insert(self, rows: Rows) -> None:
        """Insert one file, the same bytes again while the store is away."""
        file = rows.file()
        for wait in delays(self._retry_seconds_max):
            try:
                self._sink.insert(rows.table, file)
            except Unavailable as error:
                self._retry_later(rows.table, error, wait)
            else:
                self._landed(rows, len(file))
                return

    def _retry_later(self, table: Table, error: Unavailable, seconds: float) -> None:
        self._ops.set_unhealthy("store", str(error))
        self._metrics.retries.labels(table).inc()
        self._log.warning("insert.failed", table=table, why=str(error), retry_seconds=seconds)
        if self._abandoned.wait(seconds):
            raise Abandoned

    def _landed(self, rows: Rows, size: int) -> None:
        self._ops.set_healthy("store")
        self._metrics.inserts.labels(rows.table).inc()
        self._metrics.rows.labels(rows.table).inc(rows.count)
        self._metrics.bytes.labels(rows.table).inc(size)

    def _count_rejects(self, rows: Rows) -> None:
        for run in rows.runs:
            for record, _ in records(rows, run):
                self._metrics.dead_letters.labels(record["reason"]).inc()


def records(rows: Rows, run: Run) -> Iterator[tuple[Any, bytes]]:
    """Yield each record of a run and its own bytes; raises what fastavro raises."""
    source = BytesIO(run.data)
    for _ in range(run.count):
        start = source.tell()
        record = fastavro.schemaless_reader(source, rows.schema, None)
        yield record, bytes(run.data[start : source.tell()])


def dead_letter(rows: Rows, error: InvalidRecord) -> Run:
    """Return the dead letter of a single row; of a whole run where it cannot be read."""
    (run,) = rows.runs
    letter: dict[str, Any] = {
        "partition": run.partition,
        "offset": run.offset,
        "log_time_ms": run.log_time_ms,
        "reason": UNLANDABLE,
        "detail": f"{rows.table}: {error.detail}"[:DETAIL_LENGTH_MAX],
        "project_id": "",
        "key": b"",
        "value": bytes(run.data),
    }
    singles = _singles(rows, run)
    if len(singles) == 1:
        ((record, _),) = records(rows, singles[0])
        letter |= _identity(rows.table, record)
    out = BytesIO()
    fastavro.schemaless_writer(out, schema("Reject"), letter)
    return Run(
        count=1,
        data=out.getvalue(),
        partition=run.partition,
        offset=letter["offset"],
        log_time_ms=run.log_time_ms,
    )


def _identity(table: Table, record: Any) -> dict[str, Any]:
    """Return what names the row. A part has the offset of the raw record that opened it."""
    offset = record["part"] if table is Table.SESSIONS else record["offset"]
    return {
        "offset": offset,
        "log_time_ms": record["log_time_ms"],
        "project_id": record["project_id"],
        "key": record.get("session_id", "").encode(),
    }


def _halves(rows: Rows) -> tuple[Rows, ...]:
    """Return two parts of the rows, each smaller; none where they cannot be parted."""
    runs = rows.runs if len(rows.runs) > 1 else _singles(rows, rows.runs[0])
    if len(runs) < 2:  # noqa: PLR2004 - one cannot be halved
        return ()
    middle = len(runs) // 2
    return tuple(
        Rows(table=rows.table, schema=rows.schema, runs=part)
        for part in (runs[:middle], runs[middle:])
    )


def _singles(rows: Rows, run: Run) -> tuple[Run, ...]:
    """Return a run for each record; none where the bytes cannot be read."""
    try:
        found = list(records(rows, run))
    except READ_ERRORS:
        return ()
    if sum(len(data) for _, data in found) != len(run.data):
        return ()
    return tuple(
        Run(
            count=1,
            data=data,
            partition=run.partition,
            offset=run.offset,
            log_time_ms=run.log_time_ms,
        )
        for _, data in found
    )

"""One partition's sessions in memory and in sessions.v1, kept in step. Knows no consumer.

State after a crash is exactly the state after the last checkpoint, because snapshots and
checkpoint are written in one transaction.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from fleetmeter_processors.metrics import SessionsMetrics
from fleetmeter_processors.partition import PartitionState
from fleetmeter_schemas.identity import CHECKPOINT_KEY

LogRecord = tuple[bytes, bytes | None]
# A checkpoint that only moved time is worth a transaction this often.
IDLE_CHECKPOINT_SECONDS: Final = 10.0
# Snapshots cost more than the changes in them: after so many written, the next transaction waits,
# so that a busy partition writes one snapshot for many changes, and a quiet one does not wait
# noticeably.
REST_SECONDS_PER_SNAPSHOT: Final = 0.001
REST_SECONDS_MAX: Final = 2.0


class Log(Protocol):
    """What the ledger needs of sessions.v1; `SnapshotLog` is it."""

    def fence(self) -> None:
        """End the writing of everybody who wrote before."""

    def read(self) -> Iterator[LogRecord]:
        """Everything from the start to the end."""

    def write(self, records: Sequence[LogRecord]) -> None:
        """All of these or none; raises Fenced when the partition is another's."""

    def close(self) -> None:
        """Give the connections back."""


class MeteredRecord(NamedTuple):
    """One record of metered.v1."""

    offset: int
    value: bytes


class Ledger:
    """Takes records of one partition of metered.v1 and writes what they make of its sessions.

    Args:
        partition: The partition.
        log: The same partition of sessions.v1.
        snapshots_max: Snapshots after which a transaction ends.
        metrics: Where it counts.
        now: Monotonic seconds; decides when an idle checkpoint is written, no session's state.
    """

    def __init__(
        self,
        *,
        partition: int,
        log: Log,
        snapshots_max: int,
        metrics: SessionsMetrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = PartitionState(partition)
        self._log = log
        self._snapshots_max = snapshots_max
        self._metrics = metrics
        self._now = now
        self._written_at = now()
        self._rest_seconds = 0.0
        self._label = str(partition)

    @property
    def next_offset(self) -> int:
        """Offset of the first record of metered.v1 not taken yet; 0 where there is no checkpoint.

        Where the log begins later, a consumer that resets to the earliest finds its start.
        """
        return self._state.position.metered_offset + 1

    @property
    def is_due(self) -> bool:
        """Whether changes have waited long enough; a `post`, be it of nothing, writes them."""
        return bool(self._state.touched) and self._idle_seconds() >= self._rest_seconds

    def restore(self) -> None:
        """Take the partition from whoever had it, and read what was written last."""
        began = self._now()
        self._log.fence()
        latest: dict[bytes, bytes] = {}
        for key, value in self._log.read():
            if value is None:
                latest.pop(key, None)
            else:
                latest[key] = value
        checkpoint = latest.pop(CHECKPOINT_KEY, None)
        if checkpoint is not None:
            self._state.restore_checkpoint(checkpoint)
        for key, value in latest.items():
            self._state.restore_snapshot(key, value)
        self._state.restored()
        self._expire()
        self._metrics.restore_seconds.labels(self._label).set(self._now() - began)
        self._tell()

    def post(self, records: Sequence[MeteredRecord]) -> None:
        """Take these records in order. What they changed is written now, or when `is_due`.

        A crash before that loses nothing: state and position are those of the last checkpoint.

        Records taken before are skipped. Whatever is raised leaves the state ahead of the log:
        the ledger must not be used again.

        Raises:
            Fenced: Another process has taken the partition.
            Gap: A record is missing between the last one and these.
            InvalidRecord: One is neither a block nor a barrier that this version can read.
        """
        for record in records:
            if record.offset <= self._state.position.metered_offset:
                self._metrics.records.labels("replayed").inc()
                continue
            verdict = self._state.apply(record.offset, record.value)
            self._metrics.records.labels(verdict.value).inc()
            self._expire()
        if self.is_due or self._idle_seconds() >= IDLE_CHECKPOINT_SECONDS:
            self._write()
        self._tell()

    def finish(self) -> None:
        """Write what is not written yet, and how far we are; raises Fenced."""
        self._write()
        self._tell()

    def close(self) -> None:
        """Forget the partition: its state lives on in sessions.v1."""
        self._log.close()
        self._metrics.forget(self._label)

    def _idle_seconds(self) -> float:
        return self._now() - self._written_at

    def _expire(self) -> None:
        while True:
            settled = self._state.expire(max(1, self._snapshots_max - self._state.touched))
            if self._state.touched >= self._snapshots_max:
                self._write()
            if settled:
                return

    def _write(self) -> None:
        began = self._now()
        records = self._state.drain()
        self._log.write(records)
        self._written_at = self._now()
        snapshots = len(records) - 1
        self._rest_seconds = min(snapshots * REST_SECONDS_PER_SNAPSHOT, REST_SECONDS_MAX)
        self._metrics.transaction_seconds.observe(self._written_at - began)
        self._metrics.snapshots.inc(snapshots)

    def _tell(self) -> None:
        for closed in self._state.closed:
            self._metrics.closed.labels(closed.reason).inc()
        self._state.closed.clear()
        self._metrics.open_sessions.labels(self._label).set(self._state.open_sessions)

"""The end of sessions.v1: live sessions and how far each partition has come. Asks no store."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from fleetmeter_api.kafka import tell
from fleetmeter_api.recent import Held, RecentSnapshots
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.identity import CHECKPOINT_KEY, session_key, split_snapshot_key
from fleetmeter_schemas.records import Checkpoint, Snapshot

SNAPSHOT: Final = Codec("Snapshot")
# Of each partition: minutes of a busy one, and longer than the lander is ever behind in order.
CHECKPOINTS_MAX: Final = 1_000
_CHECKPOINT: Final = Codec("Checkpoint")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the snapshots of a partition have come; fields as in Checkpoint."""

    next: int
    log_time_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """Somebody waits until a partition has passed an offset."""

    partition: int
    offset: int
    answer: Callable[[], None]


class Tail:
    """What the records at the end of sessions.v1 say; fed by one thread, asked by another."""

    def __init__(self, sessions_max: int, bytes_max: int) -> None:
        self.records = 0
        self.undecodable = 0
        self._recent = RecentSnapshots(sessions_max, bytes_max)
        self._lock = threading.Lock()
        self._progress: dict[int, Progress] = {}
        self._checkpoints: dict[int, deque[tuple[int, int]]] = {}
        self._waiters: list[_Waiter] = []

    def started(self, starts: dict[int, int]) -> None:
        """What stands before these offsets is not here."""
        with self._lock:
            self._recent.floors = dict(starts)

    def read(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """One record of sessions.v1. A tombstone changes nothing: the last snapshot holds."""
        self.records += 1
        if key is None or value is None:
            return
        try:
            if key == CHECKPOINT_KEY:
                self._advance(offset, _CHECKPOINT.decode(value))
                return
            self._keep(partition, offset, key, value)
        except InvalidRecord as error:
            self.undecodable += 1
            with self._lock:
                self._recent.miss(partition, offset)
            log.warning(
                "session_record.undecodable",
                partition=partition,
                offset=offset,
                reason=error.reason,
            )

    def parts(self, project_id: str, session_id: str) -> list[Snapshot]:
        """The last snapshots of a session's parts, as far as they are here."""
        with self._lock:
            values = self._recent.get(session_key(project_id, session_id))
        return [SNAPSHOT.decode(value) for value in values]

    def progress(self, partition: int) -> Progress | None:
        """How far a partition has come; None before its first checkpoint."""
        return self._progress.get(partition)

    def log_time_before(self, partition: int, offset: int) -> int | None:
        """Log time of the last checkpoint before an offset of sessions.v1; None: not known."""
        with self._lock:
            known = tuple(self._checkpoints.get(partition, ()))
        return next((log_time_ms for at, log_time_ms in reversed(known) if at < offset), None)

    def floor(self, partition: int) -> int:
        """The offset of sessions.v1 before which snapshots may be missing here; 0: none are."""
        return self._recent.floors.get(partition, 0)

    @property
    def partitions(self) -> int:
        """How many partitions sessions.v1 has; 0 before it was read."""
        return len(self._recent.floors)

    @property
    def sessions(self) -> int:
        """How many sessions are held."""
        return len(self._recent)

    @property
    def size_bytes(self) -> int:
        """How many bytes they take."""
        return self._recent.size_bytes

    def has_passed(self, partition: int, offset: int) -> bool:
        """Whether the snapshots contain the record at this raw offset."""
        progress = self._progress.get(partition)
        return progress is not None and progress.next > offset

    async def wait_until(self, partition: int, offset: int, timeout_seconds: float) -> bool:
        """Wait until the snapshots contain the record at a raw offset; whether they do."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        waiter = _Waiter(partition, offset, lambda: tell(loop, done))
        self._waiters.append(waiter)
        try:
            # Asked after it was enlisted: a checkpoint that comes between is not overlooked.
            if not self.has_passed(partition, offset):
                await asyncio.wait_for(done.wait(), timeout_seconds)
        except TimeoutError:
            return self.has_passed(partition, offset)
        finally:
            self._waiters.remove(waiter)
        return True

    def _keep(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        # Decoded when somebody asks: most snapshots are replaced before.
        SNAPSHOT.writer_schema(value)
        session, part = _split(key)
        held = Held(part=part, partition=partition, offset=offset, value=value)
        with self._lock:
            self._recent.put(session, held)

    def _advance(self, offset: int, checkpoint: Checkpoint) -> None:
        partition = checkpoint["partition"]
        with self._lock:
            known = self._checkpoints.setdefault(partition, deque(maxlen=CHECKPOINTS_MAX))
            known.append((offset, checkpoint["log_time_ms"]))
        self._progress[partition] = Progress(
            next=checkpoint["next"], log_time_ms=checkpoint["log_time_ms"]
        )
        for waiter in list(self._waiters):
            if waiter.partition == partition and checkpoint["next"] > waiter.offset:
                waiter.answer()


def _split(key: bytes) -> tuple[bytes, int]:
    """The session's key, and the part; raises InvalidRecord."""
    try:
        return split_snapshot_key(key)
    except ValueError as error:
        raise InvalidRecord("key", "no part in the key of a snapshot") from error

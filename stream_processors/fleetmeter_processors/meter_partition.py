"""Holds one partition for the meter: takes it by a barrier, writes blocks, notices rivals.

Does no I/O of its own: it appends to and reads metered.v1 through a port, and is told where its
records landed. So a simulator can drive it through every order of events.

    idle ── take() ──► taking ── the barrier's offset ──► active ── renew() ──► taking …
                                                            │
                          fenced ◄── a block landed behind a rival's barrier
                            └── take() while still assigned ──► taking
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fleetmeter_processors.hint import Hint
from fleetmeter_processors.judge import Raw
from fleetmeter_processors.metered_record import BARRIER, take
from fleetmeter_processors.metering import Metering, Sealed
from fleetmeter_processors.tail import Entry, Tail, TailLimits
from fleetmeter_schemas.block import Block, open_block
from fleetmeter_schemas.tiling import UNKNOWN, BarrierRead, Gap, Position, accept


class MeteredLog(Protocol):
    """One partition of metered.v1."""

    def append(self, data: bytes) -> None:
        """Send a record; its offset is told through `MeterPartition.delivered`, in order."""

    def read(self, first: int, last: int) -> Iterable[tuple[int, bytes]]:
        """All records from an offset, or from the log's beginning, to an offset that exists.

        Args:
            first: Offset of the first one; what the log no longer has is left out.
            last: Offset of the last one, inclusive.
        """


class Phase(StrEnum):
    """What a meter may do with a partition."""

    IDLE = "idle"
    TAKING = "taking"
    ACTIVE = "active"
    FENCED = "fenced"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class _Sent:
    """A record on its way; a barrier where `block` is None. `void`: written before a fence."""

    block: Sealed | None
    void: bool = False


class MeterPartition:
    """One assigned partition.

    Args:
        log: Its metered log.
        owner: This process, for people who read barriers.
        fresh: Makes books in which nothing is written.
        start: Where a reader once stood in metered.v1, such as the hint in the group's commit.
        raw_start: Where the raw log is begun when metered.v1 tells no position in it.
        limits: How far back recent blocks are remembered.
    """

    def __init__(
        self,
        *,
        log: MeteredLog,
        owner: str,
        fresh: Callable[[], Metering],
        start: Hint,
        raw_start: int,
        limits: TailLimits,
    ) -> None:
        self.phase = Phase.IDLE
        self._log = log
        self._barrier = BARRIER.encode({"owner": owner})
        self._fresh = fresh
        self._metering = fresh()
        self._start = start
        self._position = start.position
        self._raw_start = raw_start
        self._tail = Tail(limits)
        self._sent: deque[_Sent] = deque()
        self._resume: int | None = None
        self._renewing = False

    @property
    def position(self) -> Position:
        """Where the last record known to be in metered.v1 has led."""
        return self._position

    @property
    def next(self) -> int:
        """First raw offset not metered, by our own books; UNKNOWN before we are active."""
        return self._metering.next

    @property
    def in_flight(self) -> int:
        """Records sent whose offset has not been told."""
        return len(self._sent)

    @property
    def hint(self) -> Hint:
        """From where a successor should read: before the oldest block remembered."""
        oldest = self._tail.oldest
        if oldest is None:
            return Hint(
                position=self._position,
                heard_ms=self._start.heard_ms,
                log_time_ms=self._start.log_time_ms,
            )
        return Hint(
            position=oldest.before, heard_ms=oldest.heard_ms, log_time_ms=oldest.log_time_ms
        )

    def take(self) -> None:
        """Claim the partition by a barrier. Its offset, once told, makes us active."""
        assert self.phase in (Phase.IDLE, Phase.FENCED), self.phase  # noqa: S101
        self._renewing = False
        self._send_barrier()

    def renew(self) -> None:
        """Claim it again, for readers without a position; no block until the offset is told."""
        assert self.phase is Phase.ACTIVE, self.phase  # noqa: S101
        self._renewing = True
        self._send_barrier()

    def drop(self) -> None:
        """The partition is no longer ours: nothing is written from now on."""
        self.phase = Phase.DROPPED

    def take_resume(self) -> int | None:
        """Once after each taking: the raw offset from which records must be given."""
        resume, self._resume = self._resume, None
        return resume

    @property
    def is_ready(self) -> bool:
        """Whether records may be given: it is active, and where to go on has been asked for.

        A block covers all from where the last one ended: what is left out before it is lost.
        """
        return self.phase is Phase.ACTIVE and self._resume is None

    def meter(self, records: Sequence[Raw]) -> Sealed | None:
        """Write one block over records of the raw log, in order; those metered are left out.

        Returns:
            What was sent; None when nothing was left to meter.
        """
        assert self.phase is Phase.ACTIVE, self.phase  # noqa: S101
        new = [record for record in records if record.offset >= self._metering.next]
        if not new:
            return None
        if self._resume is not None:
            assert records[0].offset <= self._resume, (records[0].offset, self._resume)  # noqa: S101
            self._resume = None
        block = self._metering.seal(self._position.epoch, new)
        self._sent.append(_Sent(block))
        self._log.append(block.data)
        return block

    def delivered(self, offset: int) -> Sealed | None:
        """The oldest record in flight is at this offset of metered.v1.

        Returns:
            The block it was, if it was one and counts.

        Raises:
            Gap: metered.v1 lacks records that we must know.
        """
        sent = self._sent.popleft()
        if sent.void or self.phase is Phase.DROPPED:
            return None
        if sent.block is None:
            self._claimed(offset)
            return None
        return self._landed(offset, sent.block)

    def _send_barrier(self) -> None:
        self.phase = Phase.TAKING
        self._sent.append(_Sent(None))
        self._log.append(self._barrier)

    def _landed(self, offset: int, block: Sealed) -> Sealed | None:
        """Whatever landed between our records is read: a rival's barrier means fenced."""
        self._read_until(offset)
        before = self._position
        self._position, _, opened = take(before, offset, block.data)
        if opened is None:
            self._fence()
            return None
        self._remember(before, block.data, opened, keep=None)
        return block

    def _claimed(self, offset: int) -> None:
        """Our barrier is in the log: all before it is decided, and known once it is read."""
        if self._renewing:
            self._read_until(offset)
        else:
            self._read_known_start(offset)
        self._position, _ = accept(self._position, offset, BarrierRead())
        if not self._renewing:
            self._begin()
        elif self._position.next not in (UNKNOWN, self._metering.next):
            self._fence()
            return
        self.phase = Phase.ACTIVE

    def _read_known_start(self, offset: int) -> None:
        """Read up to a barrier, without a position where the log no longer has ours."""
        try:
            self._read_until(offset)
            accept(self._position, offset, BarrierRead())
        except Gap:
            self._tail.clear()
            self._position = Position()
            self._read_until(offset)

    def _read_until(self, offset: int) -> None:
        """Read what is between the last record known and this offset."""
        first = self._position.metered_offset + 1
        if first >= offset:
            return
        for at, data in self._log.read(first, offset - 1):
            self._take_over(at, data)

    def _take_over(self, offset: int, data: bytes) -> None:
        before = self._position
        self._position, _, block = take(before, offset, data)
        if block is not None:
            self._remember(before, data, block, keep=data)

    def _remember(self, before: Position, data: bytes, block: Block, keep: bytes | None) -> None:
        self._tail.add(
            Entry(
                before=before,
                heard_ms=block.heard_ms,
                log_time_ms=block.log_time_ms,
                ids=block.events.count,
                size_bytes=len(data),
                data=keep,
            )
        )

    def _begin(self) -> None:
        """Open new books from the blocks that were accepted."""
        self._metering = self._fresh()
        self._metering.heard_ms = self._start.heard_ms
        self._metering.log_time_ms = self._start.log_time_ms
        for data in self._tail.take_data():
            self._metering.restore(open_block(data))
        known = self._position.next
        self._metering.next = self._raw_start if known == UNKNOWN else known
        self._resume = self._metering.next

    def _fence(self) -> None:
        """A rival took over: what is in flight counts for nothing, nor do our books from now on."""
        self._start = self.hint
        self._position = self._start.position
        self._tail.clear()
        self._sent = deque(_Sent(sent.block, void=True) for sent in self._sent)
        self.phase = Phase.FENCED

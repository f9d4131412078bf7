"""One partition of metered.v1 in memory, and the ports through which rival meters write to it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from fleetmeter_processors.hint import Hint
from fleetmeter_processors.judge import Judge
from fleetmeter_processors.meter_partition import MeterPartition
from fleetmeter_processors.metering import Metering, Sealed
from fleetmeter_processors.pricing import Pricer
from fleetmeter_processors.tail import TailLimits
from fleetmeter_processors.window import WindowLimits
from fleetmeter_schemas.block import CODEC as BLOCK
from fleetmeter_schemas.block import Block, open_block
from fleetmeter_schemas.tiling import BarrierRead, BlockRead, Position, Verdict, accept
from meter_records import EVENT, FakeKeys

PRICER = Pricer()


@dataclass(slots=True)
class FakeLog:
    """The records; `low` is the first one that retention has left."""

    records: list[bytes] = field(default_factory=list)
    low: int = 0

    def read(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Records as the port's `read`."""
        for offset in range(max(first, self.low), last + 1):
            yield offset, self.records[offset]

    def accepted(self) -> tuple[list[Block], Position]:
        """The blocks that every reader accepts, and where it ends."""
        position = Position()
        blocks = []
        for offset, data in self.read(0, len(self.records) - 1):
            if not BLOCK.knows(data):
                position, _ = accept(position, offset, BarrierRead())
                continue
            block = open_block(data)
            read = BlockRead(epoch=block.epoch, first=block.first, next=block.next)
            position, verdict = accept(position, offset, read)
            if verdict is Verdict.ACCEPTED:
                blocks.append(block)
        return blocks, position


@dataclass(slots=True)
class FakePort:
    """One meter's way to the log: what it sends lies on its way until it is landed."""

    log: FakeLog
    sent: deque[bytes] = field(default_factory=deque)
    landed: deque[int] = field(default_factory=deque)
    reads: list[tuple[int, int]] = field(default_factory=list)

    def append(self, data: bytes) -> None:
        """Send a record."""
        self.sent.append(data)

    def read(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Read the log."""
        self.reads.append((first, last))
        return self.log.read(first, last)

    def land(self) -> None:
        """The oldest record on its way reaches the log; its report is still to be told."""
        self.landed.append(len(self.log.records))
        self.log.records.append(self.sent.popleft())


def books() -> Metering:
    """Fresh books of the only partition."""
    keys = FakeKeys()
    return Metering(0, Judge(0, 1, keys, EVENT), keys, PRICER, WindowLimits())


def meter_on(
    port: FakePort, start: Hint | None = None, raw_start: int = 0, tail: TailLimits | None = None
) -> MeterPartition:
    """A meter's partition on a port."""
    return MeterPartition(
        log=port,
        owner="test",
        fresh=books,
        start=start or Hint(),
        raw_start=raw_start,
        limits=tail or TailLimits(),
    )


def deliver(meter: MeterPartition, port: FakePort) -> list[Sealed]:
    """Land and report all that is on its way; the blocks that count."""
    counted = []
    while port.sent or port.landed:
        if port.sent:
            port.land()
        block = meter.delivered(port.landed.popleft())
        if block is not None:
            counted.append(block)
    return counted

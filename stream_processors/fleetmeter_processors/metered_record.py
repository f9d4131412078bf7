"""One record of metered.v1, opened and placed by `tiling.accept`; reads no log, keeps nothing."""

from typing import Final

from fleetmeter_schemas.block import CODEC as BLOCK
from fleetmeter_schemas.block import Block, open_block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.tiling import BarrierRead, BlockRead, Position, Verdict, accept

BARRIER: Final = Codec("Barrier")


def take(position: Position, offset: int, data: bytes) -> tuple[Position, Verdict, Block | None]:
    """The position after a record, what became of it, and the opened block where it counts.

    Raises:
        Gap: A record is missing before this one.
        InvalidRecord: It is neither a block nor a barrier that this version can read.
    """
    if not BLOCK.knows(data):
        BARRIER.decode(data)
        return *accept(position, offset, BarrierRead()), None
    block = open_block(data)
    read = BlockRead(epoch=block.epoch, first=block.first, next=block.next)
    moved, verdict = accept(position, offset, read)
    return moved, verdict, block if verdict is Verdict.ACCEPTED else None

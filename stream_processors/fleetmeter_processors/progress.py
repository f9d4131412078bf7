"""Where the lander stands in a partition, and how its group remembers that; reads no topic."""

import json
from dataclasses import asdict, dataclass, field

from fleetmeter_processors.metered_record import take
from fleetmeter_schemas.block import Block
from fleetmeter_schemas.tiling import Position, Verdict


@dataclass(slots=True, kw_only=True, eq=False)
class Standing:
    """An assigned partition: the first record not taken yet, and for metered.v1 its position.

    Two assignments of the same partition are two standings: what was gathered under the first
    must not be committed under the second.
    """

    topic: str
    partition: int
    next_offset: int
    position: Position = field(default_factory=Position)

    def take(self, offset: int, value: bytes) -> tuple[Block | None, Verdict]:
        """Take a record of metered.v1; the block comes back, opened, when it counts.

        Raises:
            Gap: A record is missing before this one.
            InvalidRecord: It is neither a block nor a barrier that this version can read.
        """
        self.position, verdict, block = take(self.position, offset, value)
        self.next_offset = offset + 1
        return block, verdict


def metadata_of(position: Position) -> str:
    """Return what is committed beside the offset of a partition of metered.v1."""
    return json.dumps(asdict(position), separators=(",", ":"))


def restored_position(offset: int, metadata: str | None) -> Position | None:
    """Return the position committed with an offset; None where it does not belong to it."""
    try:
        fields = json.loads(metadata or "")
        position = Position(
            metered_offset=int(fields["metered_offset"]),
            epoch=int(fields["epoch"]),
            next=int(fields["next"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
    return position if position.metered_offset == offset - 1 else None

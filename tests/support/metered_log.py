"""A partition of metered.v1 as a meter would write it, for tests of those who read it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fleetmeter_schemas.block import encode_block
from fleetmeter_schemas.codec import HEADER_BYTES, Codec
from fleetmeter_schemas.records import Delta
from session_records import MINUTE_MS, delta, end, numbers

BARRIER = Codec("Barrier")
DELTA = Codec("Delta")


@dataclass(slots=True)
class MeteredLog:
    """The records of one partition: the index of each is its offset."""

    partition: int
    records: list[bytes] = field(default_factory=list)
    epoch: int = -1
    next: int = 0

    def barrier(self) -> None:
        """Take the partition."""
        self.epoch = len(self.records)
        self.records.append(BARRIER.encode({"owner": "test"}))

    def block(self, heard_ms: int, deltas: Sequence[Delta] = ()) -> None:
        """Append the next block; it covers one raw record a delta, and at least one."""
        following = self.next + max(1, len(deltas))
        self._append(self.epoch, following, heard_ms, deltas)
        self.next = following

    def zombie_block(self, heard_ms: int) -> None:
        """Append a block by somebody who has lost the partition."""
        self._append(self.epoch - 1, self.next + 1, heard_ms, ())

    def _append(self, epoch: int, following: int, heard_ms: int, deltas: Sequence[Delta]) -> None:
        self.records.append(
            encode_block(
                epoch=epoch,
                first=self.next,
                next=following,
                heard_ms=heard_ms,
                log_time_ms=1_700_000_000_000 + heard_ms,
                duplicates=0,
                deltas=[DELTA.encode(one)[HEADER_BYTES:] for one in deltas],
                events=[],
                rejects=[],
            )
        )


def story(partition: int, *, blocks: int, width: int) -> MeteredLog:
    """Sessions that end, fall silent and come back, with barriers and a zombie's blocks between.

    Every block, a minute after the last, speaks of `width` sessions, and for the last time of a
    quarter of them. Each fifth word on a session ends it.
    """
    log = MeteredLog(partition)
    log.barrier()
    for number in range(blocks):
        heard_ms = (number + 1) * MINUTE_MS
        if number % 50 == 25:
            log.barrier()
            log.zombie_block(heard_ms)
        first = number * width // 4
        log.block(heard_ms, [_word(log, first, place, heard_ms) for place in range(width)])
    return log


def _word(log: MeteredLog, first: int, place: int, heard_ms: int) -> Delta:
    session_id, offset = f"session-{first + place}", log.next + place
    if place % 5 == 0:
        return end("Success", session_id=session_id, heard_ms=heard_ms, first_offset=offset)
    counted = numbers(events=1, llm_calls=1, cost_pico_usd=1_000 + offset)
    return delta(session_id=session_id, heard_ms=heard_ms, first_offset=offset, numbers=counted)

"""Which blocks of the metered log count: the one pure function that every reader calls.

The accepted blocks of a partition cover the raw log without overlap, whatever zombies wrote
between them. Does no I/O and decodes nothing.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

UNKNOWN = -1


class Gap(AssertionError):  # noqa: N818 - the thing itself, not an error in it
    """The reader itself missed a record (retention, truncation): it must stop and say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a reader of one partition of metered.v1 stands.

    `metered_offset` is the last record read, `epoch` the barrier in force, `next` the first
    raw offset not covered; each is UNKNOWN (-1) until met.
    """

    metered_offset: int = UNKNOWN
    epoch: int = UNKNOWN
    next: int = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class BarrierRead:
    """A barrier was read; its epoch is its own offset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRead:
    """A block was read."""

    epoch: int
    first: int
    next: int


class Verdict(StrEnum):
    """What became of a record of metered.v1."""

    BARRIER = "barrier"
    ACCEPTED = "accepted"
    SKIPPED = "skipped"


def accept(
    position: Position, offset: int, record: BarrierRead | BlockRead
) -> tuple[Position, Verdict]:
    """The position after a record, and what became of it.

    A reader without a position starts at the first barrier it meets; the first block of that
    epoch tells it where the raw log goes on, because only the barrier's owner writes its epoch,
    in order.

    Raises:
        Gap: The record is not the one after the last.
    """
    if position.metered_offset not in (UNKNOWN, offset - 1):
        raise Gap(f"metered.v1 goes on at {offset} after {position.metered_offset}")
    moved = replace(position, metered_offset=offset)
    match record:
        case BarrierRead():
            return replace(moved, epoch=offset), Verdict.BARRIER
        case BlockRead():
            if position.epoch == UNKNOWN or record.epoch != position.epoch:
                return moved, Verdict.SKIPPED
            if position.next not in (UNKNOWN, record.first):
                return moved, Verdict.SKIPPED
            return replace(moved, next=record.next), Verdict.ACCEPTED
        case _:
            assert_never(record)

"""The recent accepted blocks of a partition: from where a successor must read. Reads nothing."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fleetmeter_processors.window import WINDOW_IDS_MAX, WINDOW_MS
from fleetmeter_schemas.tiling import Position

TAIL_BYTES_MAX: Final = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLimits:
    """How far back blocks are remembered, whichever is first."""

    window_ms: int = WINDOW_MS
    ids_max: int = WINDOW_IDS_MAX
    bytes_max: int = TAIL_BYTES_MAX


@dataclass(slots=True, kw_only=True)
class Entry:
    """One accepted block: the position before it, its numbers, and its bytes while needed."""

    before: Position
    heard_ms: int
    log_time_ms: int
    ids: int
    size_bytes: int
    data: bytes | None


class Tail:
    """Accepted blocks, oldest first, within the limits; never less than the last one."""

    def __init__(self, limits: TailLimits) -> None:
        self._limits = limits
        self._entries: deque[Entry] = deque()
        self._ids = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def oldest(self) -> Entry | None:
        """The oldest block remembered."""
        return self._entries[0] if self._entries else None

    def add(self, entry: Entry) -> None:
        """Remember one more block, and forget what is beyond the limits."""
        self._entries.append(entry)
        self._ids += entry.ids
        self._bytes += entry.size_bytes
        while len(self._entries) > 1 and self._beyond(entry.log_time_ms):
            gone = self._entries.popleft()
            self._ids -= gone.ids
            self._bytes -= gone.size_bytes

    def take_data(self) -> Iterator[bytes]:
        """The bytes of the blocks, oldest first; each is let go."""
        for entry in self._entries:
            data, entry.data = entry.data, None
            if data is not None:
                yield data

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._ids = self._bytes = 0

    def _beyond(self, log_time_ms: int) -> bool:
        return (
            self._bytes > self._limits.bytes_max
            or self._ids > self._limits.ids_max
            or self._entries[0].log_time_ms < log_time_ms - self._limits.window_ms
        )

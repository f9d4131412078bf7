"""The last snapshots of recently changed sessions, encoded, within bounds; does no I/O."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

ENTRY_BYTES: Final = 300  # what an entry takes beside key and value, measured roughly


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One part's last snapshot, and where in sessions.v1 it stood."""

    part: int
    partition: int
    offset: int
    value: bytes


class RecentSnapshots:
    """Snapshots by session, the longest unchanged dropped first.

    `floors` tells, by partition of sessions.v1, before which offset snapshots may be missing
    here: what is older must be looked up in the store.
    """

    def __init__(self, sessions_max: int, bytes_max: int) -> None:
        self._sessions_max = sessions_max
        self._bytes_max = bytes_max
        self._held: OrderedDict[bytes, tuple[Held, ...]] = OrderedDict()
        self.size_bytes = 0
        self.floors: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def put(self, key: bytes, new: Held) -> None:
        """Keep a snapshot of a session in place of the same part's earlier one."""
        parts = self._held.pop(key, ())
        self.size_bytes -= _size(key, parts)
        parts = (*(held for held in parts if held.part != new.part), new)
        self._held[key] = parts
        self.size_bytes += _size(key, parts)
        while len(self._held) > self._sessions_max or self.size_bytes > self._bytes_max:
            self._drop_oldest()

    def get(self, key: bytes) -> tuple[bytes, ...]:
        """The encoded snapshots of a session's parts, as far as they are held."""
        return tuple(held.value for held in self._held.get(key, ()))

    def miss(self, partition: int, offset: int) -> None:
        """Note that the snapshot at an offset of sessions.v1 is not here."""
        self.floors[partition] = max(self.floors.get(partition, 0), offset + 1)

    def _drop_oldest(self) -> None:
        key, parts = self._held.popitem(last=False)
        self.size_bytes -= _size(key, parts)
        for held in parts:
            self.miss(held.partition, held.offset)


def _size(key: bytes, parts: tuple[Held, ...]) -> int:
    if not parts:
        return 0
    return len(key) + ENTRY_BYTES + sum(len(held.value) for held in parts)

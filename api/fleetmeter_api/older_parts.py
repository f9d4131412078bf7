"""What the store has of live sessions: parts that were closed before, which never change.

A part begins only after the one before it was forgotten, so what was read once can be kept, and
a live session is answered without the store. Does no I/O.
"""

from collections import OrderedDict
from collections.abc import Iterable

from fleetmeter_schemas.records import Snapshot


class OlderParts:
    """The parts before the first one in the tail, by session, the longest unused dropped first."""

    def __init__(self, sessions_max: int) -> None:
        self._sessions_max = sessions_max
        self._known: OrderedDict[tuple[str, str, int], tuple[Snapshot, ...]] = OrderedDict()

    def get(self, live: Iterable[Snapshot]) -> tuple[Snapshot, ...] | None:
        """The parts before these, which are of one session; None where they are not known."""
        key = _key(live)
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def put(self, live: Iterable[Snapshot], stored: Iterable[Snapshot]) -> None:
        """Keep, of all stored parts of a session, those before the live ones."""
        key = _key(live)
        self._known[key] = tuple(one for one in stored if one["part"] < key[2])
        if len(self._known) > self._sessions_max:
            self._known.popitem(last=False)


def _key(live: Iterable[Snapshot]) -> tuple[str, str, int]:
    first = min(live, key=lambda one: one["part"])
    return first["project_id"], first["session_id"], first["part"]

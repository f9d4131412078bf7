"""Recent event ids of one partition, so that each is metered once; decides nothing else.

Bounded by log time and by number, whichever is first: what slips past it is found by `verify`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

from fleetmeter_processors.numbers import Counts

WINDOW_MS: Final = 10 * 60_000
WINDOW_IDS_MAX: Final = 200_000
SESSIONS_SHARED_MAX: Final = 50_000

EventKey = tuple[str, str, str]


class Seen(NamedTuple):
    """The revision of an event that counts, and what it counts for."""

    revision: int
    first_start_time_us: int
    counts: Counts
    log_time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """How much is remembered."""

    window_ms: int = WINDOW_MS
    ids_max: int = WINDOW_IDS_MAX


class Window:
    """Event ids in the order in which they were last metered."""

    def __init__(self, limits: WindowLimits) -> None:
        self._limits = limits
        self._seen: OrderedDict[EventKey, Seen] = OrderedDict()
        self._parents: OrderedDict[EventKey, int] = OrderedDict()
        self._sessions: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def key(self, project_id: str, session_id: str, event_id: str) -> EventKey:
        """What identifies an event; a session's id is one string in all its keys."""
        if len(self._sessions) >= SESSIONS_SHARED_MAX:
            self._sessions.clear()
        return (project_id, self._sessions.setdefault(session_id, session_id), event_id)

    def find(self, key: EventKey) -> Seen | None:
        """What is remembered of an event."""
        return self._seen.get(key)

    def put(self, key: EventKey, seen: Seen) -> None:
        """Remember an event, or its higher revision instead of the lower one."""
        self._seen[key] = seen
        self._seen.move_to_end(key)

    def put_parent(self, key: EventKey, log_time_ms: int) -> None:
        """Remember that a priced LLM call has happened inside of this event."""
        self._parents[key] = log_time_ms
        self._parents.move_to_end(key)

    def is_parent(self, key: EventKey) -> bool:
        """Whether a priced LLM call has happened inside of this event."""
        return key in self._parents

    def trim(self, log_time_ms: int) -> None:
        """Forget what is beyond the limits at this log time."""
        since_ms = log_time_ms - self._limits.window_ms
        while self._seen and (
            len(self._seen) > self._limits.ids_max
            or next(iter(self._seen.values())).log_time_ms < since_ms
        ):
            self._seen.popitem(last=False)
        while self._parents and (
            len(self._parents) > self._limits.ids_max
            or next(iter(self._parents.values())) < since_ms
        ):
            self._parents.popitem(last=False)

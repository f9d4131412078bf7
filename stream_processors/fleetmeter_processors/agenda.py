"""When each session of a partition is due, and which open one was silent longest. No clock.

Both questions are answered by heaps whose entries are never later than the truth: an entry that
turns out to be early is put back with its true time, one that was superseded is dropped.
"""

from heapq import heapify, heappop, heappush

SessionKey = tuple[str, str]
_Entry = tuple[int, SessionKey]


class Agenda:
    """Due times by session, and the open sessions of each project by last sign of life."""

    def __init__(self) -> None:
        self._due = _Queue()
        self._open: dict[str, _Queue] = {}

    @property
    def open_sessions(self) -> int:
        """How many sessions are open."""
        return sum(len(queue) for queue in self._open.values())

    def open_in(self, project_id: str) -> int:
        """How many sessions of a project are open."""
        queue = self._open.get(project_id)
        return 0 if queue is None else len(queue)

    def opened(self, key: SessionKey, *, due_ms: int, heard_ms: int) -> None:
        """An open session gave a sign of life, at heard_ms, and is overdue after due_ms."""
        self._due.put(key, due_ms)
        self._open.setdefault(key[0], _Queue()).put(key, heard_ms)

    def closed(self, key: SessionKey, *, due_ms: int) -> None:
        """A session is closed, and may be forgotten after due_ms."""
        self._due.put(key, due_ms)
        self._not_open(key)

    def remove(self, key: SessionKey) -> None:
        """A session is forgotten."""
        self._due.remove(key)
        self._not_open(key)

    def next_due(self, heard_ms: int) -> SessionKey | None:
        """The session due first, ties by key, if it is due before this heard time."""
        first = self._due.first()
        return first[1] if first is not None and first[0] < heard_ms else None

    def longest_silent(self, project_id: str) -> SessionKey:
        """The project's open session with the oldest sign of life, ties by key."""
        first = self._open[project_id].first()
        assert first is not None  # noqa: S101 - the caller has counted them
        return first[1]

    def _not_open(self, key: SessionKey) -> None:
        queue = self._open.get(key[0])
        if queue is None:
            return
        queue.remove(key)
        if not len(queue):
            del self._open[key[0]]


class _Queue:
    """Keys by time. Each has one live entry in the heap, never later than the key's own time."""

    def __init__(self) -> None:
        self._time_ms: dict[SessionKey, int] = {}
        self._noted_ms: dict[SessionKey, int] = {}
        self._heap: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._time_ms)

    def put(self, key: SessionKey, time_ms: int) -> None:
        """Set a key's time. A later one than noted is looked up when the noted one comes."""
        self._time_ms[key] = time_ms
        noted_ms = self._noted_ms.get(key)
        if noted_ms is None or time_ms < noted_ms:
            self._noted_ms[key] = time_ms
            heappush(self._heap, (time_ms, key))
            self._compact()

    def remove(self, key: SessionKey) -> None:
        """Forget a key; its entry is dropped when it comes up."""
        self._time_ms.pop(key, None)
        self._noted_ms.pop(key, None)

    def first(self) -> _Entry | None:
        """The earliest time and its key, ties by key; None when there is none."""
        while self._heap:
            noted_ms, key = self._heap[0]
            time_ms = self._time_ms.get(key)
            if time_ms is None or self._noted_ms.get(key) != noted_ms:
                heappop(self._heap)
            elif time_ms != noted_ms:
                heappop(self._heap)
                self._noted_ms[key] = time_ms
                heappush(self._heap, (time_ms, key))
            else:
                return time_ms, key
        return None

    def _compact(self) -> None:
        """Dead entries are at most as many as live ones, and a thousand."""
        if len(self._heap) > 2 * len(self._time_ms) + 1000:
            self._noted_ms = dict(self._time_ms)
            self._heap = [(time_ms, key) for key, time_ms in self._time_ms.items()]
            heapify(self._heap)

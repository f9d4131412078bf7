"""The numbered records that one process writes into one session."""

from itertools import count

from fleetmeter.transport import Delivery


class Stream:
    """Gives sequence numbers from 1, and remembers how far they came. Never outlives a fork."""

    __slots__ = ("__weakref__", "_numbers", "delivery", "last", "writer_id")

    def __init__(self, writer_id: str) -> None:
        self.writer_id = writer_id
        self.delivery = Delivery()
        self.last = 0
        self._numbers = count(1)

    def number(self) -> int:
        """The next number. One step of the interpreter: safe in threads and signal handlers."""
        number = next(self._numbers)
        # Two threads may leave the lower one here: a heartbeat then announces one too few.
        self.last = number
        return number

"""What the SDK needs of a way to the log, and the accounts that every such way keeps."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import RLock
from typing import Protocol, Self


class Dropped(StrEnum):
    """Why a record was given up."""

    QUEUE_FULL = "queue_full"
    TOO_LARGE = "too_large"
    NOT_WRITTEN = "not_written"
    NOT_DELIVERED = "not_delivered"
    NO_SESSION = "no_session"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushResult:
    """What became of this process's records, counted since it started."""

    delivered: int
    """Records the brokers have acknowledged."""
    pending: int
    """Records still waiting in memory."""
    filtered: int
    """Events that `before_send` kept back."""
    dropped_by_reason: Mapping[str, int]
    """Records that were given up, by reason; see docs/sdk.md."""

    @property
    def dropped(self) -> int:
        """Records that were given up."""
        return sum(self.dropped_by_reason.values())

    @property
    def complete(self) -> bool:
        """Whether everything that was recorded has been acknowledged."""
        return not self.pending and not self.dropped


@dataclass(slots=True, eq=False)
class Delivery:
    """What is under way for one session in one process, and how far it came."""

    pending: int = 0
    offset: int | None = None
    """Highest acknowledged offset in the session's partition of events.v1."""


@dataclass(slots=True, eq=False)
class Accounts:
    """Counts of what was sent, by any number of threads. The lock may be taken again."""

    lock: RLock = field(default_factory=RLock)
    pending: int = 0
    pending_bytes: int = 0
    delivered: int = 0
    filtered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def result(self) -> FlushResult:
        """The counts as they stand."""
        with self.lock:
            return FlushResult(
                delivered=self.delivered,
                pending=self.pending,
                filtered=self.filtered,
                dropped_by_reason={str(reason): count for reason, count in self.dropped.items()},
            )


class Transport(Protocol):
    """A way to the log. Nothing here blocks for long, but for `flush` and `close`.

    After a fork the child calls `forked` and leaves the old one alone.
    """

    def start(self) -> None:
        """Makes ready; raises ConfigError where the settings cannot work. Again: harmless."""

    def send(self, key: bytes, value: bytes, delivery: Delivery) -> Dropped | None:
        """Takes a record over, or says why not. The caller counts what was not taken."""

    def send_reserved(self, key: bytes, value: bytes, delivery: Delivery) -> Dropped | None:
        """The same for a record that steers the session: a little room is kept for these."""

    def flush(self, done: Callable[[], bool], timeout_ms: int) -> None:
        """Hurries, until `done()` or the time is over."""

    def close(self, timeout_ms: int) -> None:
        """Flushes within the time, and lets go. Records after that start it again."""

    def forked(self, accounts: Accounts) -> Self:
        """A fresh one with the same settings, for the child of a fork."""

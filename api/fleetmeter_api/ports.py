"""What the api needs of the outside world, and nothing of how it is done."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fleetmeter_api.keys import Tenant
from fleetmeter_api.tail import Progress
from fleetmeter_schemas.records import Numbers, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionScope:
    """Where one session's events are: its id, the span of its times, and the end of the log."""

    session_id: str
    from_us: int
    to_us: int
    next: int


class Tail(Protocol):
    """The end of sessions.v1."""

    @property
    def partitions(self) -> int:
        """How many partitions there are; 0 before it is known."""

    def parts(self, project_id: str, session_id: str) -> list[Snapshot]:
        """The last snapshots of a session's parts, as far as they are here."""

    def progress(self, partition: int) -> Progress | None:
        """How far a partition has come; None before its first checkpoint."""

    def log_time_before(self, partition: int, offset: int) -> int | None:
        """Log time of the last checkpoint before an offset of sessions.v1; None: not known."""

    def floor(self, partition: int) -> int:
        """The offset of sessions.v1 before which snapshots may be missing here; 0: none are."""

    async def wait_until(self, partition: int, offset: int, timeout_seconds: float) -> bool:
        """Wait until the snapshots contain the record at a raw offset; whether they do."""


class Landing(Protocol):
    """How far the lander has come."""

    async def events_next(self, partition: int) -> int:
        """First raw offset of which the tables may lack the event; raises Unavailable."""

    async def snapshots_offset(self, partition: int) -> int:
        """Offset of sessions.v1 before which all snapshots are in the tables."""


class Store(Protocol):
    """The tables. Every method raises Unavailable when they cannot be read."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def parts(self, tenant: Tenant, session_ids: Sequence[str]) -> list[Snapshot]:
        """All parts of these sessions, without writers."""

    async def newest(self, tenant: Tenant, limit: int) -> list[str]:
        """Ids of the project's sessions, the last started first."""

    async def ids_after(self, tenant: Tenant, session_id: str, limit: int) -> list[str]:
        """Ids of the project's sessions behind this one, in the order of ids."""

    async def recompute(self, tenant: Tenant, scopes: Sequence[SessionScope]) -> dict[str, Numbers]:
        """By session: the sums over its unique events before `next`; no entry: it has none."""

    async def host_environment(self, tenant: Tenant, scope: SessionScope) -> str | None:
        """The attributes, JSON text, of the first session_started event that has any."""

    def events(
        self, tenant: Tenant, scope: SessionScope, kind: str
    ) -> AsyncGenerator[Sequence[dict[str, Any]], None]:
        """The session's events of one kind by start, in batches; columns: statements.EVENTS."""


class Keys(Protocol):
    """Who asks."""

    async def tenant(self, api_key: str) -> Tenant | None:
        """Whose key it is, or None; raises Unavailable when that cannot be told."""


class Pulse(Protocol):
    """How a background reader is doing."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""

    @property
    def has_caught_up(self) -> bool:
        """Whether it has once come to the end."""

    @property
    def is_connected(self) -> bool:
        """Whether a broker answered when last asked."""

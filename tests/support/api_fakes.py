"""Hand-written stand-ins for what the api asks, and a client that speaks to it in-process."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from fleetmeter_api.app import Ports, create_app
from fleetmeter_api.keys import ProjectId, Tenant
from fleetmeter_api.ports import SessionScope
from fleetmeter_api.settings import ApiSettings
from fleetmeter_api.tail import Progress
from fleetmeter_schemas.errors import Unavailable
from fleetmeter_schemas.records import NUMBER_NAMES, Numbers, Snapshot

NOW_MS = 1_760_000_010_000
START_US = 1_760_000_000_000_000
PROJECT = "b7a4e1d2-0c63-4f95-8e21-6a9d3c5b7f10"
OTHER_PROJECT = "00000000-0000-4000-8000-000000000001"
SESSION = "3f2c6a9e-8d10-4b57-9a34-5d1c0e7f2b88"
KEY = "11111111-1111-4111-8111-111111111111"
OTHER_KEY = "22222222-2222-4222-8222-222222222222"


def numbers(**values: int) -> Numbers:
    """Numbers that are zero but for those given."""
    return cast("Numbers", dict.fromkeys(NUMBER_NAMES, 0) | values)


def snapshot(**values: Any) -> Snapshot:
    """A plain open session with two events, changed by keyword."""
    base: dict[str, Any] = {
        "project_id": PROJECT,
        "session_id": SESSION,
        "part": 10,
        "partition": 0,
        "next": 20,
        "log_time_ms": NOW_MS - 9_000,
        "state": "open",
        "revision": 1,
        "end_state": "Indeterminate",
        "end_state_said": "",
        "end_state_reason": "",
        "started_at_us": START_US,
        "ended_at_us": None,
        "last_event_at_us": START_US + 1_500_000,
        "closed_at_ms": None,
        "closed_heard_ms": None,
        "heard_ms": 0,
        "idle_timeout_ms": 1_800_000,
        "name": "",
        "user_id": "",
        "conversation_id": "",
        "video": "",
        "tags": [],
        "agents": {},
        "numbers": numbers(events=2, llm_calls=1, tool_calls=1, cost_pico_usd=1_500_000_000),
        "late_events": 0,
        "complete": None,
        "flags": [],
        "writers": [],
    }
    return cast("Snapshot", base | values)


def row(**values: Any) -> dict[str, Any]:
    """A row of the events table as the store gives it, changed by keyword."""
    base: dict[str, Any] = {
        "event_id": "e1",
        "session_id": SESSION,
        "revision": 0,
        "kind": "llm",
        "name": "",
        "provider": "",
        "model": "",
        "service_tier": "",
        "start_us": START_US,
        "end_us": None,
        "input_tokens": None,
        "output_tokens": None,
        "cache_read_tokens": None,
        "cache_write_5m_tokens": None,
        "cache_write_1h_tokens": None,
        "reasoning_tokens": None,
        "time_to_first_token_us": None,
        "cost_pico_usd": None,
        "cost_status": "none",
        "price_id": "",
        "error_type": "",
        "user_id": "",
        "conversation_id": "",
        "agent_id": "",
        "parent_id": "",
        "trace_id": "",
        "span_id": "",
        "input": "",
        "output": "",
        "logs": "",
        "attributes": "",
    }
    return base | values


class FakeKeys:
    """Two keys of two projects; `away` makes it say that it cannot tell."""

    def __init__(self) -> None:
        self.away = False

    async def tenant(self, api_key: str) -> Tenant | None:
        """Whose key it is."""
        if self.away:
            raise Unavailable("keys")
        project_id = {KEY: PROJECT, OTHER_KEY: OTHER_PROJECT}.get(api_key)
        return None if project_id is None else Tenant(project_id=ProjectId(project_id))


class FakeTail:
    """Snapshots and progress as a test sets them; one partition."""

    def __init__(self) -> None:
        self.partitions = 1
        self.held: list[Snapshot] = []
        self.at: Progress | None = Progress(next=30, log_time_ms=NOW_MS - 500)
        self.begins_at = 0
        self.checkpoint_at = 999
        self.waits: list[tuple[int, int, float]] = []
        self.asked: asyncio.Event | None = None
        self.until: asyncio.Event | None = None

    def parts(self, project_id: str, session_id: str) -> list[Snapshot]:
        """What is held of a session."""
        return [
            one
            for one in self.held
            if (one["project_id"], one["session_id"]) == (project_id, session_id)
        ]

    def progress(self, partition: int) -> Progress | None:
        """How far the only partition has come."""
        assert partition == 0
        return self.at

    def log_time_before(self, partition: int, offset: int) -> int | None:
        """The log time of the only checkpoint."""
        assert partition == 0
        return self.at.log_time_ms if self.at and offset > self.checkpoint_at else None

    def floor(self, partition: int) -> int:
        """Where it begins."""
        assert partition == 0
        return self.begins_at

    async def wait_until(self, partition: int, offset: int, timeout_seconds: float) -> bool:
        """Tell whether it is there, at once or when `until` is set; sets `asked`."""
        self.waits.append((partition, offset, timeout_seconds))
        if self.asked is not None:
            self.asked.set()
        if self.until is not None:
            await self.until.wait()
        return self.at is not None and self.at.next > offset


class FakeLanding:
    """The lander's positions as a test sets them."""

    def __init__(self) -> None:
        self.away = False
        self.events = 1_000
        self.snapshots = 1_000
        self.asked = 0

    async def events_next(self, partition: int) -> int:
        """First raw offset that may be missing."""
        assert partition == 0
        if self.away:
            raise Unavailable("landing")
        return self.events

    async def snapshots_offset(self, partition: int) -> int:
        """Offset of sessions.v1 that was landed up to."""
        assert partition == 0
        self.asked += 1
        if self.away:
            raise Unavailable("landing")
        return self.snapshots


class FakeStore:
    """Tables in memory; `away` makes every question fail."""

    def __init__(self) -> None:
        self.away = False
        self.snapshots: list[Snapshot] = []
        self.rows: list[dict[str, Any]] = []
        self.sums: dict[str, Numbers] = {}
        self.attributes: str | None = None
        self.breaks_after: int | None = None
        self.scopes: list[SessionScope] = []
        self.closed_streams = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def ping(self) -> None:
        """Answer."""
        self._check()

    async def parts(self, tenant: Tenant, session_ids: Sequence[str]) -> list[Snapshot]:
        """What is stored of these sessions; `meanwhile` happens while it is asked."""
        self._check()
        self.meanwhile()
        return [one for one in self._of(tenant) if one["session_id"] in session_ids]

    async def newest(self, tenant: Tenant, limit: int) -> list[str]:
        """Ids by start."""
        self._check()
        newest = sorted(self._of(tenant), key=lambda one: -one["started_at_us"])
        return list(dict.fromkeys(one["session_id"] for one in newest))[:limit]

    async def ids_after(self, tenant: Tenant, session_id: str, limit: int) -> list[str]:
        """Ids in order."""
        self._check()
        return sorted({i["session_id"] for i in self._of(tenant) if i["session_id"] > session_id})[
            :limit
        ]

    async def recompute(self, tenant: Tenant, scopes: Sequence[SessionScope]) -> dict[str, Numbers]:
        """The sums that a test set."""
        self._check()
        assert tenant.project_id == PROJECT
        self.scopes.extend(scopes)
        return {
            one.session_id: self.sums[one.session_id]
            for one in scopes
            if one.session_id in self.sums
        }

    async def host_environment(self, tenant: Tenant, scope: SessionScope) -> str | None:
        """The attributes that a test set."""
        self._check()
        assert (tenant.project_id, scope.session_id) == (PROJECT, SESSION)
        return self.attributes

    async def events(
        self, tenant: Tenant, scope: SessionScope, kind: str
    ) -> AsyncGenerator[Sequence[dict[str, Any]], None]:
        """The rows of a kind, one in a batch."""
        assert tenant.project_id == PROJECT
        try:
            for count, one in enumerate(self.rows):
                self._check()
                if count == self.breaks_after:
                    raise Unavailable("broken off")
                if (one["session_id"], one["kind"]) == (scope.session_id, kind):
                    yield [one]
                    await asyncio.sleep(0)
        finally:
            self.closed_streams += 1

    def _of(self, tenant: Tenant) -> list[Snapshot]:
        return [one for one in self.snapshots if one["project_id"] == tenant.project_id]

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the store does not answer")


@dataclass
class FakePulse:
    """A reader that does as a test says."""

    is_alive: bool = True
    has_caught_up: bool = True
    is_connected: bool = True


@dataclass
class FakePart:
    """Something that is started and stopped."""

    calls: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Remember it."""
        self.calls.append("start")

    def stop(self) -> None:
        """Remember it."""
        self.calls.append("stop")


class World:
    """The api over stand-ins."""

    def __init__(self, **settings: Any) -> None:
        self.keys = FakeKeys()
        self.tail = FakeTail()
        self.landing = FakeLanding()
        self.store = FakeStore()
        self.pulse = FakePulse()
        self.part = FakePart()
        ports = Ports(
            keys=self.keys,
            tail=self.tail,
            landing=self.landing,
            store=self.store,
            now_ms=lambda: NOW_MS,
            registry=CollectorRegistry(),
            readers={"sessions": self.pulse},
            parts=(self.part,),
        )
        self.app = create_app(ApiSettings(**settings), ports)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client with the project's key; the app runs as long as it does."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx.AsyncClient(
                transport=transport,
                base_url="http://api",
                headers={"X-Agentops-Api-Key": KEY},
            ) as client,
        ):
            yield client

    def get(self, path: str, **options: Any) -> httpx.Response:
        """The answer to one request."""

        async def ask() -> httpx.Response:
            async with self.client() as client:
                return await client.get(path, **options)

        # Tracebacks made for people take seconds.
        with capture_logs():
            return asyncio.run(ask())

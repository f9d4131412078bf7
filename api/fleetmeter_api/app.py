"""Wires the service in one place; reads nothing from the environment."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Protocol

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from fleetmeter_api import errors, ops_routes, routes
from fleetmeter_api.export import Exporter
from fleetmeter_api.kafka import Follower
from fleetmeter_api.keys import Keyring
from fleetmeter_api.keys import Keys as ReadKeys
from fleetmeter_api.landing import LanderCommits
from fleetmeter_api.lookup import Lookup
from fleetmeter_api.metrics import RequestMetrics, StoreMetrics, TailMetrics
from fleetmeter_api.middleware import Surroundings
from fleetmeter_api.ports import Keys, Landing, Pulse, Store, Tail
from fleetmeter_api.settings import ApiSettings
from fleetmeter_api.store import ClickHouseStore
from fleetmeter_api.tail import Tail as FollowedTail
from fleetmeter_api.verify import Auditor
from fleetmeter_schemas.topics import CONTROL, SESSIONS

_DESCRIPTION: Final = """\
What a fleet of AI agents did, what it cost and how it ended.

Every answer about sessions carries `as_of`, the log time up to which it contains everything, and
`lag_ms`. All errors have one shape: `{"error": {"code", "message", "request_id"}}`.
"""


class Part(Protocol):
    """Something that runs beside the requests."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End, within seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All that the service has to do with, real or not. `parts` run as long as it does."""

    keys: Keys
    tail: Tail
    landing: Landing
    store: Store
    now_ms: Callable[[], int]
    registry: CollectorRegistry
    readers: dict[str, Pulse] = field(default_factory=dict)
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class _Closing:
    """Ends what has nothing to begin."""

    close: Callable[[], None]

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Close it."""
        self.close()


def real_ports(settings: ApiSettings, now_ms: Callable[[], int]) -> Ports:
    """The real Kafka and the real store; asks nothing before the parts are started."""
    registry = CollectorRegistry()
    keyring = Keyring()
    tail = FollowedTail(settings.tail_sessions_max, settings.tail_bytes_max)
    following_keys = Follower(
        settings,
        CONTROL.full_name(settings.namespace),
        keyring,
        partitions=lambda: 1,
        records_back=None,
    )
    following_sessions = Follower(
        settings,
        SESSIONS.full_name(settings.namespace),
        tail,
        partitions=lambda: keyring.partitions,
        records_back=settings.tail_records_back,
    )
    landing = LanderCommits(settings)
    store = ClickHouseStore(settings, StoreMetrics(registry))
    TailMetrics(registry).follow(
        sessions=lambda: tail.sessions,
        size_bytes=lambda: tail.size_bytes,
        records=lambda: tail.records,
        undecodable=lambda: tail.undecodable,
    )
    return Ports(
        keys=ReadKeys(keyring, following_keys, now_ms),
        tail=tail,
        landing=landing,
        store=store,
        now_ms=now_ms,
        registry=registry,
        readers={"keys": following_keys, "sessions": following_sessions},
        parts=(_Closing(store.close), _Closing(landing.close), following_keys, following_sessions),
    )


def create_app(settings: ApiSettings, ports: Ports) -> FastAPI:
    """The service over these ports."""
    app = FastAPI(
        title="fleetmeter",
        version=_version(),
        description=_DESCRIPTION,
        lifespan=_lifespan(ports.parts),
    )
    lookup = Lookup(ports.tail, ports.store, ports.landing, ports.now_ms)
    metrics = RequestMetrics(ports.registry)
    app.state.services = routes.Services(
        keys=ports.keys,
        lookup=lookup,
        exporter=Exporter(lookup, ports.store, settings.api_exports_max),
        auditor=Auditor(lookup, ports.store),
        store=ports.store,
        metrics=metrics,
    )
    app.state.vitals = ops_routes.Vitals(
        readers=ports.readers, store=ports.store, registry=ports.registry
    )
    app.include_router(routes.router)
    app.include_router(ops_routes.router)
    app.add_middleware(Surroundings, metrics=metrics, requests_max=settings.api_requests_max)
    errors.install(app)
    return app


def _lifespan(
    parts: Sequence[Part],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Start the readers before a request is accepted; requests wait for no broker."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        for part in parts:
            part.start()
        try:
            yield
        finally:
            for part in reversed(parts):
                part.stop()

    return lifespan


def _version() -> str:
    try:
        return version("fleetmeter")
    except PackageNotFoundError:
        return "0"

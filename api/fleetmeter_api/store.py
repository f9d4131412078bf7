"""The one place that speaks to ClickHouse for the api, and where its errors are mapped.

Every statement takes its values as parameters; what it says is in statements.py.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import IOBase
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import clickhouse_connect
import orjson
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error
from urllib3.exceptions import HTTPError

from fleetmeter_api import statements
from fleetmeter_api.export_rows import parsed
from fleetmeter_api.keys import Tenant
from fleetmeter_api.metrics import StoreMetrics
from fleetmeter_api.ports import SessionScope
from fleetmeter_api.sessions import added
from fleetmeter_api.settings import ApiSettings
from fleetmeter_schemas.errors import Unavailable
from fleetmeter_schemas.records import NUMBER_NAMES, Kind, Numbers, Snapshot

CHUNK_BYTES: Final = 1_000_000
ROWS: Final = "JSONEachRow"
_READ_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "output_format_json_quote_64bit_integers": 0,
        # Payloads are bytes of writers: what is not UTF-8 in them must not break the JSON.
        "output_format_json_validate_utf8": 1,
        "output_format_json_escape_forward_slashes": 0,
    }
)
# A long session is sorted on disk, and read in small blocks: its payloads do not fit in memory.
_STREAM_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        **_READ_SETTINGS,
        "max_bytes_before_external_sort": 64_000_000,
        "max_block_size": 1_000,
        "max_threads": 2,
    }
)
# Error codes (src/Common/ErrorCodes.cpp) that say that the statement is wrong: our mistake.
_OUR_MISTAKES: Final = frozenset({36, 42, 43, 46, 47, 62, 115, 386, 456, 457})

T = TypeVar("T")
log = structlog.get_logger()


class ClickHouseStore:
    """The tables, through a bounded number of threads; opens its connection when first asked."""

    def __init__(self, settings: ApiSettings, metrics: StoreMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(settings.store_connections, thread_name_prefix="store")
        self._connecting = threading.Lock()
        self._client: Client | None = None

    def close(self) -> None:
        """Let queries finish, and close the connections."""
        self._pool.shutdown(cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def ping(self) -> None:
        """Return when the store answers; raises Unavailable."""
        await self._rows("ping", "SELECT 1 AS one", {})

    async def parts(self, tenant: Tenant, session_ids: Sequence[str]) -> list[Snapshot]:
        """All parts of these sessions, without writers."""
        given = {"project_id": tenant.project_id, "session_ids": list(session_ids)}
        rows = await self._rows("parts", statements.PARTS, given)
        return [_snapshot(row) for row in own(rows, tenant, session_ids)]

    async def newest(self, tenant: Tenant, limit: int) -> list[str]:
        """Ids of the project's sessions, the last started first."""
        given = {"project_id": tenant.project_id, "limit": limit}
        rows = await self._rows("newest", statements.NEWEST, given)
        return [row["session_id"] for row in own(rows, tenant)]

    async def ids_after(self, tenant: Tenant, session_id: str, limit: int) -> list[str]:
        """Ids of the project's sessions behind this one, in the order of ids."""
        given = {"project_id": tenant.project_id, "session_id": session_id, "limit": limit}
        rows = await self._rows("ids_after", statements.IDS_AFTER, given)
        return [row["session_id"] for row in own(rows, tenant)]

    async def recompute(self, tenant: Tenant, scopes: Sequence[SessionScope]) -> dict[str, Numbers]:
        """By session: the sums over its unique events before `next`, corrections included."""
        given = {
            "project_id": tenant.project_id,
            "session_ids": [scope.session_id for scope in scopes],
            "nexts": [scope.next for scope in scopes],
        }
        span = {
            "from_us": min(scope.from_us for scope in scopes),
            "to_us": max(scope.to_us for scope in scopes),
        }
        sums = await self._rows("recompute", statements.RECOMPUTE, given | span)
        corrections = await self._rows("corrections", statements.CORRECTIONS, given)
        asked = [scope.session_id for scope in scopes]
        found = {row["session_id"]: _sums(row) for row in own(sums, tenant, asked)}
        for row in own(corrections, tenant, asked):
            known = found.get(row["session_id"], _numbers({}))
            found[row["session_id"]] = added(known, _numbers(parsed(row["attributes"])))
        return found

    async def host_environment(self, tenant: Tenant, scope: SessionScope) -> str | None:
        """The attributes, JSON text, of the first session_started event that has any."""
        given = _given(tenant, scope, Kind.SESSION_STARTED)
        rows = await self._rows("host_environment", statements.HOST_ENVIRONMENT, given)
        first = own(rows, tenant, [scope.session_id])[:1]
        return first[0]["attributes"] if first else None

    async def events(
        self, tenant: Tenant, scope: SessionScope, kind: str
    ) -> AsyncGenerator[Sequence[dict[str, Any]], None]:
        """The session's events of one kind by start, in batches of about CHUNK_BYTES."""
        given = _given(tenant, scope, kind)
        stream = await self._run("events", lambda: self._stream(statements.EVENTS, given))
        batches = _batches(stream)
        try:
            while (batch := await self._run("events", lambda: next(batches, None))) is not None:
                yield own(batch, tenant, [scope.session_id])
        finally:
            stream.close()

    async def _rows(
        self, name: str, statement: str, parameters: dict[str, Any]
    ) -> list[dict[str, Any]]:
        answer = await self._run(name, lambda: self._query(statement, parameters))
        return [orjson.loads(line) for line in answer.splitlines()]

    async def _run(self, name: str, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        with self._metrics.query_seconds.labels(name).time():
            try:
                return await loop.run_in_executor(self._pool, work)
            except (ClickHouseError, HTTPError) as error:
                self._metrics.failures.labels(name).inc()
                raise mapped(error) from error

    def _query(self, statement: str, parameters: dict[str, Any]) -> bytes:
        settings = {**_READ_SETTINGS, "max_execution_time": self._settings.store_timeout_ms / 1000}
        return self._connected().raw_query(statement, parameters, settings, ROWS)

    def _stream(self, statement: str, parameters: dict[str, Any]) -> IOBase:
        answer = self._connected().raw_stream(statement, parameters, dict(_STREAM_SETTINGS), ROWS)
        return cast("IOBase", answer)

    def _connected(self) -> Client:
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Client:
        return clickhouse_connect.get_client(
            dsn=self._settings.store_url,
            database=self._settings.namespace,
            username=self._settings.store_user,
            password=self._settings.store_password.get_secret_value(),
            connect_timeout=2,
            send_receive_timeout=max(1, self._settings.store_timeout_ms // 1000),
            # Loopback and data centres are faster than a compressor.
            compress=False,
            query_retries=0,
            autogenerate_session_id=False,
        )


def own(
    rows: list[dict[str, Any]], tenant: Tenant, session_ids: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The rows, which are the project's own, and of the sessions that were asked for.

    The statements see to that; should an answer ever be another query's, nobody is told of it.
    """
    asked = None if session_ids is None else frozenset(session_ids)
    for row in rows:
        is_asked = asked is None or row["session_id"] in asked
        if row["project_id"] != tenant.project_id or not is_asked:
            raise AssertionError("the store answered with a row that was not asked for")
    return rows


def mapped(error: ClickHouseError | HTTPError) -> Exception:
    """Return our error for ClickHouse's: all is passing but what says that our SQL is wrong."""
    code = error.code if isinstance(error, Error) else None
    text = str(error).strip().split("\n")[0][:300]
    if code in _OUR_MISTAKES:
        return AssertionError(f"the store refuses our statement: {text}")
    log.warning("store.unavailable", error=text)
    return Unavailable("the store does not answer")


def _given(tenant: Tenant, scope: SessionScope, kind: str) -> dict[str, Any]:
    return {
        "project_id": tenant.project_id,
        "session_id": scope.session_id,
        "from_us": scope.from_us,
        "to_us": scope.to_us,
        "next": scope.next,
        "kind": str(kind),
    }


def _batches(stream: IOBase) -> Iterator[list[dict[str, Any]]]:
    """The rows of a stream of JSON lines, a chunk's worth at a time."""
    rest = b""
    while chunk := cast("Any", stream).read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [_row(line) for line in lines]
    if rest:
        yield [_row(rest)]


def _row(line: bytes) -> dict[str, Any]:
    """One row; an error that breaks off a stream stands there in its place."""
    try:
        row: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        text = line[:300].decode(errors="replace")
        log.warning("store.stream_broken", error=text)
        raise Unavailable("the store broke off its answer") from error
    return row


def _snapshot(row: dict[str, Any]) -> Snapshot:
    renamed = {
        "log_time_ms": row.pop("log_time"),
        "started_at_us": row.pop("started_at"),
        "ended_at_us": row.pop("ended_at"),
        "last_event_at_us": row.pop("last_event_at"),
        "closed_at_ms": row.pop("closed_at"),
        "writers": [],
    }
    return cast("Snapshot", row | renamed)


def _sums(row: dict[str, Any]) -> Numbers:
    return cast("Numbers", {name: int(row[f"sum_{name}"]) for name in NUMBER_NAMES})


def _numbers(given: dict[str, Any]) -> Numbers:
    """Numbers as a writer gave them: what is no integer adds nothing, and shows as a difference."""
    found = {name: given.get(name, 0) for name in NUMBER_NAMES}
    whole = {name: value if type(value) is int else 0 for name, value in found.items()}
    return cast("Numbers", whole)

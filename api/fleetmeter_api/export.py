"""Streams one session as JSON, from the tables, in constant memory. Shapes: export_rows.py."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from starlette.responses import StreamingResponse
from starlette.types import Send

from fleetmeter_api.export_rows import LISTS, agents_part, exported, session_part
from fleetmeter_api.keys import Tenant
from fleetmeter_api.lookup import Found, Lookup
from fleetmeter_api.ports import SessionScope, Store
from fleetmeter_api.sessions import stats
from fleetmeter_schemas.errors import Overloaded, Unavailable
from fleetmeter_schemas.records import Snapshot

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is known before the first byte is sent."""

    tenant: Tenant
    found: Found
    attributes: str | None
    complete: bool


class Exporter:
    """Prepares and streams exports, a bounded number at a time."""

    def __init__(self, lookup: Lookup, store: Store, exports_max: int) -> None:
        self._lookup = lookup
        self._store = store
        self._slots = asyncio.Semaphore(exports_max)

    async def prepare(self, tenant: Tenant, found: Found, wait_seconds: float) -> Export:
        """Wait until the session has landed; raises Unavailable when the store is away."""
        complete = await self._has_landed(found.session, wait_seconds)
        scope = scope_of(found.session)
        attributes = await self._store.host_environment(tenant, scope)
        return Export(tenant=tenant, found=found, attributes=attributes, complete=complete)

    def reserve(self) -> None:
        """Raise Overloaded when as many exports as allowed are under way."""
        if self._slots.locked():
            raise Overloaded("exports")

    async def stream(self, export: Export) -> AsyncIterator[bytes]:
        """The export's JSON, piece by piece; raises Unavailable where the store breaks off."""
        scope = scope_of(export.found.session)
        async with self._slots:
            yield _head(export)
            for name, kind in LISTS.items():
                yield f',"{name}":['.encode()
                rows = self._store.events(export.tenant, scope, kind)
                async with aclosing(_pieces(rows)) as pieces:
                    async for piece in pieces:
                        yield piece
                yield b"]"
            yield b"}"

    async def _has_landed(self, session: Snapshot, wait_seconds: float) -> bool:
        try:
            return await self._lookup.has_landed(session, wait_seconds)
        except Unavailable:
            return False


class ExportResponse(StreamingResponse):
    """A streamed answer that ends only where its content ends.

    What breaks off in the middle is left without its last chunk: the server closes the
    connection, and nobody takes a part for the whole.
    """

    media_type = "application/json"

    async def stream_response(self, send: Send) -> None:
        """Send the content, and its end only after all of it."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            async for piece in self.body_iterator:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Unavailable as error:
            log.warning("export.broken_off", error=str(error))
            return
        await send({"type": "http.response.body", "body": b""})


def scope_of(session: Snapshot) -> SessionScope:
    """Where the events of a session are."""
    return SessionScope(
        session_id=session["session_id"],
        from_us=session["started_at_us"],
        to_us=max(session["started_at_us"], session["last_event_at_us"]),
        next=session["next"],
    )


def _head(export: Export) -> bytes:
    session = export.found.session
    counted = stats(session, export.found.as_of)
    about = session_part(session, counted, export.attributes, complete=export.complete)
    parts = {"session": about, "stats": counted, "agents": agents_part(session)}
    return orjson.dumps(parts)[:-1]


async def _pieces(
    batches: AsyncGenerator[Sequence[dict[str, Any]], None],
) -> AsyncGenerator[bytes, None]:
    """The rows of one list, joined by commas."""
    comma = b""
    async with aclosing(batches):
        async for batch in batches:
            yield comma + b",".join(orjson.dumps(exported(row)) for row in batch)
            comma = b","

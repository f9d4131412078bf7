"""Runs one statement in a worker thread and relays its result to the client as it comes.

The engine writes into a pipe, the event loop reads it and sends; so a result of any size takes a
few buffers, and a client that is gone ends its query. Parses nothing.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import anyio
import anyio.to_thread
import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from fleetmeter_local.store_engine import Counts, Engine, EngineError, Kind, execute, kind, read
from fleetmeter_local.store_request import Context, result_format

# Up to here a result waits for its end, so that a late error still becomes a status 500.
HELD_BYTES_MAX = 1024 * 1024
READ_BYTES_MAX = 256 * 1024
CANCEL_AGAIN_SECONDS = 0.5

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What the worker thread has found out so far."""

    kind: Kind | None = None
    body: bytes = b""
    counts: Counts = field(default_factory=Counts)
    error: EngineError | None = None
    finished: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """An ASGI response: the result of `sql`."""

    engine: Engine
    limiter: anyio.CapacityLimiter
    sql: str
    context: Context
    answer: Callable[[bytes, Counts, str | None], Response]
    refuse: Callable[[EngineError], Response]
    token: str = field(default_factory=lambda: uuid4().hex)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the statement and send what it gives."""
        outcome = Outcome()
        reading, writing = os.pipe()
        source, pipe = await _open(reading)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._work, outcome, writing)
                group.start_soon(self._watch, outcome, receive, pipe, group.cancel_scope)
                await self._send(outcome, source, scope, receive, send)
                group.cancel_scope.cancel()
        finally:
            pipe.close()

    async def _work(self, outcome: Outcome, writing: int) -> None:
        try:
            await anyio.to_thread.run_sync(self._run, outcome, writing, limiter=self.limiter)
        except EngineError as error:
            outcome.error = error
        finally:
            os.close(writing)
            outcome.finished.set()

    def _run(self, outcome: Outcome, writing: int) -> None:
        with self.engine.connection(self.context, self.token) as connection:
            outcome.kind = kind(connection, self.sql)
            if outcome.kind is Kind.READ:
                outcome.counts = read(connection, self.sql, self.context, writing)
            else:
                outcome.body, outcome.counts = execute(connection, self.sql, self.context)

    async def _watch(
        self,
        outcome: Outcome,
        receive: Receive,
        pipe: asyncio.ReadTransport,
        scope: anyio.CancelScope,
    ) -> None:
        """End a reading statement whose client is gone; let any other one finish."""
        while (await receive())["type"] != "http.disconnect":
            pass
        pipe.close()
        while outcome.kind is not Kind.OTHER and not outcome.finished.is_set():
            # Again, since the statement may not have been running yet.
            await anyio.to_thread.run_sync(self.engine.cancel, self.token)
            with anyio.move_on_after(CANCEL_AGAIN_SECONDS):
                await outcome.finished.wait()
        scope.cancel()

    async def _send(
        self,
        outcome: Outcome,
        source: asyncio.StreamReader,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        held = bytearray()
        while len(held) <= HELD_BYTES_MAX and (piece := await source.read(READ_BYTES_MAX)):
            held += piece
        if len(held) > HELD_BYTES_MAX:
            await self._stream(outcome, bytes(held), source, send)
            return
        await outcome.finished.wait()
        if outcome.error:
            await self.refuse(outcome.error)(scope, receive, send)
            return
        await self._answer(outcome, bytes(held))(scope, receive, send)

    def _answer(self, outcome: Outcome, held: bytes) -> Response:
        if outcome.kind is Kind.READ:
            return self.answer(held, outcome.counts, self._format())
        return self.answer(outcome.body, outcome.counts, None)

    def _format(self) -> str:
        return result_format(self.sql, self.context.format)

    async def _stream(
        self, outcome: Outcome, held: bytes, source: asyncio.StreamReader, send: Send
    ) -> None:
        head = self.answer(b"", Counts(), self._format())
        del head.headers["content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": head.raw_headers})
        await send(_piece(held))
        while piece := await source.read(READ_BYTES_MAX):
            await send(_piece(piece))
        await outcome.finished.wait()
        if outcome.error:
            # Without its last chunk: the server then closes the connection, and the client knows.
            log.warning("store.result_broken_off", code=outcome.error.code)
            return
        await send({"type": "http.response.body", "body": b""})


def _piece(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _open(reading: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    """Return the reading end of a pipe as a stream, and what closes it."""
    loop = asyncio.get_running_loop()
    source = asyncio.StreamReader(limit=READ_BYTES_MAX)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(source), os.fdopen(reading, "rb", 0)
    )
    return source, transport

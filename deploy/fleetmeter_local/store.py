"""The store process: chDB behind the ClickHouse HTTP interface on 127.0.0.1; not a sandbox.

Whoever knows the password may run any SQL, also such that reads and writes files. uvicorn and
starlette serve it, since the api brings them anyway: one event loop watches every client (a query
ends when its client goes), a bounded number of threads runs the engine.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fleetmeter_local import store_request
from fleetmeter_local.ports import HOST
from fleetmeter_local.store_encoding import Decoder
from fleetmeter_local.store_engine import Counts, Engine, EngineError
from fleetmeter_local.store_landing import Landing, RowsMissing
from fleetmeter_local.store_relay import Relay
from fleetmeter_local.store_request import Context, Insert
from fleetmeter_schemas.errors import ConfigError

READERS_MAX = 6
WRITERS_MAX = 4
REQUESTS_MAX = 128
PIECE_BYTES = 1024 * 1024
STATEMENT_BYTES_MAX = 16 * 1024 * 1024
STOP_SECONDS_MAX = 20
AUTHENTICATION_FAILED = 516
BAD_ARGUMENTS = 36
USER_DEFAULT = "fleetmeter"
EXIT_CRASHED = 70
# The engine catches these to write a report, and then waits for ever, dead inside.
FATAL_SIGNALS = (
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """What every request needs."""

    engine: Engine
    credentials: tuple[str, str]
    readers: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(READERS_MAX)
    )
    # Apart from the readers, so that long queries never keep rows from landing.
    writers: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(WRITERS_MAX)
    )

    async def handle(self, request: Request) -> Response | Relay:
        """Answer one request to `/`."""
        parameters = dict(request.query_params)
        given = store_request.credentials(request.headers, parameters)
        if not store_request.same(given, self.credentials):
            text = f"Code: {AUTHENTICATION_FAILED}. DB::Exception: Authentication failed"
            return failure(403, AUTHENTICATION_FAILED, text)
        try:
            return await self._run(request, parameters)
        except EngineError as error:
            return refusal(error)
        except (ValueError, UnicodeError) as error:
            return failure(400, BAD_ARGUMENTS, f"Code: {BAD_ARGUMENTS}. DB::Exception: {error}")

    async def _run(self, request: Request, parameters: dict[str, str]) -> Response | Relay:
        body = Body(request)
        head = await body.piece()
        statement = parameters.get("query", "").encode()
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            fields = store_request.form_fields(
                request.headers["content-type"], head + await body.rest()
            )
            parameters.update(fields)
            statement, head = fields.get("query", "").encode(), b""
        text = b"\n".join(part for part in (statement, head) if part)
        context = store_request.context(parameters.items())
        if store_request.starts_insert(text) and (found := store_request.split_insert(text)):
            return await self._insert(*found, context, body)
        return Relay(
            engine=self.engine,
            limiter=self.readers,
            sql=(text + await body.rest()).decode(),
            context=context,
            answer=success,
            refuse=refusal,
        )

    async def _insert(self, into: Insert, first: bytes, context: Context, body: "Body") -> Response:
        held = [first] if first else []

        async def pieces() -> bytes:
            try:
                return held.pop() if held else await body.piece()
            except (ClientDisconnect, ValueError) as error:
                raise RowsMissing(str(error)) from error

        landing = Landing(
            engine=self.engine, limiter=self.writers, into=into, context=context, pieces=pieces
        )
        try:
            return success(b"", await landing.run(), None)
        except RowsMissing as error:
            raise ValueError(f"the rows did not come to an end: {error}") from error
        finally:
            await body.drain()


class Body:
    """A request's body, decompressed, in pieces of about a megabyte."""

    def __init__(self, request: Request) -> None:
        self._chunks = request.stream()
        self._decoder = Decoder(request.headers.get("content-encoding", ""))

    async def piece(self) -> bytes:
        """Return the next piece; an empty one is the end.

        Raises:
            ValueError: the bytes are not in the encoding that the request names.
            ClientDisconnect: the client went away before the end.
        """
        gathered = bytearray()
        async for chunk in self._chunks:
            gathered += self._decoder.decode(chunk)
            if len(gathered) >= PIECE_BYTES:
                return bytes(gathered)
        self._decoder.close()
        return bytes(gathered)

    async def drain(self) -> None:
        """Read what is left unseen: a client that still writes would not hear the answer."""
        with suppress(ClientDisconnect):
            async for _ in self._chunks:
                pass

    async def rest(self) -> bytes:
        """Return all that is left of a statement, within bounds."""
        gathered = bytearray()
        while piece := await self.piece():
            gathered += piece
            if len(gathered) > STATEMENT_BYTES_MAX:
                raise ValueError(f"a statement has at most {STATEMENT_BYTES_MAX} bytes")
        return bytes(gathered)


def success(body: bytes, counts: Counts, result_format: str | None) -> Response:
    """Return status 200 with the headers that ClickHouse's clients look at."""
    summary = {
        "read_rows": str(counts.read_rows),
        "written_rows": str(counts.written_rows),
        "written_bytes": str(counts.written_bytes),
    }
    headers = {"X-ClickHouse-Summary": json.dumps(summary), "X-ClickHouse-Timezone": "UTC"}
    if result_format is not None:
        headers["X-ClickHouse-Format"] = result_format
    return Response(body, headers=headers, media_type="application/octet-stream")


def refusal(error: EngineError) -> Response:
    """Return what the engine said, as ClickHouse's status 500; end with an engine that died."""
    log.info("store.statement_failed", code=error.code)
    if error.engine_died:
        log.error("store.engine_died", why=str(error))
        # Not in order: nothing that waits for the engine would come to an end.
        os._exit(EXIT_CRASHED)
    return failure(500, error.code, str(error))


def failure(status: int, code: int, text: str) -> Response:
    """Return an error in ClickHouse's form."""
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    return PlainTextResponse(f"{text}\n", status_code=status, headers=headers)


async def ping(_: Request) -> Response:
    """Say that the store is there; the only answer without a password."""
    return PlainTextResponse("Ok.\n")


def create_app(folder: Path, credentials: tuple[str, str]) -> Starlette:
    """Open the engine's folder and return the application that serves it."""
    engine = Engine(folder)
    store = Store(engine=engine, credentials=credentials)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        log.info("store.started")
        yield
        engine.close()
        log.info("store.stopped")

    routes = [
        Route("/ping", ping),
        Route("/", store.handle, methods=["GET", "POST"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def credentials_from(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return user and password.

    Raises:
        ConfigError: there is no password; an open port on loopback is open to any web page.
    """
    password = environment.get("FLEETMETER_STORE_PASSWORD", "")
    if not password:
        raise ConfigError("FLEETMETER_STORE_PASSWORD is not set: the store does not run open")
    return environment.get("FLEETMETER_STORE_USER", USER_DEFAULT), password


def main() -> None:
    """Serve until SIGTERM; requests in hand are finished first."""
    parser = argparse.ArgumentParser(prog="fleetmeter_local.store", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    os.environ["TZ"] = "UTC"  # as a server has it: the same SQL gives the same days everywhere
    time.tzset()
    _configure_logs()
    try:
        credentials = credentials_from(os.environ)
        app = create_app(given.data_dir.resolve(), credentials)
    except (ConfigError, EngineError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    for number in FATAL_SIGNALS:
        # A crash has to end the process: whoever started it starts it again.
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops on them, and then raises them again for whoever handled them before.
        signal.signal(number, lambda *_: None)
    uvicorn.run(
        app,
        host=HOST,
        port=given.port,
        log_level="warning",
        access_log=False,
        # uvloop closes a pipe's descriptor twice: the second time it is another statement's.
        loop="asyncio",
        limit_concurrency=REQUESTS_MAX,
        h11_max_incomplete_event_size=1024 * 1024,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=STOP_SECONDS_MAX,
    )


def _configure_logs() -> None:
    """Write lines for a reader on a terminal, JSON for everyone else."""
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    main()

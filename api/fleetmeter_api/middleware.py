"""What surrounds every request: id, measurements, a bound. Knows no route and no session."""

import time
from typing import Any, Final
from uuid import uuid4

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleetmeter_api.errors import REQUEST_ID_HEADER, overloaded
from fleetmeter_api.metrics import RequestMetrics

_HEADER: Final = REQUEST_ID_HEADER.lower().encode()
NO_ROUTE: Final = "none"
OPERATION: Final = frozenset({"/health", "/ready", "/metrics"})


class Surroundings:
    """Gives each request an id of our own making, tells it in the answer, counts, and bounds."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, requests_max: int) -> None:
        self._app = app
        self._metrics = metrics
        self._requests_max = requests_max
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; all other kinds of connection go through as they are."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A client's own id is not taken over: it would be written to logs.
        request_id = uuid4().hex
        scope["fleetmeter_request_id"] = request_id
        started = time.perf_counter()
        status = [500]

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message["headers"] = _with_id(message["headers"], request_id)
            await send(message)

        self._open += 1
        try:
            await self._answering(scope)(scope, receive, named)
        finally:
            self._open -= 1
            self._count(scope, status[0], time.perf_counter() - started)

    def _answering(self, scope: Scope) -> ASGIApp:
        """Who answers: those who look after the service are not turned away."""
        if self._open <= self._requests_max or scope["path"] in OPERATION:
            return self._app
        return overloaded(Request(scope))

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # The template, not the path: paths hold session ids, and there is no end of them.
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


def _with_id(headers: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    others = [(name, value) for name, value in headers if name.lower() != _HEADER]
    return [*others, (_HEADER, request_id.encode())]

"""Serves a process's metrics, health and readiness over HTTP; judges none of them itself."""

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

StartResponse = Callable[..., Any]


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request, so that a slow reader of metrics does not hide the health."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """wsgiref's handler, silent: a log line a scrape says nothing."""

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - wsgiref's name
        """Write nothing."""


class Ops:
    """Health, readiness and metrics of this process, under /health, /ready and /metrics.

    Healthy until a component says otherwise; not ready until told so. All methods may be called
    from any thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._metrics = make_wsgi_app(self.registry)
        self._ready = False
        self._reasons: dict[str, str] = {}
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The TCP port served; 0 before `start`."""
        return self._server.server_port if self._server is not None else 0

    def start(self, host: str, port: int) -> None:
        """Serve in the background until `stop`; port 0 takes a free one.

        Raises:
            OSError: The address cannot be had.
        """
        self._server = make_server(host, port, self._answer, _Server, _Handler)
        threading.Thread(target=self._server.serve_forever, name="ops", daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 - it is the value, not a switch
        """Say whether the process does its work now."""
        self._ready = ready

    def set_unhealthy(self, component: str, why: str) -> None:
        """Say that a component fails, and why, until it is set healthy."""
        self._reasons[component] = why

    def set_healthy(self, component: str) -> None:
        """Say that a component works again."""
        self._reasons.pop(component, None)

    @property
    def reasons(self) -> dict[str, str]:
        """Failing components and why; empty: healthy."""
        return dict(self._reasons)

    @property
    def ready(self) -> bool:
        """Whether the process does its work now."""
        return self._ready and not self._reasons

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                found: Iterable[bytes] = self._metrics(environ, start_response)
                return found
            case "/health":
                return self._verdict(start_response, good=not self._reasons)
            case "/ready":
                return self._verdict(start_response, good=self.ready)
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"/metrics, /health, /ready\n"]

    def _verdict(self, start_response: StartResponse, *, good: bool) -> Iterable[bytes]:
        status = "200 OK" if good else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        body = {"ok": good, "ready": self.ready, "reasons": self.reasons}
        return [json.dumps(body).encode() + b"\n"]

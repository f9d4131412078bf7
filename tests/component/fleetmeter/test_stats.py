"""Costs over HTTP, against a server of the test's own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import fleetmeter
from fleetmeter import ActionEvent
from fleetmeter.config import Config
from fleetmeter.ports import Ports, api_stats
from fleetmeter.stats import ApiStats
from fleetmeter.testing import API_KEY, Captured, captured_ports
from fleetmeter_schemas.errors import Unavailable

Answer = tuple[int, dict[str, str], Any]


class Api(ThreadingHTTPServer):
    """Answers what it is told to, in turn; the last answer again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Api

    def do_GET(self) -> None:
        """Remembers path and key, and answers."""
        api = self.server
        api.requests.append((self.path, self.headers["X-Agentops-Api-Key"]))
        status, headers, body = api.answers.pop(0) if len(api.answers) > 1 else api.answers[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Is silent."""


@pytest.fixture(name="api")
def running_api() -> Iterator[Api]:
    """Run the server."""
    with Api() as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.02,))
        thread.start()
        yield api
        api.shutdown()
        thread.join()


def good(**fields: object) -> Answer:
    """An answer of the api."""
    return (200, {}, {"cost": "1.5", "caught_up": True, **fields})


def test_the_cost_contains_what_was_sent(api: Api) -> None:
    """The question names the last acknowledged offset; the answer is the api's own text."""
    api.answers = [good(cost="0.000001234567")]
    captured = Captured()
    ports = captured_ports(captured)
    ports = Ports(environ=ports.environ, transport=ports.transport, stats=api_stats)
    config = Config.from_environment(ports.environ, api_url=api.url + "/")
    session = fleetmeter.Client(config, ports=ports).start_session(inherited_session_id="a/b")
    session.record(ActionEvent())
    assert session.get_analytics()["Cost"] == "0.000001"
    assert session.end_session("Success") == "0.000001234567"
    assert session.end_session("Success") == "0.000001234567"
    assert api.requests == [
        ("/v2/sessions/a%2Fb/stats?after_offset=1", API_KEY),
        ("/v2/sessions/a%2Fb/stats?after_offset=2", API_KEY),
    ]


def test_it_asks_again_until_caught_up(api: Api) -> None:
    """An answer that does not contain everything yet is asked for again."""
    api.answers = [(404, {}, {}), (503, {}, {}), good(caught_up=False, cost="0.1"), good()]
    assert ApiStats(api.url, API_KEY, 5_000).cost("s", 7) == "1.5"
    assert len(api.requests) == 4


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (good(caught_up=False), "not up to date yet: 1.5 so far"),
        ((404, {}, {"error": {}}), "answered 404"),
        ((401, {}, {"error": {}}), "answered 401"),
        ((302, {"Location": "http://127.0.0.1:1/"}, {}), "answered 302"),
        ((200, {}, b"<html>"), "Expecting value"),
        ((200, {}, []), "something else"),
        (good(cost=None), "no cost: None"),
        (good(cost=1.5), "no cost: 1.5"),
    ],
)
def test_everything_else_is_unavailable(api: Api, answer: Answer, words: str) -> None:
    """Whatever is no up-to-date cost is Unavailable, with the reason."""
    api.answers = [answer]
    with pytest.raises(Unavailable, match=words):
        ApiStats(api.url, API_KEY, 300).cost("s", None)


def test_a_missing_api_costs_nothing() -> None:
    """Where nobody listens, the end still returns, None."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        ApiStats("http://127.0.0.1:1", API_KEY, 300).cost("s", None)

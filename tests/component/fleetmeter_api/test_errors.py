"""Errors, keys, and the routes for those who run it."""

import asyncio
from typing import Any

import pytest

from api_fakes import KEY, SESSION, World, snapshot

STATS = f"/v2/sessions/{SESSION}/stats"
PROTECTED = (
    STATS,
    f"/v2/sessions/{SESSION}/export",
    f"/v1/sessions/{SESSION}/verify",
    "/v1/sessions",
    "/v1/verify",
)


@pytest.fixture
def world() -> World:
    """The api over stand-ins."""
    return World()


def _error(answer: Any) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "request_id"}
    assert body["error"]["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, body["error"]["code"]


def test_every_route_that_tells_data_is_listed_here(world: World) -> None:
    """No route outside those tested with bad keys takes a key or a session."""
    paths = set(world.get("/openapi.json").json()["paths"])
    protected = {path.replace(SESSION, "{session_id}") for path in PROTECTED}
    assert paths == protected | {"/health", "/ready", "/metrics"}


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("key", ["", "no-key", "33333333-3333-4333-8333-333333333333"])
def test_bad_key_is_unauthorized(world: World, path: str, key: str) -> None:
    """A missing, malformed or unknown key gets the same 401 on every route."""
    world.tail.held = [snapshot()]
    answer = world.get(path, headers={"X-Agentops-Api-Key": key})
    assert _error(answer) == (401, "unauthorized")


def test_missing_header_is_unauthorized(world: World) -> None:
    """No header at all is answered like a wrong key."""
    world.tail.held = [snapshot()]
    wrong = world.get(STATS, headers={"X-Agentops-Api-Key": "no-key"}).json()["error"]
    missing = world.get("/v1/sessions", headers={"X-Agentops-Api-Key": ""}).json()["error"]
    assert missing["message"] == wrong["message"]


def test_keys_that_cannot_be_told_are_unavailable(world: World) -> None:
    """While Kafka is away and the key is not known, the answer is 503, not 401."""
    world.keys.away = True
    answer = world.get(STATS)
    assert _error(answer) == (503, "unavailable")
    assert answer.headers["retry-after"] == "2"


def test_unknown_route_has_the_shape(world: World) -> None:
    """A path that is no route is 404 in the one shape."""
    assert _error(world.get("/v9/nothing")) == (404, "not_found")


def test_wrong_method_has_the_shape(world: World) -> None:
    """A method that a route does not take is 405 in the one shape, and tells which it takes."""

    async def post() -> Any:
        async with world.client() as client:
            return await client.post(STATS)

    answer = asyncio.run(post())
    assert _error(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    "parameters",
    [
        {"after_offset": "x"},
        {"after_offset": "-1"},
        {"after_offset": str(2**63)},
        {"wait_ms": "10001"},
    ],
)
def test_bad_parameter_is_an_invalid_request(world: World, parameters: dict[str, str]) -> None:
    """A parameter out of bounds is 400, and the message names it."""
    answer = world.get(STATS, params=parameters)
    assert _error(answer) == (400, "invalid_request")
    assert next(iter(parameters)) in answer.json()["error"]["message"]


def test_bad_key_comes_before_bad_parameters(world: World) -> None:
    """The shape of a request without a key's right is not discussed."""
    wrong = {"X-Agentops-Api-Key": "no-key"}
    answer = world.get(STATS, params={"after_offset": "x"}, headers=wrong)
    assert _error(answer) == (401, "unauthorized")


def test_session_id_too_long_is_not_found(world: World) -> None:
    """An id that no session can have is answered like an unknown one."""
    assert _error(world.get("/v2/sessions/" + "x" * 201 + "/stats")) == (404, "not_found")


def test_a_mistake_of_ours_has_the_shape(world: World) -> None:
    """What we did not foresee is 500 in the one shape, without a word about the reason."""
    world.tail.held = [{"session_id": SESSION, "project_id": snapshot()["project_id"]}]  # type: ignore[typeddict-item]
    answer = world.get(STATS)
    assert _error(answer) == (500, "internal")
    assert "Key" not in answer.json()["error"]["message"]


def test_requests_are_bounded_but_not_those_about_health() -> None:
    """One request more than allowed is 503 in the one shape; health is told all the same."""
    world = World(api_requests_max=1)
    world.tail.held = [snapshot()]

    async def ask() -> tuple[Any, Any, Any]:
        async with world.client() as client:
            asked, enough = asyncio.Event(), asyncio.Event()
            world.tail.asked, world.tail.until = asked, enough
            waiting = asyncio.create_task(client.get(STATS, params={"after_offset": 1}))
            await asked.wait()
            refused, healthy = await client.get(STATS), await client.get("/health")
            enough.set()
            return await waiting, refused, healthy

    first, refused, healthy = asyncio.run(ask())
    assert (first.status_code, healthy.status_code) == (200, 200)
    assert _error(refused) == (503, "overloaded")
    assert refused.headers["retry-after"] == "2"


def test_readers_run_as_long_as_the_app(world: World) -> None:
    """Background parts are started before the first request and stopped at the end."""
    world.get("/health")
    assert world.part.calls == ["start", "stop"]


def test_health_follows_the_readers(world: World) -> None:
    """A reader that stopped makes the process unhealthy, and is named."""
    healthy = world.get("/health").status_code
    world.pulse.is_alive = False
    sick = world.get("/health")
    assert (healthy, sick.status_code) == (200, 503)
    assert sick.json() == {"ok": False, "reasons": {"sessions": "stopped"}}


@pytest.mark.parametrize(
    ("state", "reasons"),
    [
        ({}, {}),
        ({"has_caught_up": False}, {"sessions": "not at the end of its topic yet"}),
        ({"is_connected": False}, {"sessions": "no broker answers"}),
        ({"is_alive": False}, {"sessions": "stopped"}),
    ],
)
def test_ready_follows_the_readers(
    world: World, state: dict[str, bool], reasons: dict[str, str]
) -> None:
    """It is ready when its readers run, are at the end and connected."""
    for name, value in state.items():
        setattr(world.pulse, name, value)
    answer = world.get("/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503 if reasons else 200, reasons)


def test_ready_needs_the_store(world: World) -> None:
    """It is not ready without the store."""
    world.store.away = True
    answer = world.get("/ready")
    assert (answer.status_code, list(answer.json()["reasons"])) == (503, ["store"])


def test_operation_needs_no_key(world: World) -> None:
    """Health, readiness and metrics are told without a key."""
    codes = [
        world.get(path, headers={"X-Agentops-Api-Key": ""}).status_code
        for path in ("/health", "/ready", "/metrics")
    ]
    assert codes == [200, 200, 200]


def test_metrics_count_by_route_not_by_session(world: World) -> None:
    """Requests are counted under the route's template, and session ids stay out."""
    world.tail.held = [snapshot()]
    world.get(STATS)
    world.get("/no/such/route")
    text = world.get("/metrics").text
    assert 'fleetmeter_api_requests_total{route="/v2/sessions/{session_id:path}/stats"' in text
    assert 'fleetmeter_api_requests_total{route="none",status="404"} 1.0' in text
    assert SESSION not in text
    assert KEY not in text


def test_the_description_has_examples(world: World) -> None:
    """The OpenAPI description names the key's header and shows an example of stats."""
    described = world.get("/openapi.json").json()
    stats = described["paths"]["/v2/sessions/{session_id}/stats"]["get"]
    names = {parameter["name"] for parameter in stats["parameters"]}
    assert names == {"session_id", "X-Agentops-Api-Key", "after_offset", "wait_ms"}
    assert described["components"]["schemas"]["Stats"]["example"]["cost"] == "0.4127385"
    assert set(stats["responses"]) == {"200", "400", "401", "404", "503", "default"}

"""Exports over stand-ins for tail, store and lander."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from api_fakes import KEY, SESSION, START_US, World, row, snapshot

EXPORT = f"/v2/sessions/{SESSION}/export"


@pytest.fixture
def world() -> World:
    """The api over stand-ins, with one stored session."""
    world = World(api_exports_max=1)
    world.store.snapshots = [snapshot(agents={"a1": "planner"}, tags=["t"], video="v")]
    return world


def test_export_holds_all_parts(world: World) -> None:
    """An export has session, stats, agents and the four lists, each event in its list."""
    kinds = ("llm", "tool", "action", "error", "llm")
    world.store.rows = [row(kind=kind, event_id=f"{n}") for n, kind in enumerate(kinds)]
    world.store.attributes = '{"host_environment": {"OS": {"OS": "Linux"}}}'
    export = world.get(EXPORT).json()
    assert list(export) == ["session", "stats", "agents", "actions", "llms", "tools", "errors"]
    lists = {name: [one["id"] for one in export[name]] for name in list(export)[3:]}
    assert lists == {"actions": ["2"], "llms": ["0", "4"], "tools": ["1"], "errors": ["3"]}
    assert export["session"] == {
        "id": SESSION,
        "project_id": snapshot()["project_id"],
        "name": "",
        "user_id": "",
        "conversation_id": "",
        "state": "open",
        "init_timestamp": "2025-10-09T08:53:20.000000+00:00",
        "end_timestamp": None,
        "end_state": "Indeterminate",
        "end_state_reason": "",
        "tags": ["t"],
        "video": "v",
        "host_env": {"OS": {"OS": "Linux"}},
        "complete_export": True,
    }
    assert export["agents"] == [{"id": "a1", "name": "planner"}]
    assert export["stats"] == world.get(f"/v2/sessions/{SESSION}/stats").json()


def test_empty_session_has_empty_lists(world: World) -> None:
    """A session without events is exported with empty lists, as valid JSON."""
    export = world.get(EXPORT).json()
    assert [export[name] for name in ("actions", "llms", "tools", "errors")] == [[], [], [], []]


def test_export_that_has_not_landed_says_so(world: World) -> None:
    """When the lander does not come to the snapshot in time, the export says that it is partial."""
    world.landing.events = 19
    export = world.get(EXPORT, params={"landing_wait_ms": 1}).json()
    assert export["session"]["complete_export"] is False


def test_export_without_the_landers_position_says_so(world: World) -> None:
    """When nobody knows what has landed, the export does not claim to be complete."""
    world.landing.away = True
    assert world.get(EXPORT).json()["session"]["complete_export"] is False


def test_store_away_is_unavailable(world: World) -> None:
    """Without the store there is no export, of live sessions neither."""
    world.tail.held = [snapshot()]
    world.store.away = True
    assert world.get(EXPORT).status_code == 503


def test_unknown_session_is_not_found(world: World) -> None:
    """No session, no export."""
    assert world.get("/v2/sessions/nobody/export").status_code == 404


def test_broken_stream_has_no_end(world: World) -> None:
    """What the store breaks off in the middle is not ended, and cannot be taken for the whole."""
    world.store.rows = [row(event_id="1"), row(event_id="2")]
    world.store.breaks_after = 1
    with capture_logs() as logs:
        sent = asyncio.run(ask_raw(world, asyncio.Event()))
    body = b"".join(message.get("body", b"") for message in sent)
    assert [message.get("more_body") for message in sent[1:]] == [True] * (len(sent) - 1)
    assert [entry["event"] for entry in logs] == ["export.broken_off"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_exports_are_bounded(world: World) -> None:
    """While as many exports as allowed are under way, the next is refused with 503."""

    async def ask() -> tuple[int, str]:
        async with world.client() as client:
            exporter = world.app.state.services.exporter
            async with exporter._slots:
                answer = await client.get(EXPORT)
            return answer.status_code, answer.json()["error"]["code"]

    assert asyncio.run(ask()) == (503, "overloaded")


def test_a_client_that_leaves_frees_the_store(world: World) -> None:
    """When the client goes away, the store's stream is closed and the next export can begin."""
    world.store.rows = [row(kind="action", event_id=str(number)) for number in range(1_000)]
    sent = asyncio.run(ask_raw(world, asyncio.Event(), leaves_after=3))
    assert len(sent) < 900
    assert not world.app.state.services.exporter._slots.locked()
    assert world.store.closed_streams == 1


async def ask_raw(
    world: World, gone: asyncio.Event, leaves_after: int | None = None
) -> list[dict[str, Any]]:
    """What the app sends for an export to a client that leaves after some messages."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, object]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == leaves_after:
            gone.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "GET",
        "path": EXPORT,
        "raw_path": EXPORT.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("api", 80),
        "headers": [(b"x-agentops-api-key", KEY.encode())],
    }
    await world.app(scope, receive, send)
    return sent


def test_bounds_are_those_of_the_snapshot(world: World) -> None:
    """Stats and lists speak of the same part of the log, whatever comes meanwhile."""
    seen = []
    original = world.store.host_environment

    async def spy(tenant: object, scope: object) -> str | None:
        seen.append(scope)
        return await original(tenant, scope)  # type: ignore[arg-type]

    world.store.host_environment = spy  # type: ignore[method-assign]
    world.get(EXPORT)
    (scope,) = seen
    assert (scope.from_us, scope.to_us, scope.next) == (  # type: ignore[attr-defined]
        START_US,
        START_US + 1_500_000,
        20,
    )

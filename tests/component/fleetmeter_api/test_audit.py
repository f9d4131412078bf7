"""Lists and verification over stand-ins for tail, store and lander."""

import pytest

from api_fakes import OTHER_PROJECT, SESSION, START_US, World, numbers, snapshot

VERIFY = f"/v1/sessions/{SESSION}/verify"


@pytest.fixture
def world() -> World:
    """The api over stand-ins, with one stored session."""
    world = World()
    world.store.snapshots = [snapshot()]
    return world


def test_right_snapshot_agrees(world: World) -> None:
    """A snapshot that equals the recomputation agrees, and both sides are told."""
    world.store.sums = {SESSION: snapshot()["numbers"]}
    assert world.get(VERIFY).json() == {
        "session_id": SESSION,
        "agrees": True,
        "reason": None,
        "position": {"partition": 0, "next": 20},
        "snapshot": snapshot()["numbers"],
        "recomputed": snapshot()["numbers"],
        "differences": {},
    }


def test_wrong_snapshot_is_told_in_detail(world: World) -> None:
    """A number that differs is named with both sides."""
    world.store.sums = {SESSION: numbers(events=3, llm_calls=1, tool_calls=1)}
    answer = world.get(VERIFY).json()
    assert answer["agrees"] is False
    assert answer["differences"] == {
        "events": {"snapshot": 2, "recomputed": 3},
        "cost_pico_usd": {"snapshot": 1_500_000_000, "recomputed": 0},
    }


def test_session_without_events_is_compared_with_zero(world: World) -> None:
    """A snapshot that counts events of which the table has none does not agree."""
    assert world.get(VERIFY).json()["agrees"] is False


def test_difference_that_passes_is_none(world: World) -> None:
    """A revision between the two readings is no difference: it is looked at again."""
    asked = 0

    def corrected() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            world.store.sums = {SESSION: snapshot()["numbers"]}

    world.store.meanwhile = corrected
    assert world.get(VERIFY).json()["agrees"] is True


def test_events_that_have_not_landed_leave_it_open(world: World) -> None:
    """Before the events have landed there is nothing to compare with."""
    world.landing.events = 19
    answer = world.get(VERIFY, params={"wait_ms": 1}).json()
    told = (answer["agrees"], answer["reason"], answer["recomputed"])
    assert told == (None, "not_landed", None)
    assert world.store.scopes == []


def test_parts_are_compared_as_one(world: World) -> None:
    """The sum over parts is compared, at the position of the youngest."""
    world.store.snapshots = [snapshot(), snapshot(part=50, next=60)]
    world.store.sums = {
        SESSION: numbers(events=4, llm_calls=2, tool_calls=2, cost_pico_usd=3_000_000_000)
    }
    answer = world.get(VERIFY).json()
    assert (answer["agrees"], answer["position"]["next"]) == (True, 60)


def test_unknown_session_cannot_be_verified(world: World) -> None:
    """No session, no verdict."""
    assert world.get("/v1/sessions/nobody/verify").status_code == 404


def test_whole_project_is_verified_in_pages(world: World) -> None:
    """All sessions of the project, and no other's, are verified page by page."""
    names = ["a", "b", "c"]
    world.store.snapshots = [snapshot(session_id=name) for name in names]
    world.store.snapshots.append(snapshot(session_id="d", project_id=OTHER_PROJECT))
    world.store.sums = {name: snapshot()["numbers"] for name in ("a", "c")}
    first = world.get("/v1/verify", params={"limit": 2}).json()
    told = (first["agrees"], first["checked"], first["differing"], first["next_cursor"])
    assert told == (False, 2, ["b"], "b")
    second = world.get("/v1/verify", params={"limit": 2, "cursor": "b"}).json()
    told = (second["agrees"], second["checked"], second["differing"], second["next_cursor"])
    assert told == (True, 1, [], None)


def test_sessions_not_landed_are_undecided(world: World) -> None:
    """In a page, sessions whose events are under way are named, and the page does not agree."""
    world.store.snapshots = [
        snapshot(session_id="early", next=10),
        snapshot(session_id="late", next=2_000),
    ]
    world.store.sums = {"early": snapshot()["numbers"]}
    answer = world.get("/v1/verify", params={"wait_ms": 1}).json()
    assert (answer["agrees"], answer["undecided"]) == (False, ["late"])


def test_newest_sessions_come_first(world: World) -> None:
    """The list is ordered by start, and live ones are as current as the tail has them."""
    world.store.snapshots = [
        snapshot(session_id="old", started_at_us=START_US),
        snapshot(session_id="new", started_at_us=START_US + 1),
    ]
    world.tail.held = [snapshot(session_id="old", next=25, numbers=numbers(events=9))]
    answer = world.get("/v1/sessions").json()
    listed = [(one["session_id"], one["events"]) for one in answer["sessions"]]
    assert listed == [("new", 2), ("old", 9)]
    assert (answer["caught_up"], answer["lag_ms"]) == (True, 500)


def test_list_is_as_old_as_what_has_landed(world: World) -> None:
    """A session that is still on its way to the tables is missing: the list does not deny it."""
    world.store.snapshots = [snapshot()]
    world.landing.snapshots = world.tail.checkpoint_at
    answer = world.get("/v1/sessions").json()
    assert (answer["caught_up"], answer["as_of"]) == (False, None)
    world.landing.away = True
    assert world.get("/v1/sessions").json()["caught_up"] is False


def test_list_asks_once_how_far_the_lander_is(world: World) -> None:
    """However many sessions are listed, the brokers are asked once for each partition."""
    world.tail.begins_at = 5_000
    world.store.snapshots = [snapshot(session_id=str(number)) for number in range(50)]
    listed = world.get("/v1/sessions").json()["sessions"]
    assert {(one["caught_up"], one["lag_ms"]) for one in listed} == {(False, 9_000)}
    assert world.landing.asked == 2  # for the list itself, and for its sessions


def test_list_has_the_canonical_end_state(world: World) -> None:
    """The word that was sent is told by /v2 only; the list tells what it means."""
    said = snapshot(state="ended", end_state="Failure", end_state_said="Fail")
    world.store.snapshots = [said]
    listed = world.get("/v1/sessions").json()["sessions"]
    stats = world.get(f"/v2/sessions/{SESSION}/stats").json()
    assert ([one["end_state"] for one in listed], stats["end_state"]) == (["Failure"], "Fail")


def test_list_is_bounded(world: World) -> None:
    """The list is as long as asked for."""
    world.store.snapshots = [snapshot(session_id=str(number)) for number in range(5)]
    answer = world.get("/v1/sessions", params={"limit": 3}).json()
    assert len(answer["sessions"]) == 3


def test_list_needs_the_store(world: World) -> None:
    """Without the store there is no list."""
    world.store.away = True
    assert world.get("/v1/sessions").status_code == 503

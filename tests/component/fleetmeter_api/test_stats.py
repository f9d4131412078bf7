"""Stats over stand-ins for tail, store and lander."""

import pytest

from api_fakes import NOW_MS, OTHER_KEY, SESSION, START_US, World, numbers, snapshot
from fleetmeter_api.models import Stats
from fleetmeter_api.tail import Progress

STATS = f"/v2/sessions/{SESSION}/stats"


@pytest.fixture
def world() -> World:
    """The api over stand-ins."""
    return World()


def test_live_session_is_answered_from_the_tail(world: World) -> None:
    """A session in the tail is told with all fields, as current as the last checkpoint."""
    world.tail.held = [snapshot(tags=["a"], name="n", user_id="u", flags=["start_missing"])]
    answer = world.get(STATS)
    assert answer.status_code == 200
    assert answer.json() == {
        "session_id": SESSION,
        "project_id": snapshot()["project_id"],
        "state": "open",
        "end_state": "Indeterminate",
        "end_state_reason": "",
        "init_timestamp": "2025-10-09T08:53:20.000000+00:00",
        "end_timestamp": None,
        "duration_s": 1.5,
        "events": 2,
        "llm_calls": 1,
        "tool_calls": 1,
        "actions": 0,
        "errors": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "total_tokens": 0,
        "cost": "0.0015",
        "unpriced_events": 0,
        "late_events": 0,
        "complete": None,
        "flags": ["start_missing"],
        "tags": ["a"],
        "name": "n",
        "user_id": "u",
        "revision": 1,
        "caught_up": True,
        "as_of": "2025-10-09T08:53:29.500000+00:00",
        "lag_ms": 500,
    }


def test_answer_fits_its_description(world: World) -> None:
    """The answer has exactly the fields of the OpenAPI description."""
    world.tail.held = [snapshot()]
    answer = world.get(STATS).json()
    assert set(Stats.model_fields) == set(answer)
    assert answer == Stats.model_validate(answer).model_dump()


def test_stored_session_is_answered_from_the_store(world: World) -> None:
    """A session that only the store has is told with the word that was sent for its end."""
    world.store.snapshots = [
        snapshot(
            state="ended",
            end_state="Failure",
            end_state_said="Fail",
            ended_at_us=START_US + 3_000_000,
        )
    ]
    answer = world.get(STATS).json()
    told = (answer["state"], answer["end_state"], answer["duration_s"], answer["lag_ms"])
    assert told == ("ended", "Fail", 3.0, 500)


@pytest.mark.parametrize(("tail_next", "events"), [(21, 5), (19, 2)])
def test_the_further_snapshot_wins(world: World, tail_next: int, events: int) -> None:
    """Of the tail's and the store's snapshot the one counts that goes further in the log."""
    world.store.snapshots = [snapshot()]
    world.tail.held = [snapshot(next=tail_next, numbers=numbers(events=5))]
    assert world.get(STATS).json()["events"] == events


def test_parts_of_a_session_are_summed(world: World) -> None:
    """An old part in the store and a new one in the tail make one session."""
    world.store.snapshots = [snapshot()]
    world.tail.held = [snapshot(part=50, next=60)]
    answer = world.get(STATS).json()
    assert (answer["events"], answer["cost"]) == (4, "0.003")


def test_store_away_live_session_is_told_with_a_flag(world: World) -> None:
    """Without the store a live session is still told; that older parts may miss is flagged."""
    world.store.away = True
    world.tail.held = [snapshot()]
    answer = world.get(STATS)
    assert answer.status_code == 200
    assert answer.json()["flags"] == ["older_parts_unknown"]


def test_older_parts_are_read_once(world: World) -> None:
    """What the store has of a live session cannot change: it is asked once, and may go away."""
    world.store.snapshots = [snapshot(), snapshot(part=50, next=55)]
    world.tail.held = [snapshot(part=50, next=60)]
    first = world.get(STATS).json()
    world.store.away = True
    world.tail.held = [snapshot(part=50, next=70, numbers=numbers(events=9))]
    second = world.get(STATS).json()
    assert [(one["events"], one["flags"]) for one in (first, second)] == [(4, []), (11, [])]


def test_older_parts_that_may_still_come_are_not_kept(world: World) -> None:
    """Before the lander has come to the tail's beginning, what the store has is not the last."""
    world.tail.begins_at = 5_000
    world.tail.held = [snapshot(part=50, next=60)]
    before = world.get(STATS).json()
    world.store.snapshots = [snapshot()]
    assert (before["events"], world.get(STATS).json()["events"]) == (2, 4)
    assert before["flags"] == ["older_parts_unknown"]


def test_store_away_other_session_is_unavailable(world: World) -> None:
    """Without the store a session outside the tail is 503, with the time to ask again."""
    world.store.away = True
    answer = world.get(STATS)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"]["code"] == "unavailable"


def test_read_your_writes_waits_for_the_offset(world: World) -> None:
    """after_offset waits for the session's partition, and the answer says that it is contained."""
    world.tail.held = [snapshot()]
    answer = world.get(STATS, params={"after_offset": 29, "wait_ms": 700}).json()
    assert answer["caught_up"] is True
    ((partition, offset, seconds),) = world.tail.waits
    assert (partition, offset) == (0, 29)
    assert seconds == pytest.approx(0.7, abs=0.1)


def test_offset_that_is_not_reached_is_told(world: World) -> None:
    """When the offset is not reached in time, the answer comes with caught_up false."""
    world.tail.held = [snapshot()]
    answer = world.get(STATS, params={"after_offset": 30, "wait_ms": 1}).json()
    assert answer["caught_up"] is False


def test_gap_between_store_and_tail_is_told(world: World) -> None:
    """While the lander is behind the tail's beginning, a stored session may be stale."""
    world.tail.begins_at = 5_000
    world.store.snapshots = [snapshot()]
    answer = world.get(STATS).json()
    told = (answer["caught_up"], answer["lag_ms"])
    assert told == (False, NOW_MS - snapshot()["log_time_ms"])


def test_gap_does_not_matter_for_a_live_session(world: World) -> None:
    """What is in the tail is the newest there is, however far the lander is."""
    world.tail.begins_at = 5_000
    world.tail.held = [snapshot()]
    assert world.get(STATS).json()["caught_up"] is True


def test_without_a_checkpoint_the_snapshot_says_its_age(world: World) -> None:
    """Before the partition's first checkpoint the session's own log time stands."""
    world.tail.at = None
    world.tail.held = [snapshot()]
    assert world.get(STATS).json()["lag_ms"] == 9_000


def test_a_trace_id_names_the_same_session(world: World) -> None:
    """32 hex digits, in capitals too, are the session's id as well."""
    world.tail.held = [snapshot()]
    path = f"/v2/sessions/{SESSION.replace('-', '').upper()}/stats"
    assert world.get(path).json()["session_id"] == SESSION


def test_a_text_id_with_slashes_is_found(world: World) -> None:
    """A session id that is free text may hold anything, slashes too."""
    world.tail.held = [snapshot(session_id="crew/7/stats")]
    assert world.get("/v2/sessions/crew%2F7%2Fstats/stats").json()["session_id"] == "crew/7/stats"


def test_foreign_and_unknown_sessions_are_the_same(world: World) -> None:
    """Another project's session and none at all get identical answers but for the request id."""
    world.tail.held = [snapshot()]
    foreign = world.get(STATS, headers={"X-Agentops-Api-Key": OTHER_KEY})
    unknown = world.get("/v2/sessions/none-such/stats", headers={"X-Agentops-Api-Key": OTHER_KEY})
    ids = [answer.headers["x-request-id"] for answer in (foreign, unknown)]
    bodies = [
        answer.content.replace(name.encode(), b"ID")
        for answer, name in zip((foreign, unknown), ids, strict=True)
    ]
    headers = [
        [(name, value) for name, value in answer.headers.raw if name != b"x-request-id"]
        for answer in (foreign, unknown)
    ]
    assert foreign.status_code == unknown.status_code == 404
    assert bodies[0] == bodies[1]
    assert headers[0] == headers[1]
    assert ids[0] != ids[1]


def test_before_the_tail_was_read_nothing_is_told(world: World) -> None:
    """Until sessions.v1 has been read nobody is told that there is no such session."""
    world.tail.partitions = 0
    assert world.get(STATS).status_code == 503


def test_progress_is_asked_before_the_snapshot(world: World) -> None:
    """A checkpoint that comes while the store is asked does not make the answer look newer."""
    world.store.snapshots = [snapshot()]
    world.store.meanwhile = lambda: setattr(world.tail, "at", Progress(next=40, log_time_ms=NOW_MS))
    assert world.get(STATS).json()["lag_ms"] == 500

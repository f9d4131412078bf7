"""Sessions and the module-level functions, over the capturing transport."""

import asyncio
import logging
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

import fleetmeter
from fleetmeter import ActionEvent, ErrorEvent, LLMEvent, ToolEvent
from fleetmeter.testing import API_KEY, Captured, capture
from fleetmeter_schemas.identity import key_hash
from fleetmeter_schemas.records import Event


@pytest.fixture(name="captured")
def capturing() -> Iterator[Captured]:
    """Capture what the test records."""
    with capture() as captured:
        yield captured


def kinds(captured: Captured) -> list[str]:
    """The kinds of the records, in order."""
    return [record["kind"] for record in captured.records]


def detail(record: Event) -> dict[str, Any]:
    """What a lifecycle record says, without what it leaves."""
    said: Any = record["detail"]
    return {name: value for name, value in said.items() if value not in (None, [], {}, "")}


def test_a_session_from_start_to_end(captured: Captured) -> None:
    """Every record carries key, session, writer and an unbroken sequence."""
    session = fleetmeter.init(tags=["a", "b", "a"], session_name="nightly", user_id="u")
    assert session is not None
    fleetmeter.record(LLMEvent(model="m"))
    fleetmeter.record(ToolEvent(name="t"))
    fleetmeter.record(ErrorEvent(error_type="X"))
    assert fleetmeter.end_session("Fail", "because", "https://video") is None
    records = captured.records
    assert kinds(captured) == ["session_started", "llm", "tool", "error", "session_ended"]
    assert {record["key_hash"] for record in records} == {key_hash(API_KEY)}
    assert {record["session_id"] for record in records} == {session.session_id}
    assert len({record["writer_id"] for record in records}) == 1
    assert {record["user_id"] for record in records} == {"u"}
    assert [record["sequence"] for record in records] == [1, 2, 3, 4, 5]
    assert len({record["event_id"] for record in records}) == 5
    assert detail(records[0]) == {"name": "nightly", "user_id": "u", "tags_set": ["a", "b"]}
    assert detail(records[-1]) == {
        "end_state": "Failure",
        "end_state_said": "Fail",
        "reason": "because",
        "last_sequence": 5,
        "video": "https://video",
    }
    assert captured.end_states == {session.session_id: "Failure"}
    assert (session.end_state, session.is_open) == ("Failure", False)


def test_ending_twice_is_harmless(captured: Captured) -> None:
    """The first end counts; a second is neither written nor an error."""
    session = fleetmeter.start_session()
    session.end_session("Success")
    session.end_session("Failure")
    assert kinds(captured) == ["session_started", "session_ended"]
    assert session.end_state == "Success"


def test_a_wrong_end_state_changes_nothing(captured: Captured) -> None:
    """An unknown word is a ValueError, and the session stays open."""
    session = fleetmeter.start_session()
    with pytest.raises(ValueError, match="Shutdown"):
        session.end_session("Shutdown")
    assert session.is_open
    assert kinds(captured) == ["session_started"]


def test_late_events_are_written(captured: Captured) -> None:
    """What is recorded after the end goes on the wire with the next number."""
    session = fleetmeter.start_session()
    session.end_session("Success")
    session.record(ActionEvent("late"))
    assert [(record["kind"], record["sequence"]) for record in captured.records][1:] == [
        ("session_ended", 2),
        ("action", 3),
    ]


def test_joining_adds_tags(captured: Captured) -> None:
    """A joined session keeps its tags: those given are added."""
    joined = "0af7651916cd43dd8448eb211c80319c"
    session = fleetmeter.init(inherited_session_id=joined, tags="extra")
    assert session is not None
    assert session.session_id == "0af76519-16cd-43dd-8448-eb211c80319c"
    assert detail(captured.records[0]) == {"tags_added": ["extra"]}


def test_tags_and_agents(captured: Captured) -> None:
    """Tags are added and replaced, agents named; events of an agent carry its id."""
    session = fleetmeter.start_session()
    session.add_tags("one")
    fleetmeter.set_tags(["two", "three"])
    agent_id = session.create_agent("planner")
    session.add_tags(5)  # type: ignore[arg-type]
    assert session.create_agent("known", "id-1") == "id-1"
    assert [detail(record) for record in captured.records[1:]] == [
        {"tags_added": ["one"]},
        {"tags_set": ["two", "three"]},
        {"agents": {agent_id: "planner"}},
        {"agents": {"id-1": "known"}},
    ]
    assert fleetmeter.flush().dropped_by_reason == {"not_written": 1}


def test_times_can_be_given(captured: Captured) -> None:
    """Start, event and end keep the times they are given, to the microsecond."""
    session = fleetmeter.start_session(init_timestamp="2026-01-02T00:00:00.000001Z")
    session.record(
        ActionEvent(
            init_timestamp="2026-01-02T00:00:01.000002Z", end_timestamp="2026-01-02T00:00:02Z"
        )
    )
    session.end_session("Success", end_timestamp="2026-01-02T01:01:01.500001Z")
    times = [(record["start_time_us"], record["end_time_us"]) for record in captured.records]
    base = 1_767_312_000_000_000
    assert times == [
        (base + 1, base + 1),
        (base + 1_000_002, base + 2_000_000),
        (base + 3_661_500_001, base + 3_661_500_001),
    ]
    assert session.get_analytics()["Duration"] == "1h 1m 1.5s"


def test_record_sets_the_end(captured: Captured) -> None:
    """An event without an end ends when it is recorded, in the object too."""
    event = ActionEvent()
    fleetmeter.start_session().record(event)
    assert event.end_timestamp is not None
    record = captured.events[0]
    assert record["end_time_us"] is not None
    assert record["end_time_us"] >= record["start_time_us"]


@pytest.mark.parametrize("event", [None, "text", object(), {"event_type": "llms"}])
def test_record_never_raises(captured: Captured, event: Any) -> None:
    """What is no event is dropped and counted."""
    fleetmeter.start_session().record(event)
    fleetmeter.record(event)
    with fleetmeter.start_session():
        fleetmeter.record(event)
    assert captured.events == []
    assert fleetmeter.flush().dropped_by_reason == {"not_written": 3}


def test_without_a_session(captured: Captured) -> None:
    """Events without an open session are dropped, counted, and logged once."""
    fleetmeter.record(ActionEvent())
    fleetmeter.init(auto_start_session=False)
    fleetmeter.record(ActionEvent())
    fleetmeter.record(ActionEvent())
    assert fleetmeter.end_session("Success") is None
    assert fleetmeter.create_agent("a") is None
    assert captured.records == []
    assert fleetmeter.flush().dropped_by_reason == {"no_session": 2}


def test_which_session_is_current(captured: Captured) -> None:
    """The surrounding one, else the last started that is open; an event may name its own."""
    first = fleetmeter.start_session()
    second = fleetmeter.start_session()
    fleetmeter.record(ActionEvent("to second"))
    with first:
        fleetmeter.record(ActionEvent("to first"))
    fleetmeter.record(ActionEvent("to second"))
    second.end_session()
    third = fleetmeter.start_session()
    fourth = fleetmeter.start_session()
    fleetmeter.record(ActionEvent("to third", session_id=third.session_id))
    fleetmeter.record(ActionEvent("to fourth"))
    names = {first: "to first", second: "to second", third: "to third", fourth: "to fourth"}
    by_id = {session.session_id: name for session, name in names.items()}
    assert len(captured.events) == 5
    assert all(record["name"] == by_id[record["session_id"]] for record in captured.events)
    assert fleetmeter.get_session(fourth.session_id) is fourth
    assert fleetmeter.get_session(second.session_id) is None


def test_a_block_is_a_session(captured: Captured) -> None:
    """A block ends as Success, or as Failure with the exception as reason."""
    with fleetmeter.start_session() as good:
        pass
    with pytest.raises(LookupError), fleetmeter.start_session() as bad:
        raise LookupError("lost")
    with pytest.raises(SystemExit), fleetmeter.start_session() as left:
        raise SystemExit(0)
    with fleetmeter.start_session() as explicit:
        explicit.end_session("Indeterminate")
    assert captured.end_states == {
        good.session_id: "Success",
        bad.session_id: "Failure",
        left.session_id: "Success",
        explicit.session_id: "Indeterminate",
    }
    assert bad.end_state_reason == "LookupError: lost"


def test_a_block_may_be_left_elsewhere(captured: Captured) -> None:
    """Frameworks leave a generator's block in another context; the session ends all the same."""
    session = fleetmeter.start_session()
    copy_context().run(session.__enter__)
    copy_context().run(session.__exit__, None, None, None)
    assert captured.end_states == {session.session_id: "Success"}


def test_async_twins(captured: Captured) -> None:
    """`aend_session` and `async with` do the same for coroutines, each task on its own."""

    async def one(number: int) -> None:
        async with fleetmeter.start_session() as session:
            await asyncio.sleep(0)
            fleetmeter.record(ActionEvent(f"{number} {session.session_id}"))

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(5)))
        session = fleetmeter.start_session()
        assert await session.aend_session("Failure") is None

    asyncio.run(main())
    assert sorted(captured.end_states.values()) == ["Failure"] + ["Success"] * 5
    assert all(record["name"].endswith(record["session_id"]) for record in captured.events)


def test_init_again(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """A second init returns the open session; after its end it starts another."""
    first = fleetmeter.init(tags=["a"])
    assert fleetmeter.init(tags=["b"]) is first
    assert "already_started" in caplog.text
    fleetmeter.end_session("Success")
    second = fleetmeter.init(tags=["b"])
    assert second is not first
    assert kinds(captured) == ["session_started", "session_ended", "session_started"]
    assert len({record["writer_id"] for record in captured.records}) == 1


def test_init_for_another_project(captured: Captured) -> None:
    """With another key a second init starts a session of that project, and that is current."""
    first = fleetmeter.init()
    second = fleetmeter.init("11111111-1111-4111-8111-111111111111")
    fleetmeter.record(ActionEvent("to second"))
    assert second is not None
    assert second is not first
    assert [record["session_id"] for record in captured.events] == [second.session_id]


def test_tags_that_are_none_start_nothing(captured: Captured) -> None:
    """What cannot be started is not current either."""
    with pytest.raises(TypeError):
        fleetmeter.start_session(tags=5)  # type: ignore[arg-type]
    assert (fleetmeter.current_session(), captured.records) == (None, [])


def test_host_environment() -> None:
    """The start tells where it runs, unless that is opted out of."""
    for opted_out in ("false", "true"):
        with capture(env_data_opt_out=opted_out) as captured:
            fleetmeter.init()
        told = "host_environment" in captured.records[0]["attributes"]
        assert told == (opted_out == "false")


def redacting(event: fleetmeter.Event) -> fleetmeter.Event | None:
    """A hook: keeps tools back, hides prompts, fails for errors."""
    if isinstance(event, ToolEvent):
        return None
    if isinstance(event, ErrorEvent):
        raise LookupError("hook broke")  # noqa: TRY004 - any error will do
    if isinstance(event, LLMEvent):
        event.prompt = "hidden"
    if event.event_type == "odd":
        return True  # type: ignore[return-value]
    return event


def test_before_send(captured: Captured) -> None:
    """The hook changes a copy or keeps an event back; where it fails the payload stays behind."""
    fleetmeter.init(before_send=redacting)
    original = LLMEvent(prompt="secret", prompt_tokens=5)
    fleetmeter.record(original)
    fleetmeter.record(ToolEvent(params="secret"))
    fleetmeter.record(ErrorEvent(error_type="E", details="secret", logs="secret"))
    fleetmeter.record(ActionEvent("odd", params="secret"))
    fleetmeter.record(ActionEvent("fine", params="open"))
    assert original.prompt == "secret"
    assert b"secret" not in b"".join(captured.values)
    assert [(e["kind"], e["input"], e["sequence"]) for e in captured.events] == [
        ("llm", "hidden", 2),
        ("error", "", 3),
        ("action", "", 4),
        ("action", "open", 5),
    ]
    result = fleetmeter.flush()
    assert (result.filtered, result.dropped, result.complete) == (1, 0, True)


def test_the_stats_url_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A start is logged with the address of its stats."""
    caplog.set_level(logging.INFO, "fleetmeter")
    with capture(api_url="http://127.0.0.1:1/"):
        session = fleetmeter.init()
        assert session is not None
    url = f"http://127.0.0.1:1/v2/sessions/{session.session_id}/stats"
    assert [record.getMessage() for record in caplog.records if url in record.getMessage()] == [
        f"session.started {url}"
    ]


def test_captures_do_not_touch_each_other(captured: Captured) -> None:
    """A capture inside another one, with other settings, leaves the outer one as it was."""
    outer = fleetmeter.start_session()
    with capture() as inner:
        fleetmeter.init()
        fleetmeter.record(ActionEvent("inner"))
    fleetmeter.record(ActionEvent("outer"))
    assert [record["name"] for record in inner.events] == ["inner"]
    assert [(r["name"], r["session_id"]) for r in captured.events] == [("outer", outer.session_id)]


def test_threads_share_the_sequence(captured: Captured) -> None:
    """Numbers stay unique and without holes when threads record at once."""
    session = fleetmeter.start_session()

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(many) for _ in range(4)))

    def many() -> None:
        for _ in range(300):
            session.record(ActionEvent())

    asyncio.run(main())
    numbers = sorted(record["sequence"] for record in captured.records)
    assert numbers == list(range(1, 1202))
    assert session.get_analytics()["Actions"] == 1200

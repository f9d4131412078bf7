import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import fleetmeter
from fleetmeter import ActionEvent, agent, operation, session, tool
from fleetmeter.testing import Captured, capture


@pytest.fixture(name="captured")
def capturing() -> Iterator[Captured]:
    """Capture what the test records."""
    with capture() as captured:
        yield captured


def told(captured: Captured) -> list[tuple[str, str, str, str]]:
    """Kind, name, input and output of the events."""
    return [(e["kind"], e["name"], e["input"], e["output"]) for e in captured.events]


@operation
def plan(goal: str, *, depth: int = 1) -> list[str]:
    """An action with a tool call in it."""
    return [search(goal) for _ in range(depth)]


@tool(name="web_search", cost="0.01")
def search(query: str) -> str:
    """A tool call."""
    return query.upper()


@tool
def broken() -> None:
    """A tool that fails."""
    raise TimeoutError("slow")


@operation
def passing_on() -> None:
    """An action that lets an exception through."""
    broken()


def test_calls_are_recorded(captured: Captured) -> None:
    """Arguments, results and nesting of operations and tools."""
    fleetmeter.start_session()
    assert plan("find", depth=1) == ["FIND"]
    assert told(captured) == [
        ("tool", "web_search", '{"query":"find"}', "FIND"),
        ("action", "plan", '{"goal":"find","depth":1}', '["FIND"]'),
    ]
    inner, outer = captured.events
    assert (inner["parent_id"], outer["parent_id"]) == (outer["event_id"], "")
    assert inner["reported_cost_pico_usd"] == 10**10


def test_an_exception_is_one_error(captured: Captured) -> None:
    """However many decorated calls it passes through, an exception is recorded once."""
    fleetmeter.start_session()
    with pytest.raises(TimeoutError, match="slow"):
        passing_on()
    events = captured.events
    assert [(e["kind"], e["error_type"]) for e in events] == [
        ("tool", "TimeoutError"),
        ("error", "TimeoutError"),
        ("action", "TimeoutError"),
    ]
    assert events[1]["parent_id"] == events[0]["event_id"]


def test_without_a_session_they_only_call(captured: Captured) -> None:
    """Nothing is recorded, and nothing changes for the caller."""
    assert plan("find") == ["FIND"]
    with pytest.raises(TypeError, match="goal"):
        plan()  # type: ignore[call-arg]
    assert captured.records == []


def test_a_wrong_call_fails_as_ever(captured: Captured) -> None:
    """A call that does not fit its function raises Python's own error, and is recorded."""
    fleetmeter.start_session()
    with pytest.raises(TypeError, match="goal"):
        plan()  # type: ignore[call-arg]
    assert [e["kind"] for e in captured.events] == ["action", "error"]


def test_each_call_is_a_session(captured: Captured) -> None:
    """A decorated function is a session: Success when it returns, Failure when it raises."""

    @session(name="job", tags=["t"])
    def job(value: int) -> float:
        fleetmeter.record(ActionEvent("inside"))
        return 1 / value

    assert job(1) == 1.0
    with pytest.raises(ZeroDivisionError):
        job(0)
    assert list(captured.end_states.values()) == ["Success", "Failure"]
    assert len({e["session_id"] for e in captured.events}) == 2
    assert fleetmeter.current_session() is None


def test_an_unconfigured_session_only_calls() -> None:
    """Where nothing is configured a decorated function still works."""

    @session
    def job() -> str:
        return "done"

    with capture(api_key=""):
        assert job() == "done"


def test_coroutines(captured: Captured) -> None:
    """Concurrent coroutines keep their own surroundings."""

    @operation
    async def outer(number: int) -> int:
        await asyncio.sleep(0)
        return await inner(number)

    @tool
    async def inner(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    @session
    async def main() -> list[int]:
        return await asyncio.gather(*(outer(number) for number in range(3)))

    assert asyncio.run(main()) == [0, 2, 4]
    by_id = {e["event_id"]: e for e in captured.events}
    tools = [e for e in captured.events if e["kind"] == "tool"]
    assert len(tools) == 3
    assert all(by_id[e["parent_id"]]["output"] == e["output"] for e in tools)


def test_generators(captured: Captured) -> None:
    """A generator is recorded when it ends; its caller is not inside of it; send and throw work."""

    @operation
    def numbers() -> Iterator[Any]:
        fleetmeter.record(ActionEvent("within"))
        try:
            got = yield 1
        except KeyError:
            got = "thrown"
        yield got

    fleetmeter.start_session()
    steps: Any = numbers()
    assert next(steps) == 1
    fleetmeter.record(ActionEvent("between"))
    assert steps.send("sent") == "sent"
    assert list(steps) == []
    thrown: Any = numbers()
    next(thrown)
    assert thrown.throw(KeyError()) == "thrown"
    thrown.close()
    names = [(e["name"], bool(e["parent_id"])) for e in captured.events]
    assert names == [
        ("within", True),
        ("between", False),
        ("numbers", False),
        ("within", True),
        ("numbers", False),
    ]


def test_asynchronous_generators(captured: Captured) -> None:
    """They are recorded when they end, fail or are closed, and pass everything on."""

    @tool
    async def stream(upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number
        if upto > 2:
            raise LookupError("enough")

    async def main() -> list[int]:
        got = [number async for number in stream(2)]
        with pytest.raises(LookupError):
            got += [number async for number in stream(3)]
        early: Any = stream(5)
        got.append(await anext(early))
        await early.aclose()
        return got

    fleetmeter.start_session()
    assert asyncio.run(main()) == [0, 1, 0]
    assert [(e["kind"], e["error_type"]) for e in captured.events] == [
        ("tool", ""),
        ("tool", "LookupError"),
        ("error", "LookupError"),
        ("tool", ""),
    ]


@agent(name="writer")
class Writer:
    """Each object is an agent."""

    def __init__(self) -> None:
        fleetmeter.record(ActionEvent("made"))

    def write(self) -> str:
        """Acts."""
        fleetmeter.record(ActionEvent("wrote"))
        return "text"


@agent
def review() -> None:
    """One agent of each session."""
    fleetmeter.record(ActionEvent("reviewed"))


def test_agents(captured: Captured) -> None:
    """Events inside an agent's code carry its id; each agent is named once."""
    fleetmeter.start_session()
    one, other = Writer(), Writer()
    assert (one.write(), other.write()) == ("text", "text")
    review()
    review()
    fleetmeter.record(ActionEvent("outside"))
    agents: dict[str, str] = {}
    for record in captured.records:
        said: Any = record["detail"]
        agents |= said["agents"] if said else {}
    assert sorted(agents.values()) == ["review", "writer", "writer"]
    names = [(e["name"], agents.get(e["agent_id"], "")) for e in captured.events]
    assert names == [
        ("made", "writer"),
        ("made", "writer"),
        ("wrote", "writer"),
        ("wrote", "writer"),
        ("reviewed", "review"),
        ("reviewed", "review"),
        ("outside", ""),
    ]
    made, made_other, wrote, wrote_other = (e["agent_id"] for e in captured.events[:4])
    assert (made, made_other) == (wrote, wrote_other)
    assert made != made_other


def test_functions_keep_their_names() -> None:
    """A decorated function looks like itself."""
    assert (plan.__name__, plan.__doc__) == ("plan", "An action with a tool call in it.")
    assert isinstance(Writer, type)


def test_blocks(captured: Captured) -> None:
    """Each of them can surround a block, which gets the thing itself to fill in."""
    with session(name="job") as started:
        assert started is not None
        with agent(name="planner"), operation(name="plan") as plan_event:
            with pytest.raises(TimeoutError), tool(name="search", cost=1) as tool_event:
                half_done(tool_event)
            plan_event.params = {"goal": 1}
    assert [(e["kind"], e["name"], e["input"], e["output"]) for e in captured.events] == [
        ("tool", "search", "", "half"),
        ("error", "", "", "slow"),
        ("action", "plan", '{"goal":1}', ""),
    ]
    assert len({e["agent_id"] for e in captured.events} - {""}) == 1
    assert captured.events[0]["parent_id"] == plan_event.id
    assert captured.end_states == {started.session_id: "Success"}


def half_done(event: fleetmeter.ToolEvent) -> None:
    """Has a result and fails."""
    event.returns = "half"
    raise TimeoutError("slow")


def test_asynchronous_blocks_without_a_session(captured: Captured) -> None:
    """Without a session a block just runs."""

    async def main() -> str:
        async with tool(name="search") as event:
            event.returns = "kept"
        return str(event.returns)

    assert asyncio.run(main()) == "kept"
    assert captured.records == []

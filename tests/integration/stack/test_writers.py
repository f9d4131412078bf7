import asyncio
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fleetmeter import ActionEvent, ErrorEvent, LLMEvent, ToolEvent
from fleetmeter_local.stack import Stack
from stack_project import RUN_SECONDS_MAX, Project, new_project, session_id_beside

IDLE_TIMEOUT_MS = 3_000
EACH = 200
# gpt-4o-mini as of then: 0.15 and 0.60 dollars a million tokens.
CALL: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "prompt_tokens": 12,
    "completion_tokens": 7,
}
CALL_COST = Decimal("0.000006")
SHARER = f"""
    import sys
    import fleetmeter
    from fleetmeter import ActionEvent, ErrorEvent, LLMEvent, ToolEvent

    session = fleetmeter.init()
    print(session.session_id, flush=True)
    sys.stdin.readline()
    for number in range({EACH}):
        fleetmeter.record(LLMEvent(**{CALL}))
        fleetmeter.record(ToolEvent(name="search"))
    fleetmeter.record(ActionEvent("plan"))
    fleetmeter.record(ErrorEvent(error_type="timeout"))
    assert fleetmeter.flush().complete
    print("written", flush=True)
    if sys.stdin.readline() == "end\\n":
        print(fleetmeter.end_session("Success"), flush=True)
"""
LOST = """
    import time
    import fleetmeter
    from fleetmeter import ActionEvent

    session = fleetmeter.init()
    for _ in range(50):
        fleetmeter.record(ActionEvent("search"))
    assert fleetmeter.flush().complete
    print(session.session_id, flush=True)
    time.sleep(60)
"""
DOCUMENTED = """
    import fleetmeter as agentops
    from fleetmeter import ActionEvent

    session = agentops.init(tags=["docs"])
    agentops.record(ActionEvent("llms"))
    agentops.record(ActionEvent("tools"))
    print(session.get_analytics())
    print(repr(agentops.end_session("Success")))
"""


@pytest.fixture(scope="module")
def project(stack: Stack) -> Project:
    """A project whose sessions may be silent for half an hour."""
    return new_project(stack)


@pytest.fixture(name="fresh")
def fresh_project(stack: Stack) -> Project:
    """The same, with nothing in it."""
    return new_project(stack)


@pytest.fixture(scope="module")
def impatient(stack: Stack) -> Project:
    """A project whose sessions time out soon."""
    return new_project(stack, IDLE_TIMEOUT_MS)


def has_state(state: str) -> Any:
    """Whether a session's stats are of this state."""
    return lambda stats: stats["state"] == state


def verdict(stats: dict[str, Any]) -> tuple[str, str, str]:
    """State, end state and reason."""
    return stats["state"], stats["end_state"], stats["end_state_reason"]


def say(process: subprocess.Popen[str], line: str) -> None:
    """Tell a program something."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """What a program says next."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    assert said, process.communicate(timeout=RUN_SECONDS_MAX)
    return said


@contextmanager
def three_writers(project: Project, folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """The id of one session, and three processes that are about to write it."""
    with ExitStack() as running:
        first = running.enter_context(project.program(SHARER, folder))
        session_id = hear(first)
        joining = {"FLEETMETER_INHERITED_SESSION_ID": session_id}
        others = [
            running.enter_context(project.program(SHARER, folder, **joining)) for _ in range(2)
        ]
        assert [session_id, session_id] == [hear(other) for other in others]
        yield session_id, [first, *others]


def test_three_processes_write_one_session(project: Project, tmp_path: Path) -> None:
    """All three write at once; the one that ends it is told the cost of them all, exactly."""
    with three_writers(project, tmp_path) as (session_id, writers):
        for writer in writers:
            say(writer, "go")
        assert ["written"] * 3 == [hear(writer) for writer in writers]
        for writer, last_word in zip(writers, ("end", "", ""), strict=True):
            say(writer, last_word)
        cost = Decimal(hear(writers[0]))
        assert [0, 0, 0] == [writer.wait(RUN_SECONDS_MAX) for writer in writers]
    calls = 3 * EACH
    stats = project.stats(session_id)
    wanted = {
        "events": 2 * calls + 6,
        "llm_calls": calls,
        "tool_calls": calls,
        "actions": 3,
        "errors": 3,
        "prompt_tokens": 12 * calls,
        "completion_tokens": 7 * calls,
        "unpriced_events": 0,
        "late_events": 0,
        "end_state": "Success",
        "revision": 2,
    }
    assert wanted == {name: stats[name] for name in wanted}
    assert calls * CALL_COST == cost == Decimal(stats["cost"])
    assert project.agrees(session_id)
    # Nobody's numbering has a hole: start, events, and for one of them the end.
    last = 2 * EACH + 3
    runs = (
        "SELECT arraySort(writers.runs) AS runs FROM sessions FINAL WHERE session_id = {id:String}"
    )
    wanted_runs = [[1, last], [1, last], [1, last + 1]]
    project.await_rows([{"runs": wanted_runs}], runs, id=session_id)


def test_a_forked_pool_writes_one_session(project: Project, tmp_path: Path) -> None:
    """Workers that were forked in the middle of a session write into it, each under its own id."""
    printed = project.run(
        """
        import multiprocessing
        import fleetmeter
        from fleetmeter import ToolEvent

        def work(number):
            for _ in range(100):
                fleetmeter.record(ToolEvent(name=f"worker {number}"))

        session = fleetmeter.init()
        fleetmeter.record(ToolEvent(name="parent"))
        forking = multiprocessing.get_context("fork")
        workers = [forking.Process(target=work, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(session.session_id, fleetmeter.end_session("Success"))
        """,
        tmp_path,
    )
    session_id, cost = printed.split()
    stats = project.stats(session_id)
    assert ("0.00", "Success", 301) == (cost, stats["end_state"], stats["tool_calls"])
    names = Counter(tool["name"] for tool in project.export(session_id)["tools"])
    assert {"parent": 1, "worker 0": 100, "worker 1": 100, "worker 2": 100} == names


@pytest.mark.parametrize(
    ("heartbeat_ms", "reason"), [("0", "idle_timeout"), ("500", "writer_lost")]
)
def test_a_killed_writer_leaves_an_indeterminate_session(
    impatient: Project, tmp_path: Path, heartbeat_ms: str, reason: str
) -> None:
    """What it wrote counts, and the reason tells whether its heartbeats stopped."""
    variables = {"FLEETMETER_HEARTBEAT_INTERVAL_MS": heartbeat_ms}
    with impatient.program(LOST, tmp_path, **variables) as writer:
        session_id = hear(writer)
        if reason == "writer_lost":
            outlive(impatient, session_id)
            assert "open" == impatient.stats(session_id)["state"]
        writer.kill()
        assert -signal.SIGKILL == writer.wait(RUN_SECONDS_MAX)
    stats = impatient.eventually(session_id, has_state("timed_out"))
    assert ("timed_out", "Indeterminate", reason) == verdict(stats)
    assert (50, None) == (stats["events"], stats["complete"])
    assert impatient.agrees(session_id)


def outlive(project: Project, session_id: str) -> None:
    """Wait until a session of the same partition that begins now has timed out."""
    with project.client() as client:
        other = client.start_session(inherited_session_id=session_id_beside(session_id))
    project.eventually(other.session_id, has_state("timed_out"))


def test_a_late_event_reopens_a_session_that_timed_out(impatient: Project) -> None:
    """An event alone opens it again, its silence closes it again, and each is a revision."""
    with impatient.client() as client:
        session = client.start_session()
        session.record(LLMEvent(**CALL))
        first = impatient.eventually(session.session_id, has_state("timed_out"))
        assert (2, 1, str(CALL_COST)) == (first["revision"], first["events"], first["cost"])
        session.record(LLMEvent(**CALL))
        again = impatient.eventually(session.session_id, has_state("open"))
        assert ("open", "Indeterminate", "") == verdict(again)
        assert (3, 2, None) == (again["revision"], again["events"], again["end_timestamp"])
        last = impatient.eventually(session.session_id, has_state("timed_out"))
    assert ("timed_out", "Indeterminate", "idle_timeout") == verdict(last)
    assert (4, 2, 0) == (last["revision"], last["events"], last["late_events"])
    assert str(2 * CALL_COST) == last["cost"]
    assert impatient.agrees(session.session_id)


def test_a_verdict_replaces_a_timeout(impatient: Project) -> None:
    """Who was taken for dead may still say how it ended."""
    with impatient.client() as client:
        session = client.start_session()
        session.record(ActionEvent("search"))
        impatient.eventually(session.session_id, has_state("timed_out"))
        session.end_session("Failure", "out of ideas")
    stats = impatient.stats(session.session_id)
    assert ("ended", "Failure", "out of ideas") == verdict(stats)
    assert (3, 1, True) == (stats["revision"], stats["events"], stats["complete"])


def test_an_event_after_the_verdict_is_late(project: Project) -> None:
    """It is counted, as late; totals are revised and the verdict stays."""
    with project.client() as client:
        session = client.start_session()
        session.record(LLMEvent(**CALL))
        assert str(CALL_COST) == session.end_session("Success")
        session.record(LLMEvent(**CALL))
        stats = project.eventually(session.session_id, lambda stats: stats["late_events"] > 0)
    assert ("ended", "Success", "") == verdict(stats)
    assert (3, 2, 1) == (stats["revision"], stats["events"], stats["late_events"])
    assert str(2 * CALL_COST) == stats["cost"]
    assert project.agrees(session.session_id)


def test_a_verdict_survives_silence_and_indeterminate(impatient: Project) -> None:
    """Neither another writer's Indeterminate nor the timeout replaces a Success."""
    with impatient.client() as one, impatient.client() as other:
        session = one.start_session()
        joined = other.start_session(inherited_session_id=session.session_id)
        session.record(ActionEvent("plan"))
        joined.record(ActionEvent("plan"))
        assert other.flush().complete
        session.end_session("Success", "all tests pass")
        ended = impatient.stats(session.session_id)
        joined.end_session("Indeterminate", "gave up")
        outlive(impatient, session.session_id)
    stats = impatient.stats(session.session_id)
    assert ("ended", "Success", "all tests pass") == verdict(stats)
    assert (2, 2, 0) == (stats["revision"], stats["events"], stats["late_events"])
    assert ended["end_timestamp"] == stats["end_timestamp"]
    assert (None, True) == (ended["complete"], stats["complete"])


def test_a_verdict_replaces_indeterminate(project: Project) -> None:
    """The order of the two words does not matter; between two verdicts the last one wins."""
    with project.client() as one, project.client() as other:
        session = one.start_session()
        joined = other.start_session(inherited_session_id=session.session_id)
        session.end_session("Indeterminate", "gave up")
        assert "Indeterminate" == project.stats(session.session_id)["end_state"]
        joined.end_session("Failure", "it crashed")
        assert ("ended", "Failure", "it crashed") == verdict(project.stats(session.session_id))
        one.start_session(inherited_session_id=session.session_id).end_session("Success")
    assert ("ended", "Success", "") == verdict(project.stats(session.session_id))


def test_the_documented_snippet(fresh: Project, tmp_path: Path) -> None:
    """AgentOps' snippet gives the documented keys and formats with only the import changed."""
    analytics, cost = fresh.run(DOCUMENTED, tmp_path).splitlines()
    duration = re.search(r"'Duration': '(\d+\.\d)s'", analytics)
    assert duration is not None
    counts = "'LLM calls': 1, 'Tool calls': 1, 'Actions': 0, 'Errors': 0"
    assert f"{{{counts}, 'Duration': '{duration[1]}s', 'Cost': '0.00'}}" == analytics
    assert "'0.00'" == cost
    (stats,) = fresh.listed(1)
    assert ("ended", "Success", "") == verdict(stats)
    assert (2, 1, 1, ["docs"]) == tuple(
        stats[name] for name in ("events", "llm_calls", "tool_calls", "tags")
    )
    assert True is stats["complete"]


def test_the_cost_includes_everything_acknowledged(project: Project) -> None:
    """Thousands recorded just before, and what another writer had acknowledged: all is in it."""
    with project.client() as one, project.client() as other:
        session = one.start_session()
        joined = other.start_session(inherited_session_id=session.session_id)
        for _ in range(500):
            joined.record(LLMEvent(cost="0.000000000001"))
        assert other.flush().complete
        for _ in range(3_000):
            session.record(LLMEvent(**CALL, cost="0.01"))
        assert {"Cost": "30.000000", "LLM calls": 3_000} == {
            name: value
            for name, value in session.get_analytics().items()
            if name in {"Cost", "LLM calls"}
        }
        assert "30.0000000005" == session.end_session("Success")
        joined.record(LLMEvent(cost="1"))
        assert "30.0000000005" == session.end_session("Success")


def test_the_cost_is_told_to_async_code_too(project: Project) -> None:
    """`await aend_session()` is the same."""
    with project.client() as client:
        session = client.start_session()
        session.record(LLMEvent(**CALL))
        assert str(CALL_COST) == asyncio.run(session.aend_session("Success"))


def test_fail_means_failure(fresh: Project) -> None:
    """/v2 answers with the word that was sent, everything else with the canonical one."""
    with fresh.client() as client:
        session = client.start_session()
        session.record(ActionEvent("plan"))
        with pytest.raises(ValueError, match="Failed"):
            session.end_session("Failed")
        session.end_session("Fail", "wrong answer")
        assert "Failure" == session.end_state
    session_id = session.session_id
    assert ("ended", "Fail", "wrong answer") == verdict(fresh.stats(session_id))
    assert "Fail" == fresh.export(session_id)["session"]["end_state"]
    assert ["Failure"] == [one["end_state"] for one in fresh.listed(1)]
    in_sql = "SELECT end_state FROM session_totals WHERE session_id = {id:String}"
    fresh.await_rows([{"end_state": "Failure"}], in_sql, id=session_id)


def test_a_signal_ends_the_session_as_failure(project: Project, tmp_path: Path) -> None:
    """A writer that is told to stop says so before it dies by the signal."""
    with project.program(LOST, tmp_path) as writer:
        session_id = hear(writer)
        writer.send_signal(signal.SIGTERM)
        assert -signal.SIGTERM == writer.wait(RUN_SECONDS_MAX)
    stats = project.eventually(session_id, has_state("ended"))
    assert ("ended", "Failure", "Signal SIGTERM detected") == verdict(stats)
    assert (50, True) == (stats["events"], stats["complete"])


def test_module_level_functions(project: Project, tmp_path: Path) -> None:
    """A program that holds no session object writes everything all the same."""
    printed = project.run(
        """
        import fleetmeter
        from fleetmeter import ActionEvent, ErrorEvent, ToolEvent

        fleetmeter.init(tags=["one"], session_name="nightly", user_id="user 7")
        fleetmeter.add_tags(["two", "three"])
        agent_id = fleetmeter.create_agent("planner")
        searched = ToolEvent(name="search", agent_id=agent_id, params={"q": "fleets"}, returns=[1])
        fleetmeter.record(searched)
        fleetmeter.record(ActionEvent("ponder", logs="hm"))
        try:
            raise LookupError("the lost key")
        except LookupError:
            fleetmeter.record(ErrorEvent(trigger_event=searched))
        session_id = fleetmeter.current_session().session_id
        assert fleetmeter.get_session(session_id).session_id == session_id
        print(session_id, agent_id, fleetmeter.end_session("Success", video="https://v/1"))
        """,
        tmp_path,
    )
    session_id, agent_id, cost = printed.split()
    exported = project.export(session_id)
    assert "0.00" == cost
    told = {name: exported["session"][name] for name in ("name", "user_id", "tags", "video")}
    tags = ["one", "two", "three"]
    assert {"name": "nightly", "user_id": "user 7", "tags": tags, "video": "https://v/1"} == told
    assert [{"id": agent_id, "name": "planner"}] == exported["agents"]
    (tool,), (action,), (error,) = exported["tools"], exported["actions"], exported["errors"]
    assert (agent_id, "search", '{"q":"fleets"}', "[1]") == tuple(
        tool[name] for name in ("agent_id", "name", "params", "returns")
    )
    assert ("ponder", "hm") == (action["action_type"], action["logs"])
    assert ("LookupError", "the lost key", tool["id"]) == tuple(
        error[name] for name in ("error_type", "details", "trigger_event_id")
    )


def test_decorators(fresh: Project, tmp_path: Path) -> None:
    """Decorated calls are a session, its agent, its actions and tools, and who called whom."""
    printed = fresh.run(
        """
        import asyncio
        import fleetmeter
        from fleetmeter import agent, operation, session, tool

        @tool(name="search")
        def web_search(query):
            return [query]

        @operation
        async def plan(goal):
            return web_search(goal)

        @agent
        class Writer:
            async def work(self):
                return await plan("fleets")

        @session(name="nightly", tags=["decorated"])
        def job():
            return asyncio.run(Writer().work())

        @session
        def failing():
            raise LookupError("the lost key")

        fleetmeter.init(auto_start_session=False)
        print(job())
        try:
            failing()
        except LookupError as error:
            print(error)
        """,
        tmp_path,
    )
    assert ["['fleets']", "the lost key"] == printed.splitlines()
    by_name = {stats["name"]: stats for stats in fresh.listed(2)}
    assert {"nightly", "failing"} == by_name.keys()
    assert ("ended", "Failure", "LookupError: the lost key") == verdict(by_name["failing"])
    assert ("ended", "Success", "") == verdict(by_name["nightly"])
    assert (2, ["decorated"]) == (by_name["nightly"]["events"], by_name["nightly"]["tags"])
    exported = fresh.export(by_name["nightly"]["session_id"])
    (writer,), (action,), (found,) = exported["agents"], exported["actions"], exported["tools"]
    assert ("Writer", "plan", "search") == (writer["name"], action["action_type"], found["name"])
    assert [writer["id"]] * 2 == [action["agent_id"], found["agent_id"]]
    assert ('{"goal":"fleets"}', '["fleets"]') == (action["params"], action["returns"])
    (row,) = fresh.rows(
        "SELECT parent_id FROM event_list WHERE event_id = {id:String}", id=found["id"]
    )
    assert action["id"] == row["parent_id"]


def test_before_send_decides_what_leaves(fresh: Project) -> None:
    """What the hook takes out is nowhere, what it keeps back is not counted, the rest is."""

    def redacted(event: Any) -> Any:
        if isinstance(event, ErrorEvent):
            return None
        if event.params == "broken":
            raise LookupError
        event.params = "***"
        return event

    with fresh.client(before_send=redacted) as client:
        session = client.start_session()
        session.record(LLMEvent(**CALL, prompt="x", params="secret one"))
        session.record(ToolEvent(name="search", params="broken", returns="secret two"))
        session.record(ErrorEvent(details="secret three"))
        assert 1 == client.flush().filtered
        assert str(CALL_COST) == session.end_session("Success")
    stats, exported = fresh.stats(session.session_id), fresh.export(session.session_id)
    assert (2, 1, 1, 0) == tuple(
        stats[name] for name in ("events", "llm_calls", "tool_calls", "errors")
    )
    assert ["***", ""] == [exported["llms"][0]["params"], exported["tools"][0]["params"]]
    (found,) = fresh.rows(
        "SELECT count() AS rows,"
        " countIf(position(concat(input, output, logs, attributes), 'secret') > 0) AS leaked"
        " FROM events WHERE project_id = {id:String}",
        id=fresh.project_id,
    )
    assert 0 == int(found["leaked"]) < int(found["rows"])

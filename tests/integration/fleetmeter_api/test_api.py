"""The api on the real broker and the real store; what other services write, the tests write."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import product
from typing import Any, cast
from uuid import uuid4

import httpx
import psutil
import pytest

from api_fakes import numbers, snapshot
from api_stack import Address, Stack, event_row
from fleetmeter_api import statements
from fleetmeter_api.app import create_app, real_ports
from fleetmeter_api.models import Stats
from fleetmeter_api.sessions import merge
from fleetmeter_api.settings import ApiSettings
from fleetmeter_local.ports import free_ports

NOW_MS = 1_760_000_010_000
START_US = 1_760_000_000_000_000
HOUR_US = 3_600_000_000
READY_SECONDS_MAX = 30.0
Client = httpx.AsyncClient


@pytest.fixture(scope="module")
def stack(broker: str, store: Address) -> Stack:
    """One namespace for all tests here; each has projects and sessions of its own."""
    made = Stack(broker, store)
    made.migrate()
    return made


@pytest.fixture
def project() -> str:
    """A project of this test's own."""
    return str(uuid4())


@asynccontextmanager
async def serving(stack: Stack, **options: Any) -> AsyncIterator[Client]:
    """The api in this process, over the real things, ready."""
    settings = ApiSettings(
        namespace=stack.namespace,
        bootstrap_servers=stack.broker,
        store_url=stack.store.url,
        store_user=stack.store.user,
        store_password=stack.store.password,  # type: ignore[arg-type]
        **options,
    )
    app = create_app(settings, real_ports(settings, lambda: time.time_ns() // 1_000_000))
    async with (
        app.router.lifespan_context(app),
        Client(transport=httpx.ASGITransport(app), base_url="http://api", timeout=30) as client,
    ):
        await until_ready(client)
        yield client


async def until_ready(client: Client) -> None:
    """Wait until the api is ready."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while (answer := await client.get("/ready")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.05)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine, for a minute at most."""
    asyncio.run(asyncio.wait_for(work(), 60))


def key(api_key: str) -> dict[str, str]:
    """The header with a key."""
    return {"X-Agentops-Api-Key": api_key}


def test_what_stands_in_the_topic_is_told_after_a_start(stack: Stack, project: str) -> None:
    """A session that was live before the api started is answered, checkpoint and all."""
    session_id = str(uuid4())
    api_key = stack.create_key(project)
    partition = stack.partition(session_id)
    one = snapshot(project_id=project, session_id=session_id, partition=partition)
    log_time_ms = time.time_ns() // 1_000_000
    stack.publish(one, following=33, log_time_ms=log_time_ms)

    async def work() -> None:
        async with serving(stack) as client:
            answer = await client.get(f"/v2/sessions/{session_id}/stats", headers=key(api_key))
            told = Stats.model_validate(answer.json())
            assert (told.events, told.cost, told.caught_up) == (2, "0.0015", True)
            assert told.lag_ms is not None
            assert told.lag_ms < 60_000

    run(work)


def test_reads_its_writes(stack: Stack, project: str) -> None:
    """An answer with after_offset waits for the transaction that contains it, and no longer."""
    session_id = str(uuid4())
    api_key = stack.create_key(project)
    partition = stack.partition(session_id)
    first = snapshot(project_id=project, session_id=session_id, partition=partition, next=100)
    second = {**first, "next": 200, "numbers": numbers(events=7)}

    async def work() -> None:
        async with serving(stack) as client:
            stack.publish(first, following=100, log_time_ms=NOW_MS)
            asked = asyncio.create_task(
                client.get(
                    f"/v2/sessions/{session_id}/stats",
                    params={"after_offset": 150, "wait_ms": 10_000},
                    headers=key(api_key),
                )
            )
            # A snapshot of a transaction that is not committed must not be told.
            producer = await asyncio.to_thread(stack.begin)
            stack.put_snapshot(producer, {**second, "numbers": numbers(events=999)})  # type: ignore[typeddict-item]
            producer.flush(10)
            await asyncio.sleep(0.3)
            assert not asked.done()
            await asyncio.to_thread(producer.abort_transaction, 20)
            stack.publish(second, following=200, log_time_ms=NOW_MS + 1)  # type: ignore[arg-type]
            answer = (await asked).json()
            assert (answer["events"], answer["caught_up"]) == (7, True)
            late = await client.get(
                f"/v2/sessions/{session_id}/stats",
                params={"after_offset": 10**9, "wait_ms": 50},
                headers=key(api_key),
            )
            assert late.json()["caught_up"] is False

    run(work)


def test_key_created_and_used_at_once(stack: Stack, project: str) -> None:
    """Keys work from the moment their record is in the log; 100 of them, none refused."""

    async def work() -> None:
        async with serving(stack) as client:
            for _ in range(100):
                api_key = stack.create_key(project)
                answer = await client.get("/v2/sessions/none/stats", headers=key(api_key))
                assert answer.status_code == 404

    run(work)


def test_unknown_and_revoked_keys_are_refused(stack: Stack, project: str) -> None:
    """An unknown key is 401, as is a revoked one from the moment that its record says."""
    now_ms = time.time_ns() // 1_000_000
    revoked = stack.create_key(project, revoked_at_ms=now_ms - 1)
    later = stack.create_key(project, revoked_at_ms=now_ms + 3_600_000)

    async def work() -> None:
        async with serving(stack) as client:
            codes = [
                (await client.get("/v2/sessions/none/stats", headers=key(one))).status_code
                for one in (str(uuid4()), revoked, later)
            ]
            assert codes == [401, 401, 404]
            stack.write_key(later, project, now_ms - 1)
            await asyncio.sleep(0.5)
            answer = await client.get("/v2/sessions/none/stats", headers=key(later))
            assert answer.status_code == 401

    run(work)


def test_stored_sessions_are_exact(stack: Stack, project: str) -> None:
    """What the store gives back has each digit: sums, times, texts, parts and replaced rows."""
    session_id = "crew/'7' \\ ümlaut"
    api_key = stack.create_key(project)
    partition = stack.partition(session_id)
    old = snapshot(
        project_id=project,
        session_id=session_id,
        partition=partition,
        state="ended",
        end_state="Failure",
        end_state_said="Fail",
        end_state_reason='said "so"',
        ended_at_us=START_US + 123_456,
        numbers=numbers(events=1, cost_pico_usd=9_223_372_036_854_775_807),
        tags=["a", "b'"],
        agents={"x": "y"},
        complete=True,
        flags=["start_missing"],
    )
    stale = {**old, "next": 5, "numbers": numbers(events=77)}
    new = {**old, "part": 90, "next": 95, "numbers": numbers(events=2, cost_pico_usd=1)}
    stack.land(stale, old)  # type: ignore[arg-type]
    stack.land(new)  # type: ignore[arg-type]

    async def work() -> None:
        async with serving(stack) as client:
            path = f"/v2/sessions/{'crew%2F%277%27%20%5C%20%C3%BCmlaut'}/stats"
            told = (await client.get(path, headers=key(api_key))).json()
            expected = {
                "session_id": session_id,
                "events": 3,
                "cost": "9223372.036854775808",
                "end_state": "Fail",
                "end_state_reason": 'said "so"',
                "init_timestamp": "2025-10-09T08:53:20.000000+00:00",
                "end_timestamp": "2025-10-09T08:53:20.123456+00:00",
                "duration_s": 0.123456,
                "tags": ["a", "b'"],
                "complete": True,
                "flags": ["start_missing"],
            }
            assert {name: told[name] for name in expected} == expected

    run(work)


ENDINGS: dict[str, dict[str, Any]] = {
    "open": {"tags": ["a", "b"], "name": "n"},
    "silent": {"state": "timed_out", "end_state_reason": "idle_timeout", "tags": ["c"]},
    "unsaid": {"state": "ended", "user_id": "u"},
    "success": {"state": "ended", "end_state": "Success", "tags": ["b"]},
    "failure": {"state": "ended", "end_state": "Failure", "conversation_id": "c", "name": "m"},
}


def test_the_view_tells_what_the_api_tells(stack: Stack, project: str) -> None:
    """However the parts of a session ended, session_totals merges them as the api does."""
    sessions = {
        "-".join(names): [
            snapshot(
                project_id=project,
                session_id="-".join(names),
                part=part,
                next=part + 1,
                revision=part + 1,
                ended_at_us=None if name == "open" else START_US + part,
                **ENDINGS[name],
            )
            for part, name in enumerate(names)
        ]
        for names in product(ENDINGS, repeat=3)
    }
    stack.land(*(part for parts in sessions.values() for part in parts))
    told = stack.command(
        b"SELECT session_id, state, end_state, end_state_reason, name, user_id, conversation_id,"
        b" tags, revision, toUnixTimestamp64Micro(ended_at) AS ended_at_us"
        b" FROM session_totals WHERE project_id = {project_id:String} FORMAT JSONEachRow",
        project_id=project,
    )
    rows = {row["session_id"]: row for row in map(json.loads, told.splitlines())}
    merged = {session_id: cast("Any", merge(parts)) for session_id, parts in sessions.items()}
    assert rows.keys() == merged.keys()
    assert [] == [
        (session_id, name, merged[session_id][name], value)
        for session_id, row in rows.items()
        for name, value in row.items()
        if merged[session_id][name] != (int(value) if name == "revision" else value)
    ]


def test_api_that_starts_while_the_lander_is_behind(stack: Stack, project: str) -> None:
    """A stored row counts as current only when the lander has come to the tail's beginning."""
    session_id = str(uuid4())
    api_key = stack.create_key(project)
    partition = stack.partition(session_id)
    one = snapshot(project_id=project, session_id=session_id, partition=partition)
    stack.land(one)
    for number in range(110):
        filler = snapshot(project_id=project, session_id=f"f{number}", partition=partition)
        stack.publish(filler, following=300 + number, log_time_ms=NOW_MS)
    path = f"/v2/sessions/{session_id}/stats"

    async def work() -> None:
        async with serving(stack, tail_records_back=100) as client:
            behind = (await client.get(path, headers=key(api_key))).json()
            assert (behind["events"], behind["caught_up"]) == (2, False)
            stack.commit_landing(partition, events_next=20, snapshots_offset=10**6)
            landed = (await client.get(path, headers=key(api_key))).json()
            assert landed["caught_up"] is True

    run(work)


@pytest.fixture
def written(stack: Stack, project: str) -> tuple[str, str]:
    """A session with events of all kinds, duplicates, a revision and a correction; with its key."""
    session_id = str(uuid4())
    partition = stack.partition(session_id)

    def event(event_id: str, offset: int, **values: Any) -> dict[str, Any]:
        start_us = START_US + offset * HOUR_US
        return event_row(project, session_id, event_id, start_us, offset, **values)

    usage = {
        "input_tokens": 100,
        "output_tokens": 10,
        "cache_write_5m_tokens": 3,
        "cache_write_1h_tokens": 4,
        "cost_pico_usd": 1_000_000_000_001,
        "cost_status": "priced",
    }
    revised = usage | {"input_tokens": 250}
    rows = [
        event("l1", 1, **usage, input='[{"role": "user", "content": "hi"}]', output="plain"),
        event("l1", 1, **usage | {"output_tokens": 99}, start_time_us="2001-01-01 00:00:00.000000"),
        event("l2", 2, **usage),
        event("l3", 3, cost_status="unpriced", input_tokens=5),
        event("sum", 4, **usage | {"cost_status": "aggregate"}),
        event("t1", 5, kind="tool", name="search", **usage | {"cost_status": "provided"}),
        event("a1", 6, kind="action", name="think", attributes='{"screenshot": "s"}'),
        event("x1", 7, kind="error", error_type="E", parent_id="t1", attributes='{"code": "C"}'),
        event(
            "start",
            0,
            kind="session_started",
            attributes='{"host_environment": {"OS": {"OS": "Linux"}}}',
        ),
        event("end", 8, kind="session_ended"),
    ]
    # The same offset again with other content: the duplicate that slipped past the window has a
    # higher offset, and loses.
    rows[1]["offset"] = 9
    rows[1]["first_start_time_us"] = rows[0]["first_start_time_us"]
    stack.insert("events", rows)
    again = event("l2", 2, **revised) | {"revision": 1, "offset": 10}
    fix = event("fix", 11, kind="correction", attributes='{"events": -1, "cost_pico_usd": -1}')
    fix["first_start_time_us"] = "2030-01-01 00:00:00.000000"
    foreign = event("l9", 3, **usage) | {"project_id": str(uuid4())}
    beyond = event("later", 12, **usage)
    stack.insert("events", [again, fix, foreign, beyond])
    right = numbers(
        events=6,
        llm_calls=4,
        tool_calls=1,
        actions=1,
        errors=1,
        input_tokens=355,
        output_tokens=20,
        cache_write_tokens=14,
        cost_pico_usd=3_000_000_000_002,
        unpriced_events=1,
    )
    stack.land(
        snapshot(
            project_id=project,
            session_id=session_id,
            partition=partition,
            next=12,
            last_event_at_us=START_US + 20 * HOUR_US,
            numbers=right,
        )
    )
    stack.commit_landing(partition, events_next=12, snapshots_offset=10**6)
    return session_id, stack.create_key(project)


def test_verify_recomputes(stack: Stack, written: tuple[str, str]) -> None:
    """The recomputation is the exact sum over unique events before the position."""
    session_id, api_key = written

    async def work() -> None:
        async with serving(stack) as client:
            path = f"/v1/sessions/{session_id}/verify"
            answer = (await client.get(path, headers=key(api_key))).json()
            assert answer["differences"] == {}
            assert answer["agrees"] is True
            page = (await client.get("/v1/verify", headers=key(api_key))).json()
            assert (page["agrees"], page["checked"]) == (True, 1)
            listed = (await client.get("/v1/sessions", headers=key(api_key))).json()
            assert [one["session_id"] for one in listed["sessions"]] == [session_id]

    run(work)


def test_verify_sees_a_wrong_snapshot(stack: Stack, written: tuple[str, str]) -> None:
    """One token too many in the snapshot is found."""
    session_id, api_key = written
    (row,) = json.loads(
        stack.command(
            f"SELECT project_id, part FROM {stack.namespace}.sessions"  # noqa: S608 - a test's own
            f" WHERE session_id = '{session_id}' FORMAT JSON".encode()
        )
    )["data"]
    wrong = snapshot(
        project_id=row["project_id"],
        session_id=session_id,
        partition=stack.partition(session_id),
        next=12,
        last_event_at_us=START_US + 20 * HOUR_US,
        numbers=numbers(input_tokens=356),
    )
    stack.land(wrong)

    async def work() -> None:
        async with serving(stack) as client:
            path = f"/v1/sessions/{session_id}/verify"
            answer = (await client.get(path, headers=key(api_key))).json()
            assert answer["agrees"] is False
            assert answer["differences"]["input_tokens"] == {"snapshot": 356, "recomputed": 355}

    run(work)


def test_export_is_whole(stack: Stack, written: tuple[str, str]) -> None:
    """An export has each event before the position once, in its last revision, in order."""
    session_id, api_key = written

    async def work() -> None:
        async with serving(stack) as client:
            path = f"/v2/sessions/{session_id}/export"
            export = (await client.get(path, headers=key(api_key))).json()
            lists = {
                name: [one["id"] for one in export[name]]
                for name in ("actions", "llms", "tools", "errors")
            }
            assert lists == {
                "actions": ["a1"],
                "llms": ["l1", "l2", "l3", "sum"],
                "tools": ["t1"],
                "errors": ["x1"],
            }
            first, second, *_ = export["llms"]
            assert first["prompt"] == {
                "type": "chatml",
                "messages": [{"role": "user", "content": "hi"}],
            }
            assert first["completion"] == {"type": "string", "string": "plain"}
            assert (first["cost"], first["completion_tokens"]) == ("1.000000000001", 10)
            assert (second["prompt_tokens"], second["revision"]) == (250, 1)
            assert export["session"]["host_env"] == {"OS": {"OS": "Linux"}}
            assert export["session"]["complete_export"] is True
            assert export["errors"][0]["trigger_event_id"] == "t1"

    run(work)


def test_payloads_that_are_no_text_do_not_break_an_export(stack: Stack, project: str) -> None:
    """Bytes that are not UTF-8, control characters and half surrogates leave valid JSON."""
    session_id = str(uuid4())
    line = json.dumps(event_row(project, session_id, "e", START_US, 1, input="@", output="#"))
    odd = line.encode().replace(b'"@"', b'"\xff\xfe\xed\xa0\xbd\\u0000"')
    stack.insert_lines("events", odd.replace(b'"#"', b'"[1, NaN]"'))
    partition = stack.partition(session_id)
    stack.land(snapshot(project_id=project, session_id=session_id, partition=partition))
    api_key = stack.create_key(project)

    async def work() -> None:
        async with serving(stack) as client:
            path = f"/v2/sessions/{session_id}/export"
            answer = await client.get(path, headers=key(api_key))
            (exported,) = json.loads(answer.content.decode("utf-8"))["llms"]
            assert "\x00" in exported["prompt"]["string"]
            assert exported["completion"] == {"type": "string", "string": "[1, NaN]"}

    run(work)


def test_long_export_is_streamed(stack: Stack, project: str) -> None:
    """100 MB of payload leave the process whole and in order, and hardly stay in its memory."""
    session_id, rows = str(uuid4()), 10_000
    stack.command(
        f"INSERT INTO {stack.namespace}.events (project_id, session_id, event_id, kind,"  # noqa: S608
        " start_time_us, first_start_time_us, offset, log_time_ms, input)"
        f" SELECT '{project}', '{session_id}', toString({rows} - number), 'tool',"
        f" fromUnixTimestamp64Micro(toInt64({START_US} + number * 1000000), 'UTC') AS at, at,"
        f" number, now(), repeat('x', 10000) FROM numbers({rows})".encode()
    )
    stack.land(
        snapshot(
            project_id=project,
            session_id=session_id,
            partition=stack.partition(session_id),
            next=rows,
            last_event_at_us=START_US + rows * 1_000_000,
        )
    )
    headers = key(stack.create_key(project))
    with process(stack) as (running, url):

        def size() -> int:
            return psutil.Process(running.pid).memory_info().rss

        async def work() -> None:
            async with Client(base_url=url, timeout=30, headers=headers) as client:
                await until_ready(client)
                first = await client.get("/v2/sessions/none/stats")
                assert first.status_code == 404
                before, most, received = size(), 0, bytearray()
                path = f"/v2/sessions/{session_id}/export"
                async with client.stream("GET", path) as answer:
                    async for piece in answer.aiter_bytes():
                        received += piece
                        most = max(most, size())
                tools = json.loads(received)["tools"]
                times = [one["init_timestamp"] for one in tools]
                assert len(times) == rows
                assert times == sorted(times)
                assert most - before < 40_000_000

        run(work)


def test_queries_read_few_granules(stack: Stack, project: str) -> None:
    """Events of one session are found by month and sort key, not by reading the project."""
    session_id = str(uuid4())
    stack.command(
        f"INSERT INTO {stack.namespace}.events (project_id, session_id, event_id, kind,"  # noqa: S608
        " start_time_us, first_start_time_us, offset, log_time_ms)"
        f" SELECT '{project}', if(number % 1000 = 7, '{session_id}', toString(number)),"
        " toString(number), 'tool',"
        f" fromUnixTimestamp64Micro(toInt64({START_US} + number * 30000000), 'UTC') AS at, at,"
        " number, now() FROM numbers(300000)".encode()
    )
    given = {
        "project_id": project,
        "session_id": session_id,
        "session_ids": f"['{session_id}']",
        "nexts": "[1000000]",
        "from_us": START_US + 3_000_000_000_000,
        "to_us": START_US + 3_003_600_000_000,
        "next": 1_000_000,
        "kind": "tool",
    }
    for statement in (statements.EVENTS, statements.RECOMPUTE, statements.HOST_ENVIRONMENT):
        plan = stack.command(f"EXPLAIN indexes = 1 {statement}".encode(), **given)
        read = [line.split() for line in plan.splitlines() if "Granules:" in line]
        # The last line of a part is what is left after all indexes: `Granules: 1/6`.
        left, _, whole = read[-1][1].partition("/")
        assert int(left) <= 2, plan
        assert int(left) <= int(whole)


def test_store_that_is_away(stack: Stack, project: str) -> None:
    """Without the store live sessions are told, stored ones and exports are 503."""
    session_id = str(uuid4())
    api_key = stack.create_key(project)
    partition = stack.partition(session_id)
    one = snapshot(project_id=project, session_id=session_id, partition=partition)
    stack.publish(one, following=500, log_time_ms=NOW_MS)
    (port,) = free_ports(1)
    nowhere = ApiSettings(
        namespace=stack.namespace,
        bootstrap_servers=stack.broker,
        store_url=f"http://127.0.0.1:{port}",
    )
    app = create_app(nowhere, real_ports(nowhere, lambda: NOW_MS))

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            Client(transport=transport, base_url="http://api", headers=key(api_key)) as client,
        ):
            deadline = time.monotonic() + READY_SECONDS_MAX
            while set((await client.get("/ready")).json()["reasons"]) != {"store"}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            live = await client.get(f"/v2/sessions/{session_id}/stats")
            other = await client.get("/v2/sessions/other/stats")
            export = await client.get(f"/v2/sessions/{session_id}/export")
            codes = [answer.status_code for answer in (live, other, export)]
            assert codes == [200, 503, 503]
            assert live.json()["flags"] == ["older_parts_unknown"]

    run(work)


@contextmanager
def process(stack: Stack) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The api as a process of its own, and where it is; it must end with 0 on SIGTERM."""
    (port,) = free_ports(1)
    env = os.environ | stack.environment | {"FLEETMETER_API_PORT": str(port)}
    running = subprocess.Popen([sys.executable, "-m", "fleetmeter_api"], env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        await_answer(running, url)
        yield running, url
    finally:
        running.send_signal(signal.SIGTERM)
        status = running.wait(20)
    assert status == 0


def await_answer(running: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the process answers at all."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            httpx.get(f"{url}/health", timeout=5)
        except httpx.TransportError:
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.1)
        else:
            return


def test_the_process(stack: Stack, project: str) -> None:
    """`python -m fleetmeter_api` serves over HTTP, and ends with 0 on SIGTERM."""
    headers = key(stack.create_key(project))

    async def work(url: str) -> None:
        async with Client(base_url=url, timeout=10, headers=headers) as client:
            await until_ready(client)
            answer = await client.get("/v2/sessions/none/stats")
            assert answer.status_code == 404
            assert "fleetmeter_api_tail_records" in (await client.get("/metrics")).text

    with process(stack) as (_, url):
        run(lambda: work(url))


def test_wrong_partition_count_ends_the_process(stack: Stack, broker: str) -> None:
    """Topics that contradict the cluster's record end the process with 2 and one line."""
    other = Stack(broker, stack.store)
    other.make_topics(control=1, sessions=3)
    other.record_partitions(2)
    (port,) = free_ports(1)
    env = os.environ | other.environment | {"FLEETMETER_API_PORT": str(port)}
    done = subprocess.run(
        [sys.executable, "-m", "fleetmeter_api"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert f"{other.namespace}.sessions.v1 has 3 partitions instead of 2" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLEETMETER_API_PORT", "x"),
        ("FLEETMETER_NAMESPACE", "no-name"),
        ("FLEETMETER_API_HOST", "256.1.1.1"),
    ],
)
def test_wrong_settings_end_with_one_line(name: str, value: str) -> None:
    """A wrong setting ends the process with status 2 and one line that names it or its value."""
    env = os.environ | {name: value}
    done = subprocess.run(
        [sys.executable, "-m", "fleetmeter_api"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr or value in done.stderr

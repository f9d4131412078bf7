"""`kill -9` of every process in the middle of its work: what was acknowledged is there, once."""
# ruff: noqa: S608 - the values are the test's own

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest

from fleetmeter_local import keys, recorded
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.topics import EVENTS
from running_stack import (
    Processes,
    await_that,
    command_line,
    end_offsets,
    kill,
    plain_environment,
    rows,
    run_command,
)
from stack_project import Project, new_project

IDLE_TIMEOUT_MS = 3_000
REPLAY_SECONDS_MAX = 200.0
# Six weeks of recorded time in about half a minute.
PACE = 110_000
BACKLOG_EVENTS_MIN = 3_000
VICTIMS = ("meter", "sessions", "lander", "store", "api", "kafka", "writer")
# What the recorded sessions add up to; known from outside of this code.
SESSIONS = 205
EVENTS_RECORDED = 35_023
RECORDED: dict[str, Any] = {
    "sessions": SESSIONS,
    "events": EVENTS_RECORDED,
    "cost_usd": "1114.1278191",
    "unpriced_events": 27,
    "end_states": {"Indeterminate": 204, "Success": 1},
    "mismatches": [],
}
LEDGER_WRITER = """
    import os
    from uuid import uuid4
    from fleetmeter import ActionEvent, Client, Config

    client = Client(Config.from_environment(os.environ, crash_handlers=False, linger_ms=5))
    session = client.start_session(inherited_session_id=os.environ["SESSION_ID"])
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        ids = [str(uuid4()) for _ in range(20)]
        for each in ids:
            session.record(ActionEvent("step", id=each))
        result = client.flush(60_000)
        assert result.complete, result
        os.write(ledger, "".join(f"{each}\\n" for each in ids).encode())
        os.fsync(ledger)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """`fleetmeter replay` of the recorded sessions, on its way."""

    process: subprocess.Popen[str]

    @property
    def writers(self) -> list[int]:
        """The pids of its writers that still send."""
        try:
            children = psutil.Process(self.process.pid).children()
            return [c.pid for c in children if "fleetmeter_local.replay_writer" in c.cmdline()]
        except psutil.Error:
            return []

    def result(self) -> dict[str, Any]:
        """What it found, when it has ended."""
        out, err = self.process.communicate(timeout=REPLAY_SECONDS_MAX)
        assert out, err
        return dict(json.loads(out))


@contextmanager
def replaying(project: Project, speed: str) -> Iterator[Replay]:
    """Replay all recorded sessions into a project; what is left of it ends with the block."""
    options = ("--api-key", project.api_key, "--speed", speed, "--json")
    process = subprocess.Popen(
        command_line(project.stack.data_dir, "replay", str(recorded.demo_file()), *options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=plain_environment(),
    )
    try:
        yield Replay(process=process)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def processes(stack: Stack) -> Processes:
    """The stack's processes."""
    return Processes(stack=stack)


@pytest.fixture
def project(stack: Stack) -> Project:
    """A project whose sessions time out soon."""
    return new_project(stack, IDLE_TIMEOUT_MS)


def test_each_process_is_killed_while_events_come(processes: Processes, project: Project) -> None:
    """Killed one after the other while writers write, each comes back, and all totals are exact."""
    before = processes.restarts()
    replays: list[Replay] = []
    with ExitStack() as running:
        for name in VICTIMS:
            # The last one may have sent everything while the victims came back.
            if not replays or not replays[-1].writers:
                replays.append(running.enter_context(replaying(project, str(PACE))))
            kill_at_work(processes, project, replays[-1], name)
        results = [replay.result() for replay in replays]
    assert [RECORDED] * len(replays) == [same_names(result, RECORDED) for result in results]
    assert set() == strange_restarts(before, processes.restarts(), set(before))
    check_books(project, len(replays))


def test_all_are_killed_at_once_in_a_backlog(processes: Processes, project: Project) -> None:
    """Meter, sessions, lander and store die together at full speed; all totals are exact."""
    together = ("meter", "sessions", "lander", "store")
    before = processes.restarts()
    began = metered_events(processes)
    with replaying(project, "max") as replay:
        await_that(lambda: metered_events(processes) > began + BACKLOG_EVENTS_MIN)
        pids = [processes.pid(name) for name in together]
        for pid in pids:
            kill(pid)
        assert replay.process.poll() is None
        result = replay.result()
    assert RECORDED == same_names(result, RECORDED)
    assert set() == strange_restarts(before, processes.restarts(), set(together))
    check_books(project, 1)


def test_what_a_killed_writer_was_acknowledged_is_stored(
    processes: Processes, project: Project, tmp_path: Path
) -> None:
    """Kafka dies under three writers, then they do; every delivery report has its row."""
    ledgers = {str(uuid4()): tmp_path / f"ledger_{number}" for number in range(3)}
    with ExitStack() as running:
        writers = [
            running.enter_context(
                project.program(LEDGER_WRITER, tmp_path, LEDGER=str(path), SESSION_ID=session_id)
            )
            for session_id, path in ledgers.items()
        ]
        await_that(lambda: all(acknowledged(path) for path in ledgers.values()))
        processes.kill("kafka")
        stopped_at = {session_id: len(acknowledged(path)) for session_id, path in ledgers.items()}
        processes.await_ready("kafka")
        await_that(
            lambda: all(len(acknowledged(ledgers[s])) > count for s, count in stopped_at.items())
        )
        assert [None] * 3 == [writer.poll() for writer in writers]
        for writer in writers:
            kill(writer.pid)
    for session_id, path in ledgers.items():
        stats = project.eventually(session_id, lambda found: found["state"] != "open")
        assert ("timed_out", "Indeterminate", "idle_timeout") == (
            stats["state"],
            stats["end_state"],
            stats["end_state_reason"],
        )
        # The verdict waits until the session's events have landed.
        await_that(lambda one=session_id: project.agrees(one))  # type: ignore[misc]
        stored = stored_ids(project, session_id)
        assert set() == set(acknowledged(path)) - set(stored)
        assert len(set(stored)) == len(stored) == stats["events"] == stats["actions"]


def kill_at_work(processes: Processes, project: Project, replay: Replay, name: str) -> None:
    """Kill one process while it works, and wait until it does again."""
    progress = progress_of(name, processes)
    count = progress()
    await_that(lambda: progress() > count and bool(replay.writers), told=f"{name} does nothing")
    if name == "api":
        kill_api_within_a_request(processes, project)
    else:
        kill(replay.writers[0] if name == "writer" else processes.pid(name))
    assert replay.process.poll() is None
    if name == "writer":
        return
    # Kafka aside, what is written goes on being written.
    written = sum(end_offsets(project.stack, EVENTS)) if name != "kafka" else 0
    processes.await_ready(name)
    await_that(lambda: sum(end_offsets(project.stack, EVENTS)) > written)


def progress_of(name: str, processes: Processes) -> Callable[[], float]:
    """What counts up while a process works."""
    match name:
        case "meter":
            return lambda: metered_events(processes)
        case "sessions":
            return lambda: processes.counted("sessions", "fleetmeter_sessions_snapshots_total")
        case "lander" | "store":
            return lambda: processes.counted("lander", "fleetmeter_lander_rows_total")
        case _:
            return lambda: float(sum(end_offsets(processes.stack, EVENTS)))


def metered_events(processes: Processes) -> float:
    """How many events the meter has accepted since it started."""
    return processes.counted("meter", "fleetmeter_meter_records_total", 'verdict="event"')


def kill_api_within_a_request(processes: Processes, project: Project) -> None:
    """Kill the api while it keeps somebody waiting for what has not been written yet."""
    of_project = f"project_id = '{project.project_id}'"
    (some,) = project.rows(f"SELECT session_id FROM sessions WHERE {of_project} LIMIT 1")
    path = f"/v2/sessions/{some['session_id']}/stats"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(project.get, path, after_offset=10**12, wait_ms=10_000)
        await_that(asked.running)
        with pytest.raises(TimeoutError):
            asked.result(0.5)
        processes.kill("api")
        with pytest.raises(httpx.TransportError):
            asked.result(5)


def strange_restarts(
    before: dict[str, int], after: dict[str, int], killed: set[str]
) -> set[tuple[str, int]]:
    """Who was started again though nobody killed it, or more than once more than it was killed.

    Kafka's end may take its readers with it: they are fenced, and begin anew.
    """
    more = {name: after[name] - before[name] for name in before}
    allowed = {name: (1, 2) if name in killed else (0,) for name in before}
    return {(name, count) for name, count in more.items() if count not in allowed[name]}


def check_books(project: Project, replays: int) -> None:
    """Nothing is there twice, nothing was rejected, and every session equals its events."""
    of_project = f"project_id = '{project.project_id}'"
    (events,) = project.rows(
        "SELECT count() AS rows, uniqExact(session_id, event_id) AS events,"
        " countIf(kind IN ('llm', 'tool', 'action', 'error')) AS counted"
        f" FROM events FINAL WHERE {of_project}"
    )
    assert int(events["rows"]) == int(events["events"])
    assert replays * EVENTS_RECORDED == int(events["counted"])
    assert [] == project.rows(f"SELECT reason FROM dead_letters WHERE {of_project}")
    (states,) = project.rows(
        "SELECT countIf(state = 'timed_out' AND end_state_reason = 'idle_timeout') AS timed_out,"
        " countIf(state = 'ended' AND end_state = 'Success') AS ended, count() AS sessions"
        f" FROM sessions FINAL WHERE {of_project}"
    )
    wanted = {"timed_out": 204 * replays, "ended": replays, "sessions": SESSIONS * replays}
    assert wanted == {name: int(value) for name, value in states.items()}
    verified = verify(project)
    wanted_verdict = {"agree": True, "checked": SESSIONS * replays, "differing": []}
    assert wanted_verdict == same_names(verified, wanted_verdict)


def verify(project: Project) -> dict[str, Any]:
    """What `fleetmeter verify` says of the project."""
    name = project_name(project)
    made = run_command(project.stack.data_dir, "keys", "create", "--project", name)
    assert 0 == made.returncode, made.stderr
    done = run_command(project.stack.data_dir, "verify", "--project", name, "--json")
    return dict(json.loads(done.stdout))


def project_name(project: Project) -> str:
    """What the project is called."""
    return keys.read(project.stack.control).projects[project.project_id]["name"]


def same_names(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Those entries that somebody has an idea of."""
    return {name: found[name] for name in wanted}


def acknowledged(ledger: Path) -> list[str]:
    """The event ids that a writer noted after their delivery reports; a torn last line aside."""
    text = ledger.read_text() if ledger.exists() else ""
    return [str(UUID(line)) for line in text.split("\n")[:-1]]


def stored_ids(project: Project, session_id: str) -> list[str]:
    """The ids of a session's counted events in the table."""
    found = rows(
        project.stack,
        f"SELECT event_id FROM events FINAL WHERE project_id = '{project.project_id}'"
        f" AND session_id = '{session_id}' AND kind = 'action'",
    )
    return [row["event_id"] for row in found]

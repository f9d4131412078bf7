import gzip
import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from fleetmeter import ActionEvent, Client, Config, LLMEvent
from fleetmeter_local import keys, recorded
from fleetmeter_local import stack as stacks
from fleetmeter_local.keys import ControlLog, NewKey
from fleetmeter_local.stack import STORE_USER, Stack
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import key_hash, partition_of
from fleetmeter_schemas.topics import PARTITIONS_DEFAULT
from lander_stack import Stack as Namespace
from lander_stack import wait_for
from metered_copy import (
    METERED,
    SESSIONS,
    committed,
    copy_metered,
    decoded,
    ends,
    finish,
    history,
    landed,
    read,
    snapshots,
    unchanged_since,
)
from stack_project import new_project

PARTITIONS = PARTITIONS_DEFAULT
IDLE_TIMEOUT_MS = 3_000
RECORDED, EVENTS_MAX = 24, 150
WRITERS = 2
LATE = 6
LIVE = 12
EVENT = Codec("Event")
EVERYTHING = {"events": "*, version", "sessions": "*", "dead_letters": "*"}
SMALL = {
    "FLEETMETER_SESSIONS_TRANSACTION_SNAPSHOTS_MAX": "2",
    "FLEETMETER_LANDER_BATCH_BYTES_MAX": "1000",
    "FLEETMETER_LANDER_BATCH_WAIT_MS": "10",
    "FLEETMETER_LANDER_BATCH_QUIET_MS": "10",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Projects:
    """A project that waits long for its sessions, and one that does not."""

    patient: NewKey
    impatient: NewKey


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where these tests put files."""
    return tmp_path_factory.mktemp("metered_replay")


@pytest.fixture(scope="module")
def origin(stack: Stack, folder: Path) -> Namespace:
    """A namespace whose metered log holds everything that can happen, and has come to an end."""
    namespace = new_namespace(stack, folder)
    projects = new_projects(namespace)
    file = some_recorded(folder)
    events = sum(len(session.events) for session in recorded.read(file))
    with ExitStack() as running:
        meter = running.enter_context(namespace.started("meter"))
        sessions = running.enter_context(namespace.started("sessions"))
        running.enter_context(namespace.started("lander"))
        write_recorded(namespace, projects, file)
        write_live(namespace, projects)
        meter.kill()
        meter = running.enter_context(namespace.started("meter"))
        write_odd(namespace, projects)
        write_late(namespace, projects, events)
        assert 0 == meter.stop()
        finish(namespace, sessions)
    return namespace


@pytest.fixture(scope="module")
def replica(stack: Stack, origin: Namespace, folder: Path) -> Namespace:
    """Another namespace with the same metered log, processed in other batches, with crashes."""
    namespace = new_namespace(stack, folder)
    copy_metered(origin, namespace)
    with ExitStack() as running:
        sessions = running.enter_context(namespace.started("sessions", **SMALL))
        wait_for(lambda: sum(ends(namespace, SESSIONS)) > 0)
        sessions.kill()
        sessions = running.enter_context(namespace.started("sessions", **SMALL))
        lander = running.enter_context(namespace.started("lander", **SMALL))
        wait_for(lambda: max(committed(namespace, "lander", METERED)) > 0)
        lander.kill()
        running.enter_context(namespace.started("lander", **SMALL))
        finish(namespace, sessions)
    return namespace


def beside(stack: Stack, folder: Path) -> Namespace:
    """A namespace on the stack's broker and store, without topics and tables."""
    return Namespace(
        bootstrap_servers=stack.bootstrap_servers,
        store_url=stack.store_url,
        store_user=STORE_USER,
        store_password=stacks.store_password(stack.data_dir),
        folder=folder,
    )


def new_namespace(stack: Stack, folder: Path) -> Namespace:
    """A namespace of its own on the stack's broker and store."""
    namespace = beside(stack, folder)
    done = namespace.run("migrate", FLEETMETER_PARTITIONS=str(PARTITIONS))
    assert 0 == done.returncode, done.stderr
    return namespace


def new_projects(namespace: Namespace) -> Projects:
    """Both projects and a key of each."""
    log = ControlLog(bootstrap_servers=namespace.bootstrap_servers, namespace=namespace.namespace)
    return Projects(
        patient=keys.create(log, project="patient", idle_timeout_ms=None),
        impatient=keys.create(log, project="impatient", idle_timeout_ms=IDLE_TIMEOUT_MS),
    )


def sdk_environment(namespace: Namespace, key: NewKey) -> dict[str, str]:
    """What a writer is told by."""
    return {
        "FLEETMETER_API_KEY": key.api_key,
        "FLEETMETER_BOOTSTRAP_SERVERS": namespace.bootstrap_servers,
        "FLEETMETER_NAMESPACE": namespace.namespace,
    }


def new_client(namespace: Namespace, key: NewKey, heartbeat_interval_ms: int = 0) -> Client:
    """A writer within this process."""
    environment = sdk_environment(namespace, key)
    return Client(
        Config.from_environment(
            environment, crash_handlers=False, heartbeat_interval_ms=heartbeat_interval_ms
        )
    )


def some_recorded(folder: Path) -> Path:
    """A file of some recorded sessions, the one with a verdict among them."""
    lines = gzip.decompress(recorded.demo_file().read_bytes()).splitlines()
    short = [line for line in lines if len(json.loads(line)["events"]) <= EVENTS_MAX]
    ended = [line for line in short if json.loads(line)["end_state"]]
    file = folder / "some.jsonl"
    file.write_bytes(b"\n".join([*ended, *short[: RECORDED - len(ended)]]))
    return file


def write_recorded(namespace: Namespace, projects: Projects, file: Path) -> None:
    """The file, by two processes at once; then one of them writes all of its share again."""
    run = uuid4()
    for shares in ((0, 1), (0,)):
        writers = [start_writer(namespace, projects, file, run, share) for share in shares]
        assert [0] * len(shares) == [writer.wait(60) for writer in writers]


def start_writer(
    namespace: Namespace, projects: Projects, file: Path, run: UUID, share: int
) -> subprocess.Popen[bytes]:
    """A process that writes its share of the file."""
    arguments = ["--run", str(run), "--writer", str(share), "--writers", str(WRITERS)]
    return subprocess.Popen(
        [sys.executable, "-m", "fleetmeter_local.replay_writer", str(file), *arguments],
        env=namespace.environment | sdk_environment(namespace, projects.impatient),
        stdout=subprocess.DEVNULL,
    )


def write_live(namespace: Namespace, projects: Projects) -> None:
    """Sessions of two writers with tags, agents, verdicts, and events after these."""
    one = new_client(namespace, projects.patient, heartbeat_interval_ms=200)
    other = new_client(namespace, projects.patient)
    for number in range(LIVE):
        session = one.start_session(tags=["live", str(number)], name=f"number {number}")
        joined = other.start_session(inherited_session_id=session.session_id)
        agent_id = joined.create_agent("planner")
        for _ in range(5):
            session.record(LLMEvent(model="gpt-4o", prompt_tokens=number, completion_tokens=1))
            joined.record(ActionEvent("plan", agent_id=agent_id))
        assert other.flush().complete
        if number % 3:
            session.end_session("Success" if number % 2 else "Fail", "said so")
            joined.record(LLMEvent(cost="0.25"))
            joined.add_tags("late")
            joined.end_session("Indeterminate")
    one.close()
    other.close()


def write_odd(namespace: Namespace, projects: Projects) -> None:
    """An event in several revisions, one of a key that nobody has, and garbage."""
    session_id = str(uuid4())
    for revision in (0, 1, 0, 2, 2):
        append_event(namespace, projects.patient.api_key, session_id, revision)
    append_event(namespace, str(uuid4()), session_id, 0)
    for partition in range(PARTITIONS):
        namespace.append("events.v1", partition, b"garbage", b"key")


def append_event(namespace: Namespace, api_key: str, session_id: str, revision: int) -> None:
    """An LLM call of a session, whose input grows with the revision."""
    record = {
        "key_hash": key_hash(api_key),
        "session_id": session_id,
        "event_id": "revised",
        "revision": revision,
        "kind": "llm",
        "writer_id": "raw",
        "start_time_us": 1_763_000_000_000_000,
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1_000 * (revision + 1),
        "output_tokens": 7,
    }
    key = session_id.encode()
    namespace.append("events.v1", partition_of(key, PARTITIONS), EVENT.encode(record), key)


def write_late(namespace: Namespace, projects: Projects, events: int) -> None:
    """Sessions that time out and come back; half of them are ended then, the others time out."""
    client = new_client(namespace, projects.impatient)
    sessions = [client.start_session() for _ in range(LATE)]
    for session in sessions:
        session.record(ActionEvent("early"))
    assert client.flush().complete
    await_closed(namespace, projects.impatient, events + LATE)
    for number, session in enumerate(sessions):
        session.record(LLMEvent(model="nobody-knows", prompt_tokens=number, completion_tokens=1))
        if number % 2:
            session.end_session("Success")
    client.close()
    await_closed(namespace, projects.impatient, events + 2 * LATE)


def await_closed(namespace: Namespace, key: NewKey, events: int) -> None:
    """Wait until the project's sessions hold so many events and none of them is open."""

    def look() -> bool:
        found = [
            one for one in decoded(snapshots(namespace)) if one["project_id"] == key.project_id
        ]
        counted = sum(one["numbers"]["events"] for one in found)
        return counted == events and all(one["state"] != "open" for one in found)

    wait_for(look)


def table(namespace: Namespace, name: str) -> list[str]:
    """All columns of all rows of a table, one line a row, in order."""
    what = f"{EVERYTHING[name]} FROM {{db}}.{name} FINAL"
    rows: str = namespace.query(f"SELECT {what} ORDER BY ALL FORMAT TSVWithNames")
    return rows.splitlines()


def test_the_load_is_mixed(origin: Namespace) -> None:
    """What is replayed holds timeouts, sessions that came back, verdicts, revisions, rejects."""
    found = decoded(snapshots(origin))
    assert RECORDED + LATE + LIVE + 1 == len(found)
    assert {"open", "timed_out", "ended"} == {one["state"] for one in found}
    assert {"", "Success", "Fail"} == {one["end_state_said"] for one in found}
    assert {"", "idle_timeout", "said so"} == {one["end_state_reason"] for one in found}
    assert {True, False} == {one["late_events"] > 0 for one in found}
    assert 4 == max(one["revision"] for one in found)
    (revised,) = [one for one in found if "raw" in {w["writer_id"] for w in one["writers"]}]
    assert (1, 3_000) == (revised["numbers"]["events"], revised["numbers"]["input_tokens"])
    assert 2 * PARTITIONS <= sum(len(message.value()) < 100 for message in read(origin, METERED))
    reasons = "SELECT arraySort(groupUniqArray(reason)) FROM {db}.dead_letters"
    assert "['not_avro','unknown_key']" == origin.query(reasons)


def test_a_replay_gives_the_same_sessions(origin: Namespace, replica: Namespace) -> None:
    """Every field of every part of every session is the same, revisions included, to the byte."""
    assert snapshots(origin) == snapshots(replica)
    # The batches were others: what was written on the way there is not the same.
    assert history(origin) != history(replica)


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_replay_gives_the_same_tables(origin: Namespace, replica: Namespace, name: str) -> None:
    """Every column of every row is the same."""
    before = table(origin, name)
    assert len(before) > 2
    assert before == table(replica, name)


def test_the_stacks_own_log_replays(stack: Stack, folder: Path) -> None:
    """What became of the log of a stack that lives, and may have been killed, is what it says."""
    project = new_project(stack)
    with project.client() as client:
        for _ in range(20):
            with client.start_session() as session:
                session.record(ActionEvent("plan"))
    living = replace(beside(stack, folder), namespace=stack.namespace)
    namespace = new_namespace(stack, folder)
    copy_metered(living, namespace)
    with ExitStack() as running:
        sessions = running.enter_context(
            namespace.started("sessions", FLEETMETER_SESSIONS_TRANSACTION_SNAPSHOTS_MAX="100")
        )
        running.enter_context(
            namespace.started("lander", FLEETMETER_LANDER_BATCH_BYTES_MAX="1000000")
        )
        finish(namespace, sessions)
    nexts = landed(namespace)
    wait_for(lambda: all(map(int.__ge__, landed(living), nexts)))
    before, after = unchanged_since(snapshots(living), nexts), snapshots(namespace)
    assert 20 <= len(before)
    assert before == {key: value for key, value in after.items() if key in before}
    assert 20 <= fingerprint(living, nexts)[0]
    assert fingerprint(living, nexts) == fingerprint(namespace, nexts)


def fingerprint(namespace: Namespace, nexts: list[int]) -> tuple[int, str]:
    """Number and hash of the rows, in all their columns, of the events before these offsets."""
    rows = "SELECT count(), sum(sipHash64(toString(tuple(*)))) FROM {db}.events FINAL WHERE "
    count, hashed = namespace.query(rows + f"offset < arrayElement({nexts}, partition + 1)").split()
    return int(count), hashed

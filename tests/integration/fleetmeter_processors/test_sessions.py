"""The sessions process on a real broker: killed, rebalanced and fenced, it writes the same."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest
import structlog
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from fleetmeter_processors.migrate import migrate_topics
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.partition import PartitionState
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import MigrateSettings
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import CHECKPOINT_KEY
from fleetmeter_schemas.topics import METERED, SESSIONS
from metered_log import MeteredLog, story

PARTITIONS = 4
SNAPSHOT = Codec("Snapshot")
CHECKPOINT = Codec("Checkpoint")
Snapshots = dict[tuple[int, bytes], bytes]
# Small transactions: that much is more often half done.
MANY_TRANSACTIONS = {"FLEETMETER_SESSIONS_TRANSACTION_SNAPSHOTS_MAX": "7"}
TRANSACTIONS = re.compile(r"^fleetmeter_sessions_transaction_seconds_count (\S+)", re.MULTILINE)
RESTART_SECONDS_MAX = 40.0


def expected_snapshots(logs: Sequence[MeteredLog]) -> Snapshots:
    """What sessions.v1 must hold in the end, by the pure state alone."""
    found: Snapshots = {}
    for log in logs:
        state = PartitionState(log.partition)
        for offset, value in enumerate(log.records):
            state.apply(offset, value)
            while not state.expire(1000):
                pass
            for key, snapshot in state.drain():
                found.pop((log.partition, key), None)
                if snapshot is not None:
                    found[log.partition, key] = snapshot
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A namespace of its own on the broker."""

    broker: str
    namespace: str
    folder: Path

    def append(self, log: MeteredLog, first: int = 0, end: int | None = None) -> None:
        """Write part of a metered log to its partition."""
        producer = Producer({"bootstrap.servers": self.broker, "enable.idempotence": True})
        topic = METERED.full_name(self.namespace)
        for value in log.records[first:end]:
            producer.produce(topic, value, partition=log.partition)
        assert producer.flush(20) == 0

    def snapshots(self) -> Snapshots:
        """What sessions.v1 holds now: committed, last of each key."""
        found: Snapshots = {}
        for partition in range(PARTITIONS):
            for message in self._committed(partition):
                key = message.key()
                assert isinstance(key, bytes)
                found.pop((partition, key), None)
                value = message.value()
                if value is not None:
                    found[partition, key] = value
        return found

    def checkpoints(self) -> dict[int, int]:
        """Last metered offset contained in the snapshots, by partition."""
        return {
            partition: CHECKPOINT.decode(value)["metered_offset"]
            for (partition, key), value in self.snapshots().items()
            if key == CHECKPOINT_KEY
        }

    def truncate(self, partition: int, offset: int) -> None:
        """Delete the records of metered.v1 before an offset."""
        place = TopicPartition(METERED.full_name(self.namespace), partition, offset)
        admin = AdminClient({"bootstrap.servers": self.broker})
        admin.delete_records([place])[place].result(10)

    def await_all(self, logs: Sequence[MeteredLog], seconds: float = 60.0) -> None:
        """Wait until the sessions contain these logs."""
        wanted = {log.partition: len(log.records) - 1 for log in logs}
        await_that(lambda: self.checkpoints() == wanted, seconds)

    @contextmanager
    def worker(self, instance: str, **environment: str) -> Iterator["WorkerProcess"]:
        """Run a sessions process until the block ends."""
        worker = WorkerProcess(stack=self, instance=instance, environment=environment)
        worker.start()
        try:
            yield worker
        finally:
            worker.kill()

    def _committed(self, partition: int) -> Iterator[Message]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker,
                "group.id": "test",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(SESSIONS.full_name(self.namespace), partition, 0)])
        try:
            while True:
                for message in consumer.consume(10_000, 0.05):
                    error = message.error()
                    if error is None:
                        yield message
                        continue
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    return
        finally:
            consumer.close()


@dataclass(slots=True, kw_only=True)
class WorkerProcess:
    """One sessions process."""

    stack: Stack
    instance: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it logged."""
        return self.stack.folder / f"{self.instance}.log"

    @property
    def text(self) -> str:
        """The same as text."""
        return self.log.read_text()

    @property
    def transactions(self) -> int:
        """How many transactions it has committed since its last start."""
        return sum(int(float(count)) for count in TRANSACTIONS.findall(self.page("metrics")))

    def page(self, path: str) -> str:
        """What it serves under a path; nothing while it does not answer."""
        ports = [line["ops_port"] for line in self.lines if line["event"] == "process.started"]
        try:
            with urlopen(f"http://127.0.0.1:{ports[-1]}/{path}", timeout=5) as answer:
                found: str = answer.read().decode()
        except (IndexError, OSError):
            return ""
        return found

    @property
    def running(self) -> bool:
        """Whether it runs."""
        assert self.process is not None
        return self.process.poll() is None

    @property
    def assigned(self) -> list[int]:
        """The partitions that it was given last."""
        given = [
            line["partitions"] for line in self.lines if line["event"] == "partitions.assigned"
        ]
        return given[-1] if given else []

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log lines, decoded."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def start(self) -> None:
        """Start it."""
        environment = os.environ | {
            "FLEETMETER_NAMESPACE": self.stack.namespace,
            "FLEETMETER_BOOTSTRAP_SERVERS": self.stack.broker,
            "FLEETMETER_INSTANCE_ID": self.instance,
            "FLEETMETER_SESSIONS_MEMBER_TIMEOUT_MS": "6000",
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fleetmeter_processors.sessions"],
                stdout=output,
                stderr=output,
                env=environment | self.environment,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 10.0) -> int:
        """Wait for its end; its exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kill it, stopped or not."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)


def await_that(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def readable(snapshots: Snapshots) -> dict[tuple[int, bytes], Any]:
    """The snapshots decoded, so that a difference can be read."""
    return {
        place: SNAPSHOT.decode(value)
        for place, value in snapshots.items()
        if place[1] != CHECKPOINT_KEY
    }


pytestmark = pytest.mark.slow


@pytest.fixture
def stack(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Topics in a namespace of their own."""
    namespace = f"sessions_{uuid4().hex[:12]}"
    monkeypatch.setenv("FLEETMETER_NAMESPACE", namespace)
    monkeypatch.setenv("FLEETMETER_BOOTSTRAP_SERVERS", broker)
    monkeypatch.setenv("FLEETMETER_PARTITIONS", str(PARTITIONS))
    runtime = Runtime(stopping=threading.Event(), ops=Ops(), log=structlog.get_logger())
    migrate_topics(MigrateSettings(), runtime)
    return Stack(broker=broker, namespace=namespace, folder=tmp_path)


def test_every_session_gets_its_snapshot(stack: Stack) -> None:
    """Undisturbed, sessions.v1 ends up with what the pure state says of the same log."""
    logs = [story(partition, blocks=60, width=20) for partition in range(PARTITIONS)]
    for log in logs:
        stack.append(log)
    with stack.worker("a") as worker:
        stack.await_all(logs)
        assert json.loads(worker.page("ready")) == {"ok": True, "ready": True, "reasons": {}}
        assert 'fleetmeter_sessions_lag_records{partition="0"} 0.0' in worker.page("metrics")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert readable(stack.snapshots()) == readable(expected_snapshots(logs))


def test_kills_in_the_middle_change_nothing(stack: Stack) -> None:
    """After three `kill -9` the final snapshots, values and revisions, are the undisturbed ones."""
    logs = [story(partition, blocks=120, width=20) for partition in range(PARTITIONS)]
    with stack.worker("a", **MANY_TRANSACTIONS) as worker:
        for part in range(3):
            first, end = 30 * part, 30 * (part + 1)
            for log in logs:
                stack.append(log, first, end)
            await_that(lambda: worker.transactions > 0)
            worker.kill()
            assert min(stack.checkpoints().values(), default=-1) < end - 1
            worker.start()
        for log in logs:
            stack.append(log, 90)
        stack.await_all(logs)
    assert readable(stack.snapshots()) == readable(expected_snapshots(logs))


def test_partitions_move_between_workers(stack: Stack) -> None:
    """A second worker takes its share in the middle, then, when the first one leaves, the rest."""
    logs = [story(partition, blocks=110, width=20) for partition in range(PARTITIONS)]
    with stack.worker("a", **MANY_TRANSACTIONS) as first:
        for log in logs:
            stack.append(log, 0, 60)
        await_that(lambda: first.transactions > 0)
        with stack.worker("b", **MANY_TRANSACTIONS) as second:
            await_that(lambda: len(first.assigned) == len(second.assigned) == PARTITIONS // 2)
            for log in logs:
                stack.append(log, 60, 80)
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
            for log in logs:
                stack.append(log, 80)
            stack.await_all(logs)
            assert len(second.assigned) == PARTITIONS
    assert readable(stack.snapshots()) == readable(expected_snapshots(logs))


def test_a_zombie_writes_nothing(stack: Stack) -> None:
    """A worker that slept while another took over is refused, gives up its partitions, lives."""
    logs = [story(partition, blocks=90, width=40) for partition in range(PARTITIONS)]
    with stack.worker("a", **MANY_TRANSACTIONS) as zombie:
        for log in logs:
            stack.append(log, 0, 30)
        await_that(lambda: zombie.transactions > 0)
        zombie.signal(signal.SIGSTOP)
        with stack.worker("b", **MANY_TRANSACTIONS) as heir:
            await_that(lambda: len(heir.assigned) == PARTITIONS)
            for log in logs:
                stack.append(log, 30, 60)
            await_that(lambda: heir.transactions > 0)
            zombie.signal(signal.SIGCONT)
            await_that(lambda: "partition.lost" in zombie.text)
            for log in logs:
                stack.append(log, 60)
            stack.await_all(logs)
            assert zombie.running
    assert readable(stack.snapshots()) == readable(expected_snapshots(logs))


def test_a_hole_in_the_metered_log_ends_the_process(stack: Stack) -> None:
    """A reader that has lost records says so in one line and ends with 70."""
    log = story(0, blocks=20, width=5)
    stack.append(log)
    with stack.worker("a") as worker:
        await_that(lambda: stack.checkpoints().get(0) == len(log.records) - 1)
        worker.kill()
        more = story(0, blocks=40, width=5)
        stack.append(more, len(log.records))
        stack.truncate(0, len(log.records) + 5)
        worker.start()
        assert worker.wait(30) == 70
        assert "Gap: metered.v1 goes on at" in worker.text


def test_a_restart_does_not_wait_for_the_group(stack: Stack) -> None:
    """Killed and started again, a worker has its partitions long before the dead one times out."""
    log = story(0, blocks=2, width=5)
    with stack.worker("a", FLEETMETER_SESSIONS_MEMBER_TIMEOUT_MS="90000") as worker:
        stack.append(log)
        await_that(lambda: stack.checkpoints().get(0) == len(log.records) - 1)
        worker.kill()
        before = worker.text.count("partitions.assigned")
        worker.start()
        await_that(lambda: worker.text.count("partitions.assigned") > before, RESTART_SECONDS_MAX)

"""Very many sessions that fall silent together: the sessions process closes them all and lives."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from fleetmeter_local import stack as stacks
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.block import encode_block
from fleetmeter_schemas.codec import HEADER_BYTES, Codec
from fleetmeter_schemas.identity import CHECKPOINT_KEY
from fleetmeter_schemas.topics import METERED, SESSIONS
from running_stack import await_that
from session_records import MINUTE_MS, delta

# A million takes two minutes here; FLEETMETER_TEST_SESSIONS asks for as many.
SESSIONS_EXPIRING = int(os.environ.get("FLEETMETER_TEST_SESSIONS", "100000"))
SESSIONS_A_BLOCK = 5_000
SESSIONS_A_PROJECT = 50_000
SECONDS_MAX = 60.0 + SESSIONS_EXPIRING / 2_000
DELTA = Codec("Delta")
SNAPSHOT = Codec("Snapshot")
CHECKPOINT = Codec("Checkpoint")
MARKED_SESSION, MARKED_PROJECT = b"S" * 12, b"P" * 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace of its own on the stack's Kafka, with one partition."""

    environment: dict[str, str]
    servers: str
    name: str

    def append(self, records: list[bytes]) -> None:
        """Write records of metered.v1."""
        options = {"bootstrap.servers": self.servers, "enable.idempotence": True, "log_level": 0}
        producer = Producer(options | {"message.max.bytes": 4_000_000})
        for each in records:
            producer.produce(METERED.full_name(self.name), each, partition=0)
            producer.flush(30)

    def snapshots(self, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
        """What was committed to sessions.v1 from an offset on."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "tests",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(SESSIONS.full_name(self.name), 0, first)])
        try:
            while True:
                for message in consumer.consume(10_000, 0.1):
                    error = message.error()
                    if error is not None:
                        assert error.code() == KafkaError._PARTITION_EOF, error
                        return
                    yield message.key() or b"", message.value() or b""
        finally:
            consumer.close()

    def taken(self) -> int:
        """The last record of metered.v1 that the sessions contain; -1 before the first."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "tests"})
        place = TopicPartition(SESSIONS.full_name(self.name), 0)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.close()
        found = [
            CHECKPOINT.decode(value)["metered_offset"]
            for key, value in self.snapshots(max(0, end - 20))
            if key == CHECKPOINT_KEY
        ]
        return max(found, default=-1)

    @contextmanager
    def worker(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run the sessions process until the block ends."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleetmeter_processors.sessions"],
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture
def namespace(stack: Stack) -> Namespace:
    """Topics of the test's own."""
    name = f"many_{uuid4().hex[:12]}"
    own = {"FLEETMETER_NAMESPACE": name, "FLEETMETER_PARTITIONS": "1"}
    environment = dict(os.environ) | stacks.environment(stack) | own
    migrate = [sys.executable, "-m", "fleetmeter_processors.migrate"]
    done = subprocess.run(
        migrate, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert 0 == done.returncode, done.stderr
    return Namespace(environment=environment, servers=stack.bootstrap_servers, name=name)


def opening_blocks(count: int) -> Iterator[bytes]:
    """Blocks that open so many sessions of half an hour's patience, at heard time 0."""
    pattern = DELTA.encode(
        delta(session_id=MARKED_SESSION.decode(), project_id=MARKED_PROJECT.decode())
    )[HEADER_BYTES:]
    for first in range(0, count, SESSIONS_A_BLOCK):
        following = min(first + SESSIONS_A_BLOCK, count)
        project = b"%012d" % (first // SESSIONS_A_PROJECT)
        of_project = pattern.replace(MARKED_PROJECT, project)
        opened = [of_project.replace(MARKED_SESSION, b"%012d" % n) for n in range(first, following)]
        yield block(first, following, heard_ms=0, deltas=opened)


def block(first: int, following: int, *, heard_ms: int, deltas: list[bytes]) -> bytes:
    """A block of the epoch 0."""
    return encode_block(
        epoch=0,
        first=first,
        next=following,
        heard_ms=heard_ms,
        log_time_ms=1_700_000_000_000 + heard_ms,
        duplicates=0,
        deltas=deltas,
        events=[],
        rejects=[],
    )


def assignments(log: Path) -> int:
    """How often the worker was given its partition."""
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")
    ]
    return sum(line["event"] == "partitions.assigned" for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS_MAX * 3)
def test_very_many_sessions_expire_at_one_tick(namespace: Namespace, tmp_path: Path) -> None:
    """All are timed out by one block, in transactions of bounded size, and the stream goes on."""
    log = tmp_path / "sessions.log"
    opening = [Codec("Barrier").encode({"owner": "test"}), *opening_blocks(SESSIONS_EXPIRING)]
    tick = SESSIONS_EXPIRING + 1
    with namespace.worker(log) as worker:
        namespace.append(opening)
        await_that(lambda: namespace.taken() == len(opening) - 1, SECONDS_MAX, "not opened")
        silence = block(SESSIONS_EXPIRING, tick, heard_ms=31 * MINUTE_MS, deltas=[])
        last = DELTA.encode(delta(session_id="after", heard_ms=31 * MINUTE_MS, first_offset=tick))[
            HEADER_BYTES:
        ]
        going_on = block(tick, tick + 1, heard_ms=31 * MINUTE_MS, deltas=[last])
        namespace.append([silence, going_on])
        await_that(lambda: namespace.taken() == len(opening) + 1, SECONDS_MAX, "not expired")
        assert worker.poll() is None
    assert 1 == assignments(log), "it did not answer the group in time"

    found: dict[bytes, bytes] = {}
    transaction = longest = 0
    for key, value in namespace.snapshots():
        transaction = 0 if key == CHECKPOINT_KEY else transaction + 1
        longest = max(longest, transaction)
        found[key] = value
    del found[CHECKPOINT_KEY]
    states = [SNAPSHOT.decode(value) for value in found.values()]
    ended = [(one["state"], one["end_state_reason"], one["revision"]) for one in states]
    assert SESSIONS_EXPIRING == ended.count(("timed_out", "idle_timeout", 2))
    assert [("open", "", 1)] == [one for one in ended if one[0] != "timed_out"]
    assert longest <= 10_000 + SESSIONS_A_BLOCK

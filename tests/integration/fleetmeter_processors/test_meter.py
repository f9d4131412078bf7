"""The meter process on a real broker: killed, rivalled and fed with garbage, its blocks tile."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopEvent
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fleetmeter_processors.enrichment import read_events
from fleetmeter_processors.migrate import migrate_topics
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.prefix import Prefix
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import MigrateSettings
from fleetmeter_schemas import topics
from fleetmeter_schemas.block import CODEC as BLOCK
from fleetmeter_schemas.block import Block, decode_deltas, decode_rejects, open_block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import key_hash, partition_of, short_hash
from fleetmeter_schemas.records import Enrichment
from fleetmeter_schemas.tiling import BarrierRead, BlockRead, Position, Verdict, accept
from meter_records import EVENT, PROJECT, event, llm

PARTITIONS = 2
_PROJECT = Codec("Project")
_KEY = Codec("ApiKey")
NOW_US = time.time_ns() // 1000


@dataclass(slots=True, kw_only=True)
class Metered:
    """What the accepted blocks of all partitions hold."""

    blocks: list[Block] = field(default_factory=list)
    skipped: int = 0
    barriers: int = 0
    next: dict[int, int] = field(default_factory=dict)

    @property
    def events(self) -> list[tuple[Prefix, Enrichment]]:
        """All metered events."""
        return [found for block in self.blocks for found in read_events(block.events)]

    @property
    def rejects(self) -> list[Any]:
        """All rejected records."""
        return [found for block in self.blocks for found in decode_rejects(block.rejects)]

    @property
    def deltas(self) -> list[Any]:
        """All deltas."""
        return [found for block in self.blocks for found in decode_deltas(block.deltas)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A namespace of its own on the broker, with one project and one key."""

    broker: str
    namespace: str
    folder: Path
    producer: Producer

    def control(self, key: bytes, value: bytes) -> None:
        """Write a control record; it is acknowledged on return."""
        self.producer.produce(topics.CONTROL.full_name(self.namespace), value, key)
        assert self.producer.flush(20) == 0

    def create_key(self, api_key: str, project_id: str = PROJECT) -> None:
        """Make an API key valid."""
        hashed = short_hash(key_hash(api_key))
        record = {
            "key_hash_hash": hashed,
            "project_id": project_id,
            "hint": api_key[-4:],
            "created_at_ms": 0,
        }
        self.control(topics.api_key_key(hashed), _KEY.encode(record))

    def send(self, record: dict[str, Any]) -> None:
        """Send an event as a writer does."""
        self.send_bytes(EVENT.encode(record), key=record["session_id"])

    def send_bytes(self, value: bytes, *, key: str | None, partition: int = -1) -> None:
        """Send any bytes."""
        topic = topics.EVENTS.full_name(self.namespace)
        self.producer.produce(topic, value, key, partition)
        self.producer.poll(0)

    def flush(self) -> None:
        """Wait until all that was sent is acknowledged."""
        assert self.producer.flush(30) == 0

    def ends(self, topic: topics.Topic) -> dict[int, int]:
        """The end offset of each partition."""
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": "test"})
        name = topic.full_name(self.namespace)
        try:
            return {
                number: consumer.get_watermark_offsets(TopicPartition(name, number), timeout=10)[1]
                for number in range(PARTITIONS)
            }
        finally:
            consumer.close()

    def metered(self) -> Metered:
        """Read all of metered.v1 as every reader does."""
        found = Metered()
        for number in range(PARTITIONS):
            position = Position()
            for offset, value in self._records(topics.METERED, number):
                if not BLOCK.knows(value):
                    position, _ = accept(position, offset, BarrierRead())
                    found.barriers += 1
                    continue
                block = open_block(value)
                read = BlockRead(epoch=block.epoch, first=block.first, next=block.next)
                position, verdict = accept(position, offset, read)
                if verdict is Verdict.ACCEPTED:
                    found.blocks.append(block)
                else:
                    found.skipped += 1
            found.next[number] = max(0, position.next)
        return found

    def await_metered(self, seconds: float = 30.0) -> Metered:
        """Wait until all that is in events.v1 now is metered."""
        self.flush()
        wanted = self.ends(topics.EVENTS)
        await_that(
            lambda: all(self.metered().next[number] >= end for number, end in wanted.items()),
            seconds,
        )
        return self.metered()

    @contextmanager
    def meter(self, instance: str = "0", **environment: str) -> Iterator["MeterProcess"]:
        """Run a meter until the block ends."""
        meter = MeterProcess(stack=self, instance=instance, environment=environment)
        meter.start()
        try:
            yield meter
        finally:
            meter.signal(signal.SIGKILL)
            meter.wait()

    def _records(self, topic: topics.Topic, number: int) -> Iterator[tuple[int, bytes]]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker,
                "group.id": "test",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        consumer.assign([TopicPartition(topic.full_name(self.namespace), number, 0)])
        try:
            while True:
                message = consumer.poll(10)
                assert message is not None
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    return
                offset, value = message.offset(), message.value()
                assert offset is not None
                assert value is not None
                yield offset, value
        finally:
            consumer.close()


@dataclass(slots=True, kw_only=True)
class MeterProcess:
    """One meter process."""

    stack: Stack
    instance: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        environment = os.environ | {
            "FLEETMETER_NAMESPACE": self.stack.namespace,
            "FLEETMETER_BOOTSTRAP_SERVERS": self.stack.broker,
            "FLEETMETER_INSTANCE_ID": self.instance,
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fleetmeter_processors.meter"],
                stdout=output,
                stderr=output,
                env=environment | self.environment,
            )

    @property
    def log(self) -> Path:
        """What it logged."""
        return self.stack.folder / f"{self.instance}.log"

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one name."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [found for line in lines if (found := json.loads(line))["event"] == name]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 20.0) -> int:
        """Wait for its end; its exit status."""
        assert self.process is not None
        return self.process.wait(seconds)


def await_that(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(name="stack")
def running_stack(broker: str, tmp_path: Path) -> Stack:
    """Topics, a project and a key of its own."""
    namespace = f"m{uuid4().hex[:12]}"
    settings = MigrateSettings(namespace=namespace, bootstrap_servers=broker, partitions=PARTITIONS)
    runtime = Runtime(stopping=StopEvent(), ops=Ops(), log=structlog.get_logger())
    migrate_topics(settings, runtime)
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "partitioner": topics.PARTITIONER,
            "message.max.bytes": 3_000_000,
            "linger.ms": 5,
        }
    )
    stack = Stack(broker=broker, namespace=namespace, folder=tmp_path, producer=producer)
    project = {"project_id": PROJECT, "name": "p", "created_at_ms": 0, "idle_timeout_ms": 60_000}
    stack.control(topics.project_key(PROJECT), _PROJECT.encode(project))
    stack.create_key(str(UUID(int=7)))
    return stack


def session(number: int) -> str:
    """A session id."""
    return str(UUID(int=1_000 + number))


def send_story(stack: Stack, events: int, sessions: int = 7, first: int = 0) -> None:
    """Send tool and LLM events of some sessions, each numbered by its writer."""
    for number in range(first, first + events):
        made = llm if number % 2 else event
        stack.send(
            made(
                session_id=session(number % sessions),
                event_id=f"e{number}",
                sequence=number // sessions + 1,
                start_time_us=NOW_US,
            )
        )


def test_every_event_is_metered_once(stack: Stack) -> None:
    """Each event is in one accepted block, priced, and the deltas add up to all of them."""
    with stack.meter():
        send_story(stack, 2_000)
        metered = stack.await_metered()
    ids = Counter(prefix.event_id for prefix, _ in metered.events)
    assert ids == Counter(f"e{number}" for number in range(2_000))
    costs = [verdict["cost_pico_usd"] or 0 for _, verdict in metered.events]
    assert sum(1 for cost in costs if cost) == 1_000
    totals = Counter[str]()
    for delta in metered.deltas:
        totals.update(delta["numbers"])
    assert totals["events"] == 2_000
    assert totals["cost_pico_usd"] == sum(costs)
    assert {delta["idle_timeout_ms"] for delta in metered.deltas} == {60_000}


def test_time_goes_on_in_silence(stack: Stack) -> None:
    """Ticks move log time and heard time while nobody writes."""
    with stack.meter():
        stack.send(event(start_time_us=NOW_US))
        first = stack.await_metered().blocks[-1]
        await_that(lambda: min(ends(stack).values()) > first.next + 2)
        last = stack.metered()
    number = partition_of(event()["session_id"].encode(), PARTITIONS)
    times = [
        block.heard_ms for block in last.blocks if block.events.count or not block.rejects.count
    ]
    assert max(times) - first.heard_ms >= 1_500
    assert last.next[number] > first.next


def ends(stack: Stack) -> dict[int, int]:
    """How far each partition is metered."""
    return stack.metered().next


def test_a_key_used_at_once_is_known(stack: Stack) -> None:
    """A key that is created and used at once is never unknown."""
    with stack.meter() as meter:
        await_that(lambda: len(meter.logged("partition.taken")) == PARTITIONS)
        for number in range(1_000):
            api_key = str(UUID(int=10_000 + number))
            stack.create_key(api_key)
            stack.send(
                event(
                    key_hash=key_hash(api_key),
                    session_id=session(number),
                    event_id=f"k{number}",
                    start_time_us=NOW_US,
                )
            )
        metered = stack.await_metered()
    assert metered.rejects == []
    assert len(metered.events) == 1_000


def forged(record: dict[str, Any], tail: bytes) -> bytes:
    """An event whose bytes end otherwise than its body says."""
    return EVENT.encode(record)[:-1] + tail


def test_bad_records_are_rejected_with_their_reason(stack: Stack) -> None:
    """Garbage and forged bodies are kept as rejects; events around them are untouched."""
    other = str(UUID(int=8))
    stack.create_key(other, str(UUID(int=2)))
    neighbour = EVENT.encode(event(event_id="n", key_hash=key_hash(other), start_time_us=NOW_US))
    sid = event()["session_id"]
    right = partition_of(sid.encode(), PARTITIONS)
    good = event(event_id="x", start_time_us=NOW_US)
    bad: list[tuple[str, bytes, dict[str, Any]]] = [
        ("not_avro", b"garbage", {}),
        ("not_avro", b"", {}),
        ("unknown_fingerprint", b"\xc3\x01" + bytes(8) + b"x", {}),
        ("undecodable", EVENT.header, {}),
        ("undecodable", forged(good, b"\x00" + neighbour), {}),
        ("undecodable", forged(good, b"\xfe\xff\xff\xff\x0f"), {}),
        ("undecodable", EVENT.encode(good)[:-2], {}),
        ("too_large", EVENT.encode(good | {"input": "x" * 2_100_000}), {}),
        ("unknown_key", EVENT.encode(good | {"key_hash": bytes(15) + b"x"}), {}),
        ("negative_number", EVENT.encode(good | {"input_tokens": -1}), {}),
        ("tokens_too_large", EVENT.encode(good | {"input_tokens": 2_000_000_000}), {}),
        ("cost_too_large", EVENT.encode(good | {"reported_cost_pico_usd": 2 * 10**17}), {}),
        ("time_out_of_range", EVENT.encode(good | {"start_time_us": 1}), {}),
        ("time_out_of_range", EVENT.encode(good | {"end_time_us": 2**62}), {}),
        ("wrong_key", EVENT.encode(good), {"key": "other", "partition": right}),
        ("wrong_key", EVENT.encode(good), {"key": None, "partition": right}),
        ("wrong_partition", EVENT.encode(good), {"partition": 1 - right}),
    ]
    with stack.meter():
        for number, (_, value, how) in enumerate(bad):
            stack.send_bytes(
                neighbour.replace(b"\x02n", struct.pack("BB", 2, 65 + number)), key=sid
            )
            stack.send_bytes(value, **({"key": sid} | how))
        metered = stack.await_metered()
    assert Counter(reason for reason, _, _ in bad) == Counter(
        reject["reason"] for reject in metered.rejects
    )
    assert {value for _, value, _ in bad} == {reject["value"] for reject in metered.rejects}
    bodies = b"".join(bytes(block.events.data) for block in metered.blocks)
    assert len(metered.events) == len(bad)
    assert {verdict["project_id"] for _, verdict in metered.events} == {str(UUID(int=2))}
    for number in range(len(bad)):
        body = neighbour.replace(b"\x02n", struct.pack("BB", 2, 65 + number))[10:]
        assert bodies.count(body) == 1


def test_killed_meters_lose_and_repeat_nothing(stack: Stack) -> None:
    """Two meters that are killed again and again in the middle meter each event once."""
    with stack.meter("a") as one, stack.meter("b") as other:
        for number in range(4):
            send_story(stack, 3_000, first=3_000 * number)
            stack.flush()
            killed = one if number % 2 else other
            killed.signal(signal.SIGKILL)
            killed.wait()
            killed.start()
        metered = stack.await_metered(60)
    ids = Counter(prefix.event_id for prefix, _ in metered.events)
    assert ids == Counter(f"e{number}" for number in range(12_000))
    assert metered.rejects == []


def test_a_duplicate_is_known_after_a_restart(stack: Stack) -> None:
    """The ids metered by the last meter are still known to the next."""
    with stack.meter() as meter:
        send_story(stack, 500)
        stack.await_metered()
        meter.signal(signal.SIGTERM)
        assert meter.wait() == 0
        send_story(stack, 600)
        meter.start()
        metered = stack.await_metered()
    assert sum(block.duplicates for block in metered.blocks) == 500
    assert len(metered.events) == 600


@pytest.mark.slow
def test_a_zombie_writes_in_vain(stack: Stack) -> None:
    """A meter that slept through the loss of its partitions changes nothing when it wakes."""
    with stack.meter("a") as zombie:
        await_that(lambda: len(zombie.logged("partition.taken")) == PARTITIONS)
        send_story(stack, 15_000)
        stack.flush()
        # In the middle of its work: it wakes with records in hand.
        await_that(lambda: bool(stack.metered().blocks))
        zombie.signal(signal.SIGSTOP)
        with stack.meter("b") as owner:
            await_that(lambda: len(owner.logged("partition.taken")) == PARTITIONS, 60)
            send_story(stack, 1_000, first=15_000)
            stack.await_metered(60)
            zombie.signal(signal.SIGCONT)
            for number in range(20):
                send_story(stack, 100, first=16_000 + 100 * number)
                stack.flush()
                time.sleep(0.1)
            metered = stack.await_metered(60)
    ids = Counter(prefix.event_id for prefix, _ in metered.events)
    assert ids == Counter(f"e{number}" for number in range(18_000))


def test_a_raw_log_made_anew_is_refused(stack: Stack) -> None:
    """When events.v1 ends before what was metered, the meter says so and does not start."""
    with stack.meter() as meter:
        send_story(stack, 100)
        stack.await_metered()
        meter.signal(signal.SIGTERM)
        assert meter.wait() == 0
        remake(stack)
        meter.start()
        assert meter.wait() == 2
    assert "was made anew" in meter.log.read_text().splitlines()[-1]


def remake(stack: Stack) -> None:
    """Delete events.v1 and make it again."""
    admin = AdminClient({"bootstrap.servers": stack.broker})
    name = topics.EVENTS.full_name(stack.namespace)
    admin.delete_topics([name])[name].result(20)
    await_that(lambda: name not in admin.list_topics(timeout=10).topics)
    settings = dict(topics.EVENTS.settings)
    new = NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, config=settings)
    admin.create_topics([new])[name].result(20)


def test_sigterm_finishes_the_batch(stack: Stack) -> None:
    """A meter that is asked to stop ends with status 0 and lets the next go on at once."""
    with stack.meter() as meter:
        send_story(stack, 500)
        await_that(lambda: bool(stack.metered().blocks))
        meter.signal(signal.SIGTERM)
        assert meter.wait() == 0
        meter.start()
        metered = stack.await_metered()
    assert len(metered.events) == 500


def test_wrong_topics_are_told_in_one_line(broker: str, tmp_path: Path) -> None:
    """Without topics the meter refuses to run, and says what to do."""
    result = subprocess.run(
        [sys.executable, "-m", "fleetmeter_processors.meter"],
        env=os.environ
        | {"FLEETMETER_NAMESPACE": "nothing_here", "FLEETMETER_BOOTSTRAP_SERVERS": broker},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "fleetmeter migrate" in result.stderr.splitlines()[-1]

"""Reads a namespace's logs whole, and copies a metered log record by record into another one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import CHECKPOINT_KEY
from fleetmeter_schemas.records import Snapshot
from lander_stack import Process, Stack, wait_for

METERED, SESSIONS = topics.METERED.name, topics.SESSIONS.name
SNAPSHOT = Codec("Snapshot")
ANSWER_SECONDS_MAX = 20.0
# Of whichever partition, by key: keys hold the session.
Snapshots = dict[bytes, bytes]


@contextmanager
def reader(stack: Stack, group: str) -> Iterator[Consumer]:
    """A consumer that is in no group as long as it only asks."""
    consumer = Consumer(
        {
            "bootstrap.servers": stack.bootstrap_servers,
            "group.id": f"{stack.namespace}.{group}",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def partitions_of(consumer: Consumer, topic: str) -> list[int]:
    """The partitions of a topic."""
    return sorted(consumer.list_topics(topic, timeout=ANSWER_SECONDS_MAX).topics[topic].partitions)


def read(stack: Stack, name: str) -> Iterator[Any]:
    """All committed records of a topic; those of a partition in order."""
    topic = f"{stack.namespace}.{name}"
    with reader(stack, "test") as consumer:
        left = set(partitions_of(consumer, topic))
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
        while left:
            message: Any = consumer.poll(ANSWER_SECONDS_MAX)
            assert message is not None
            if message.error() is None:
                yield message
            else:
                left.discard(message.partition())


def ends(stack: Stack, name: str) -> list[int]:
    """The end of each partition of a topic."""
    topic = f"{stack.namespace}.{name}"
    with reader(stack, "test") as consumer:
        return [
            consumer.get_watermark_offsets(TopicPartition(topic, number), ANSWER_SECONDS_MAX)[1]
            for number in partitions_of(consumer, topic)
        ]


def committed(stack: Stack, group: str, name: str) -> list[int]:
    """How far a group has come in each partition of a topic; negative: nowhere."""
    topic = f"{stack.namespace}.{name}"
    with reader(stack, group) as consumer:
        wanted = [TopicPartition(topic, number) for number in partitions_of(consumer, topic)]
        return [one.offset for one in consumer.committed(wanted, ANSWER_SECONDS_MAX)]


def finish(stack: Stack, sessions: Process) -> None:
    """Wait until a metered log that grows no more is read to its end, and its results landed.

    Sessions writes what it knows a little later than it reads; it is stopped, so that it must.
    """
    wanted = ends(stack, METERED)
    wait_for(lambda: committed(stack, "sessions", METERED) == wanted)
    assert sessions.stop() == 0
    last = [0] * len(wanted)
    for message in read(stack, SESSIONS):
        last[message.partition()] = message.offset() + 1
    wait_for(lambda: all(map(int.__ge__, committed(stack, "lander", SESSIONS), last)))
    wait_for(lambda: committed(stack, "lander", METERED) == wanted)


def landed(stack: Stack) -> list[int]:
    """The first raw offset of each partition that is not in the tables yet."""
    topic = f"{stack.namespace}.{METERED}"
    with reader(stack, "lander") as consumer:
        wanted = [TopicPartition(topic, number) for number in partitions_of(consumer, topic)]
        found = consumer.committed(wanted, ANSWER_SECONDS_MAX)
        return [json.loads(one.metadata or "{}").get("next", -1) for one in found]


def history(stack: Stack) -> list[tuple[int, bytes, bytes | None]]:
    """All snapshots and tombstones that were written: partition, key and value."""
    written = [
        (message.partition(), message.key(), message.value()) for message in read(stack, SESSIONS)
    ]
    return sorted((one for one in written if one[1] != CHECKPOINT_KEY), key=itemgetter(0))


def snapshots(stack: Stack) -> Snapshots:
    """The last snapshot of each part of each session, as bytes."""
    found: dict[bytes, bytes | None] = {key: value for _, key, value in history(stack)}
    return {key: value for key, value in found.items() if value is not None}


def unchanged_since(found: Snapshots, nexts: list[int]) -> Snapshots:
    """The snapshots that were written before the raw log came to these offsets."""
    records = {key: SNAPSHOT.decode(value) for key, value in found.items()}
    return {
        key: found[key] for key, one in records.items() if one["next"] <= nexts[one["partition"]]
    }


def decoded(found: Snapshots) -> list[Snapshot]:
    """Snapshots as records."""
    return [SNAPSHOT.decode(value) for value in found.values()]


def copy_metered(origin: Stack, replica: Stack) -> int:
    """Copy each record of metered.v1 to its own partition and offset; returns how many."""
    producer = Producer(
        {
            "bootstrap.servers": replica.bootstrap_servers,
            "enable.idempotence": True,
            "message.max.bytes": int(topics.METERED.settings["max.message.bytes"]),
        }
    )
    copied: list[tuple[int, int]] = []
    written: list[tuple[int, int]] = []

    def on_delivery(error: Any, message: Any) -> None:
        assert error is None, error
        written.append((message.partition(), message.offset()))

    for message in read(origin, METERED):
        copied.append((message.partition(), message.offset()))
        producer.produce(
            f"{replica.namespace}.{METERED}",
            partition=message.partition(),
            key=message.key(),
            value=message.value(),
            on_delivery=on_delivery,
        )
        producer.poll(0)
    assert producer.flush(ANSWER_SECONDS_MAX) == 0
    assert sorted(written) == sorted(copied)
    return len(copied)

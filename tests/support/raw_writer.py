"""Writes whatever a test likes to events.v1, good or bad, past every check of the SDK."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from fleetmeter_local.stack import Stack
from fleetmeter_schemas.block import CODEC as BLOCK
from fleetmeter_schemas.block import Block, open_block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import key_hash, partition_of
from fleetmeter_schemas.topics import EVENTS, METERED, PARTITIONER, PARTITIONS_DEFAULT

EVENT = Codec("Event")
FLUSH_SECONDS_MAX = 30.0
THE_KEYS = -1  # librdkafka's word for: whichever the partitioner chooses


class Place(NamedTuple):
    """Where a record lies in events.v1."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of events.v1; `partition` None: the key's."""

    key: bytes | None
    value: bytes | None
    partition: int | None = None


def event(api_key: str, session_id: str, **values: Any) -> dict[str, Any]:
    """An action of now, with an id of its own."""
    base = {
        "key_hash": key_hash(api_key),
        "session_id": session_id,
        "event_id": str(uuid4()),
        "kind": "action",
        "start_time_us": time.time_ns() // 1000,
    }
    return base | values


def record(fields: dict[str, Any], **changed: Any) -> Record:
    """The event under its session's key."""
    given: dict[str, Any] = {"key": fields["session_id"].encode(), "value": EVENT.encode(fields)}
    return Record(**given | changed)


def partition(session_id: str) -> int:
    """The partition of a session on a stack."""
    return partition_of(session_id.encode(), PARTITIONS_DEFAULT)


@dataclass(slots=True)
class RawWriter:
    """A producer without judgement: what it is given goes to the log in that order."""

    stack: Stack
    linger_ms: int = 100
    producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": self.stack.bootstrap_servers,
                "enable.idempotence": True,
                "partitioner": PARTITIONER,
                "linger.ms": self.linger_ms,
                "batch.size": 3_000_000,
                "message.max.bytes": 3_000_000,
                "log_level": 0,
            }
        )

    def send(self, records: Sequence[Record]) -> list[Place]:
        """Write records; their places in the log, in order, when the broker has them all."""
        places: dict[int, Place] = {}

        def produce(number: int, one: Record) -> None:
            def reported(error: KafkaError | None, message: Message) -> None:
                assert error is None, error
                places[number] = Place(message.partition() or 0, message.offset() or 0)

            topic = EVENTS.full_name(self.stack.namespace)
            where = THE_KEYS if one.partition is None else one.partition
            self.producer.produce(topic, one.value, one.key, where, on_delivery=reported)

        for number, one in enumerate(records):
            produce(number, one)
        self.flush()
        return [places[number] for number in range(len(records))]

    def flush(self) -> None:
        """Wait until the broker has everything."""
        assert 0 == self.producer.flush(FLUSH_SECONDS_MAX)


def block_with(stack: Stack, place: Place) -> Block:
    """The block of metered.v1 that judges a record, which the meter has metered already."""
    topic = METERED.full_name(stack.namespace)
    consumer = Consumer(
        {
            "bootstrap.servers": stack.bootstrap_servers,
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(topic, place.partition, 0)])
        while True:
            message = consumer.poll(FLUSH_SECONDS_MAX)
            assert message is not None
            assert message.error() is None, f"nobody has metered {place}"
            value = message.value() or b""
            if BLOCK.knows(value):
                block = open_block(value)
                if block.first <= place.offset < block.next:
                    return block
    finally:
        consumer.close()

"""events.v1 as the meter reads it and ticks it: options, records, the tick. Judges nothing."""

from collections.abc import Iterable
from typing import Any, Final, cast

from confluent_kafka import KafkaError, Message

from fleetmeter_processors.judge import Raw
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import NO_KEY
from fleetmeter_schemas.records import Event, Kind

CONSUMER_OPTIONS: Final[dict[str, Any]] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 3_000,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    # An open transaction of one writer must not hold up all others.
    "isolation.level": "read_uncommitted",
    "fetch.min.bytes": 500_000,
    "fetch.wait.max.ms": 50,
}


def by_partition(messages: Iterable[Message]) -> tuple[dict[int, list[Raw]], list[KafkaError]]:
    """The records of each partition, in order, and the errors among them."""
    found: dict[int, list[Raw]] = {}
    errors: list[KafkaError] = []
    for message in messages:
        error = message.error()
        if error is not None:
            errors.append(error)
            continue
        found.setdefault(cast("int", message.partition()), []).append(
            Raw(
                cast("int", message.offset()),
                message.timestamp()[1],
                message.key(),
                message.value(),
            )
        )
    return found, errors


def tick(codec: Codec, now_us: int) -> bytes:
    """The record whose broker's stamp tells what time it is; its own clock does not count."""
    event: Event = {
        "key_hash": NO_KEY,
        "session_id": "",
        "event_id": "",
        "kind": Kind.TICK,
        "start_time_us": now_us,
    }
    return codec.encode(event)

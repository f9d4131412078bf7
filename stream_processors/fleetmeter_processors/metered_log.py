"""metered.v1 on the broker: appends, tells where records landed, reads back. Judges nothing."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from fleetmeter_schemas.errors import Unavailable

BLOCK_BYTES_MAX: Final = 4_000_000
ANSWER_SECONDS_MAX: Final = 30.0

PRODUCER_OPTIONS: Final[dict[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    # A record that timed out may be in the log all the same: wait, the watchdog decides.
    "message.timeout.ms": 0,
    "message.max.bytes": BLOCK_BYTES_MAX,
    "linger.ms": 0,
    "compression.type": "none",
}


class Delivery(KafkaException):
    """A record was not taken by the broker, and will not be."""


class PartitionLog:
    """One partition: what is on its way, and the offsets of what has landed."""

    def __init__(self, topic: "MeteredTopic", partition: int) -> None:
        self.landed: deque[int] = deque()
        self._topic = topic
        self._partition = partition
        self._sent_at: deque[float] = deque()

    @property
    def waited_seconds(self) -> float:
        """How long the oldest record has been on its way."""
        return time.monotonic() - self._sent_at[0] if self._sent_at else 0.0

    def append(self, data: bytes) -> None:
        """Send a record."""
        self._sent_at.append(time.monotonic())
        self._topic.append(self._partition, data, self._reported)

    def read(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """All records from an offset, or from the log's beginning, to an offset that exists."""
        return self._topic.read(self._partition, first, last)

    def _reported(self, offset: int) -> None:
        self._sent_at.popleft()
        self.landed.append(offset)


class MeteredTopic:
    """One idempotent producer for all partitions, and one reader without a group.

    Args:
        topic: Full name of metered.v1.
        options: librdkafka's options for address and security.
    """

    def __init__(self, topic: str, options: dict[str, Any]) -> None:
        self.producer = Producer(options | PRODUCER_OPTIONS)
        self._topic = topic
        self._failure: KafkaError | None = None
        self._reader = Consumer(
            options
            | {
                "group.id": "unused",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 10,
            }
        )

    def partition(self, partition: int) -> PartitionLog:
        """One partition's log, with nothing on its way."""
        return PartitionLog(self, partition)

    def append(self, partition: int, data: bytes, landed: Callable[[int], None]) -> None:
        """Send a record to a partition; `landed` gets its offset, from within `poll`."""
        self.producer.produce(
            self._topic, data, partition=partition, on_delivery=partial(self._reported, landed)
        )

    def poll(self, seconds: float) -> None:
        """Serve delivery reports.

        Raises:
            Delivery: The broker refused a record, or the producer is broken.
        """
        self.producer.poll(seconds)
        if self._failure is not None:
            raise Delivery(self._failure)

    def read(self, partition: int, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Records of a partition, `last` included.

        Raises:
            Unavailable: The broker does not answer.
        """
        where = TopicPartition(self._topic, partition)
        try:
            low, _ = self._reader.get_watermark_offsets(where, ANSWER_SECONDS_MAX, cached=False)
        except KafkaException as error:
            raise Unavailable(f"metered.v1: {error.args[0].str()}") from error
        start = max(first, low)
        if start > last:
            return
        self._reader.assign([TopicPartition(self._topic, partition, start)])
        try:
            yield from self._read_assigned(last)
        finally:
            self._reader.unassign()

    def close(self) -> None:
        """Let the broker go."""
        self._reader.close()

    def _read_assigned(self, last: int) -> Iterator[tuple[int, bytes]]:
        while True:
            message = self._reader.poll(ANSWER_SECONDS_MAX)
            if message is None:
                raise Unavailable("metered.v1 does not answer")
            if (error := message.error()) is not None:
                raise KafkaException(error)
            offset = cast("int", message.offset())
            if offset > last:
                return
            yield offset, cast("bytes", message.value())
            if offset == last:
                return

    def _reported(
        self, landed: Callable[[int], None], error: KafkaError | None, message: Message
    ) -> None:
        if error is not None:
            self._failure = error
            return
        landed(cast("int", message.offset()))

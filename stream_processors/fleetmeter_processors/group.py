"""The lander's membership in its consumer group: partitions, positions, commits, pauses.

Hands out records and takes back what may be committed; knows nothing of their content.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from prometheus_client import Gauge

from fleetmeter_processors.process import Runtime
from fleetmeter_processors.progress import Standing, restored_position
from fleetmeter_processors.startup import patiently
from fleetmeter_schemas.errors import ConfigError, Unavailable
from fleetmeter_schemas.tiling import Position

COMMITTED_SECONDS_MAX = 10.0
COMMIT_RETRY_SECONDS = 1.0
LAG_SECONDS = 1.0
SKIP = (
    "delete the lander group's offset of this partition"
    " (kafka-consumer-groups --delete-offsets); it then begins at the first barrier it meets"
)
_LOST_POSITION = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001
_REFUSED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,  # noqa: SLF001
)
# librdkafka tells it as a fatal error that has its cause in the text only.
_FENCED = "Static consumer fenced"

Key = tuple[str, int]
Reached = Iterable[tuple[Standing, TopicPartition]]


class Group:
    """One member. All methods are called from one thread, in which `consume` calls back."""

    def __init__(
        self, *, options: dict[str, Any], metered: str, sessions: str, runtime: Runtime, lag: Gauge
    ) -> None:
        self.before_revoke: Callable[[], None] = lambda: None
        self._metered = metered
        self._runtime = runtime
        self._lag = lag
        self._standings: dict[Key, Standing] = {}
        self._pending: dict[Key, tuple[Standing, TopicPartition]] = {}
        self._landed: dict[Key, int] = {}
        self._next_commit = 0.0
        self._next_lag = 0.0
        self._held = False
        self._fatal: KafkaError | None = None
        self._consumer = Consumer(options | {"error_cb": self._on_error, "log_level": 0})
        self._consumer.subscribe(
            [metered, sessions],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def consume(self, records_max: int, seconds: float) -> list[tuple[Standing, Message]]:
        """Return records of partitions that are ours; waits at most so long for that many.

        Raises:
            ConfigError: A position is gone, or the brokers refuse us.
            KafkaException: The client cannot go on.
        """
        found = []
        for message in self._consumer.consume(records_max, seconds):
            standing = self._standings.get((message.topic() or "", message.partition() or 0))
            error = message.error()
            if error is not None:
                self._judge(error, message, standing)
            elif standing is not None:
                found.append((standing, message))
        self._demand_life()
        if found and "kafka" in self._runtime.ops.reasons:
            self._runtime.ops.set_healthy("kafka")
            self._runtime.log.info("kafka.recovered")
        return found

    def commit(self, reached: Reached) -> None:
        """Commit what is still ours; what fails is tried again by `commit_pending`."""
        for standing, offset in reached:
            self._pending[standing.topic, standing.partition] = (standing, offset)
        self._next_commit = 0.0
        self.commit_pending()

    def commit_pending(self) -> None:
        """Try again what could not be committed yet."""
        if not self._pending or time.monotonic() < self._next_commit:
            return
        self._pending = {
            key: (standing, offset)
            for key, (standing, offset) in self._pending.items()
            if self._standings.get(key) is standing
        }
        offsets = [offset for _, offset in self._pending.values()]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._commit_later(error)
        else:
            self._pending.clear()
            self._landed |= {(each.topic, each.partition): each.offset for each in offsets}

    def tell_lag(self) -> None:
        """Measure, once a second, how far the tables are behind the end of each partition."""
        if time.monotonic() < self._next_lag:
            return
        self._next_lag = time.monotonic() + LAG_SECONDS
        for key, landed in self._landed.items():
            # As the last fetch saw it; negative before the first one.
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
            self._lag.labels(*key).set(max(0, high - landed))

    def hold(self, held: bool) -> None:  # noqa: FBT001 - it is the value, not a switch
        """Fetch nothing more for now, or again."""
        if held == self._held:
            return
        partitions = [TopicPartition(*key) for key in self._standings]
        (self._consumer.pause if held else self._consumer.resume)(partitions)
        self._held = held
        self._runtime.log.info("partitions.held" if held else "partitions.released")

    def close(self) -> None:
        """Leave; a static member keeps its partitions for the session timeout."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        remembered = patiently(self._runtime, "kafka", lambda: _committed(consumer, partitions))
        starts = [self._start(found) for found in remembered]
        consumer.incremental_assign(starts)
        if self._held:
            consumer.pause(starts)
        self._runtime.ops.set_ready(ready=True)
        self._runtime.log.info("partitions.assigned", partitions=_names(partitions))

    def _start(self, found: TopicPartition) -> TopicPartition:
        """Note where a partition goes on, and return it."""
        position: Position | None = Position()
        if found.topic == self._metered and found.offset >= 0:
            position = restored_position(found.offset, found.metadata)
        known = found.offset >= 0 and position is not None
        if found.offset >= 0 and not known:
            self._runtime.log.warning("position.unknown", partition=found.partition)
        offset = found.offset if known else OFFSET_BEGINNING
        self._standings[found.topic, found.partition] = Standing(
            topic=found.topic,
            partition=found.partition,
            next_offset=max(offset, 0),
            position=position or Position(),
        )
        self._landed[found.topic, found.partition] = max(offset, 0)
        return TopicPartition(found.topic, found.partition, offset)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.before_revoke()
        self._drop(partitions)
        consumer.incremental_unassign(partitions)
        self._runtime.log.info("partitions.revoked", partitions=_names(partitions))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(partitions)
        consumer.incremental_unassign(partitions)
        self._runtime.log.warning("partitions.lost", partitions=_names(partitions))

    def _drop(self, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            key = (each.topic, each.partition)
            self._standings.pop(key, None)
            if self._landed.pop(key, None) is not None:
                self._lag.labels(*key)
                self._lag.remove(*key)

    def _judge(self, error: KafkaError, message: Message, standing: Standing | None) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001
            # Behind the last record may stand a transaction's marker, which counts as an offset.
            if standing is not None and standing.topic != self._metered:
                standing.next_offset = max(standing.next_offset, message.offset() or 0)
            return
        if code in _LOST_POSITION:
            raise ConfigError(
                f"{message.topic()}, partition {message.partition()}: the committed position is"
                f" not in the log ({error.str()}); records are lost to the tables. To go on"
                f" without them, {SKIP}"
            )
        if code in _REFUSED:
            raise ConfigError(f"the brokers refuse the lander: {error.str()}")
        self._on_error(error)

    def _demand_life(self) -> None:
        if self._fatal is None:
            return
        if _FENCED in self._fatal.str():
            raise ConfigError(
                "another process runs under the same FLEETMETER_INSTANCE_ID; give each its own"
            )
        raise KafkaException(self._fatal)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001
            self._fatal = error
        if "kafka" not in self._runtime.ops.reasons:
            self._runtime.log.warning("kafka.failed", why=error.str())
        self._runtime.ops.set_unhealthy("kafka", error.str())

    def _commit_later(self, failure: KafkaException) -> None:
        error: KafkaError = failure.args[0]
        self._next_commit = time.monotonic() + COMMIT_RETRY_SECONDS
        self._runtime.log.warning("commit.failed", why=error.str())


def _committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    try:
        return consumer.committed(partitions, timeout=COMMITTED_SECONDS_MAX)
    except KafkaException as error:
        raise Unavailable(f"the group's positions: {error.args[0].str()}") from error


def _names(partitions: list[TopicPartition]) -> list[str]:
    return [f"{each.topic}/{each.partition}" for each in partitions]

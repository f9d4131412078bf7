"""Follows a topic in a thread of its own, whole or from near its end; interprets no record."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import uniform
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fleetmeter_api.settings import ApiSettings
from fleetmeter_schemas.errors import ConfigError, Unavailable

POLL_SECONDS: Final = 0.05
ASK_SECONDS: Final = 2.0
BATCH_RECORDS: Final = 1_000
RETRY_SECONDS: Final = (0.2, 2.0)

log = structlog.get_logger()


def client_options(settings: ApiSettings) -> dict[str, Any]:
    """Return librdkafka's options for address and security; the caller adds its own to it."""
    options: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        # A dead broker is back within seconds here; librdkafka's own limit is ten of them.
        "reconnect.backoff.max.ms": 2_000,
        "log_level": 2,
    }
    password = settings.kafka_sasl_password
    optional = {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": password.get_secret_value() if password is not None else None,
        "ssl.ca.location": settings.kafka_ssl_ca_location,
    }
    return options | {name: value for name, value in optional.items() if value is not None}


class Reader(Protocol):
    """What is made of a topic's records; called in the follower's thread only."""

    def started(self, starts: dict[int, int]) -> None:
        """Reading begins at these offsets, by partition; 0 where nothing is left out."""

    def read(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """One record, in the partition's order."""


@dataclass(slots=True)
class _Ask:
    """Somebody waits until what is in the topic now has been read."""

    answer: Callable[[], None]
    ends: dict[int, int] = field(default_factory=dict)


class Follower:
    """Reads all partitions of a topic without a consumer group, and goes on for ever.

    Args:
        settings: Address and security of the brokers.
        topic: Its full name.
        reader: What is made of the records.
        partitions: How many partitions it must have; None: not known yet, reading waits for it.
        records_back: How many records before the end to begin with; None: at the beginning.
    """

    def __init__(
        self,
        settings: ApiSettings,
        topic: str,
        reader: Reader,
        *,
        partitions: Callable[[], int | None],
        records_back: int | None,
    ) -> None:
        self.topic = topic
        self._settings = settings
        self._reader = reader
        self._partitions = partitions
        self._records_back = records_back
        self._thread = threading.Thread(target=self._run, name=f"follow {topic}", daemon=True)
        self._stopping = threading.Event()
        self._at_end = threading.Event()
        self._away = threading.Event()
        self._asks: list[_Ask] = []
        self._read_to: dict[int, int] = {}
        self._ended: set[int] = set()
        self._probe_at = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it, and wait for it for some seconds."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=10)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def has_caught_up(self) -> bool:
        """Whether it has once come to the end of every partition."""
        return self._at_end.is_set()

    @property
    def is_connected(self) -> bool:
        """Whether a broker answered when last asked."""
        return not self._away.is_set()

    async def catch_up(self, timeout_seconds: float) -> None:
        """Wait until everything that is in the topic now has been read.

        All who wait share one question to the broker, at most one in POLL_SECONDS.

        Raises:
            Unavailable: The broker did not answer in time.
        """
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        ask = _Ask(answer=lambda: tell(loop, done))
        self._asks.append(ask)
        try:
            await asyncio.wait_for(done.wait(), timeout_seconds)
        except TimeoutError as error:
            raise Unavailable(f"{self.topic} cannot be read") from error
        finally:
            if ask in self._asks:
                self._asks.remove(ask)

    def _run(self) -> None:
        consumer = Consumer(
            client_options(self._settings)
            | {
                "group.id": f"{self._settings.namespace}.api",  # never joined: assign only
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "error_cb": self._on_error,
            }
        )
        try:
            self._begin(consumer)
            while not self._stopping.is_set():
                self._take(consumer)
                self._serve_asks(consumer)
                self._probe(consumer)
        finally:
            consumer.close()

    def _begin(self, consumer: Consumer) -> None:
        while self._partitions() is None:
            if self._stopping.wait(POLL_SECONDS):
                return
        while not self._stopping.is_set():
            try:
                starts = self._starts(consumer)
            except (KafkaException, Unavailable) as error:
                if not self._away.is_set():
                    log.warning("topic.unavailable", topic=self.topic, error=str(error))
                self._away.set()
                self._stopping.wait(uniform(*RETRY_SECONDS))  # noqa: S311 - jitter
                continue
            self._away.clear()
            self._reader.started({p: start for p, (start, _) in starts.items()})
            self._read_to = {p: first for p, (_, first) in starts.items()}
            consumer.assign(
                [TopicPartition(self.topic, p, first) for p, (_, first) in starts.items()]
            )
            return

    def _starts(self, consumer: Consumer) -> dict[int, tuple[int, int]]:
        """By partition: what the reader is told, and the offset to begin at."""
        described = consumer.list_topics(self.topic, timeout=ASK_SECONDS).topics[self.topic]
        if described.error is not None or not described.partitions:
            raise Unavailable(f"topic {self.topic} is not there (run: fleetmeter migrate)")
        actual, wanted = len(described.partitions), self._partitions()
        if actual != wanted:
            raise ConfigError(f"topic {self.topic} has {actual} partitions instead of {wanted}")
        return {p: self._start(consumer, p) for p in described.partitions}

    def _start(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        low, high = _ends(consumer, self.topic, partition)
        if self._records_back is None or high - self._records_back <= low:
            return 0, low
        return high - self._records_back, high - self._records_back

    def _take(self, consumer: Consumer) -> None:
        first = consumer.poll(POLL_SECONDS)
        if first is None:
            return
        self._away.clear()
        self._read(first)
        for message in consumer.consume(BATCH_RECORDS, 0):
            self._read(message)

    def _read(self, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        error = message.error()
        if error is None:
            assert partition is not None  # noqa: S101 - a consumed record has both
            assert offset is not None  # noqa: S101
            self._reader.read(partition, offset, _raw(message.key()), _raw(message.value()))
            self._read_to[partition] = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            assert partition is not None  # noqa: S101
            assert offset is not None  # noqa: S101
            self._reached_end(partition, offset)
        else:
            log.warning("topic.unreadable", topic=self.topic, error=str(error))

    def _reached_end(self, partition: int, offset: int) -> None:
        self._read_to[partition] = max(self._read_to[partition], offset)
        self._ended.add(partition)
        if len(self._ended) == len(self._read_to) and not self._at_end.is_set():
            self._at_end.set()
            log.info("topic.caught_up", topic=self.topic, partitions=len(self._read_to))

    def _serve_asks(self, consumer: Consumer) -> None:
        asks = list(self._asks)
        if any(not ask.ends for ask in asks):
            ends = self._ends_now(consumer)
            for ask in asks:
                ask.ends = ask.ends or ends
        for ask in asks:
            if ask.ends and self._has_read(ask.ends.items()):
                ask.answer()

    def _ends_now(self, consumer: Consumer) -> dict[int, int]:
        """The ends of all partitions; empty where the broker does not answer."""
        try:
            ends = {p: _ends(consumer, self.topic, p)[1] for p in self._read_to}
        except KafkaException:
            self._away.set()
            return {}
        self._away.clear()
        return ends

    def _has_read(self, ends: Iterable[tuple[int, int]]) -> bool:
        return all(self._read_to[partition] >= end for partition, end in ends)

    def _probe(self, consumer: Consumer) -> None:
        """While the broker seems away, ask it: an idle topic would not tell that it is back."""
        if self._away.is_set() and time.monotonic() >= self._probe_at:
            self._ends_now(consumer)
            self._probe_at = time.monotonic() + 1.0

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self._away.set()


def _ends(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """First offset, and the one after the last."""
    found = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ASK_SECONDS)
    if found is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001
    return found


def _raw(data: str | bytes | None) -> bytes | None:
    assert not isinstance(data, str)  # noqa: S101 - no deserializer is set
    return data


def tell(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    """Set an event of a loop from another thread; a loop that is closed needs to know nothing."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(done.set)

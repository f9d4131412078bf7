"""The way to Kafka: one background producer per process. The only user of confluent_kafka."""

import logging
import time
from collections.abc import Callable
from ctypes import py_object, pythonapi
from functools import partial
from threading import Event as Flag
from threading import Thread, current_thread
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fleetmeter.config import Config
from fleetmeter.transport import Accounts, Delivery, Dropped
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.topics import EVENT_BYTES_MAX, EVENTS, PARTITIONER

LOG = logging.getLogger("fleetmeter")
POLL_S = 0.1
FLUSH_STEP_S = 0.05
RESERVED_EVENTS = 1_000
RESERVED_BYTES = 2 * EVENT_BYTES_MAX
_RECORD_OVERHEAD_BYTES = 100


class KafkaTransport:
    """Hands records to librdkafka, and keeps account of what it says about them.

    Args:
        config: The settings.
        accounts: Where to count.
        on_idle: Called about ten times a second in the background thread.
    """

    def __init__(self, config: Config, accounts: Accounts, on_idle: Callable[[], None]) -> None:
        self._config = config
        self._accounts = accounts
        self._on_idle = on_idle
        self._topic = EVENTS.full_name(config.namespace)
        self._producer: Producer | None = None
        self._thread: Thread | None = None
        self._stopping = Flag()
        self._fatal = False
        self._told: set[str] = set()

    def start(self) -> None:
        """Creates producer and thread; raises ConfigError for settings librdkafka refuses."""
        self._started()

    def send(self, key: bytes, value: bytes, delivery: Delivery) -> Dropped | None:
        """Takes a record over, while there is room."""
        accounts = self._accounts
        if (
            accounts.pending >= self._config.queue_events_max
            or accounts.pending_bytes + len(value) > self._config.queue_bytes_max
        ):
            return Dropped.QUEUE_FULL
        return self.send_reserved(key, value, delivery)

    def send_reserved(self, key: bytes, value: bytes, delivery: Delivery) -> Dropped | None:
        """Takes a record over, while there is room or reserve."""
        if len(value) > EVENT_BYTES_MAX:
            return Dropped.TOO_LARGE
        producer = self._producer or self._started()
        accounts = self._accounts
        size = len(value) + _RECORD_OVERHEAD_BYTES
        with accounts.lock:
            accounts.pending += 1
            accounts.pending_bytes += size
            delivery.pending += 1
        try:
            producer.produce(
                self._topic, value, key, on_delivery=partial(self._reported, size, delivery)
            )
        except (BufferError, KafkaException) as error:
            with accounts.lock:
                accounts.pending -= 1
                accounts.pending_bytes -= size
                delivery.pending -= 1
            return _refusal(error)
        return None

    def flush(self, done: Callable[[], bool], timeout_ms: int) -> None:
        """Skips the linger, until `done()` or the time is over."""
        deadline = time.monotonic() + timeout_ms / 1000
        while not done():
            left = deadline - time.monotonic()
            producer = self._producer
            if left <= 0 or producer is None:
                return
            producer.flush(min(left, FLUSH_STEP_S))

    def close(self, timeout_ms: int) -> None:
        """Flushes, stops the thread, gives the producer up; what is left then is dropped."""
        self.flush(lambda: self._accounts.pending == 0, timeout_ms)
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not current_thread():
            thread.join(POLL_S + 1)
        producer, self._producer = self._producer, None
        if producer is not None:
            _purge(producer)

    def forked(self, accounts: Accounts) -> Self:
        """A fresh transport; the parent's producer is never touched again, nor freed."""
        if self._producer is not None:
            # Freeing the handle would wait for threads that do not exist in the child.
            pythonapi.Py_IncRef(py_object(self._producer))
        return type(self)(self._config, accounts, self._on_idle)

    def _started(self) -> Producer:
        with self._accounts.lock:
            if self._producer is not None:
                return self._producer
            producer = self._producer = self._new_producer()
            self._stopping = Flag()
            self._thread = Thread(
                target=self._run, args=(self._stopping,), name="fleetmeter", daemon=True
            )
            self._thread.start()
            return producer

    def _run(self, stopping: Flag) -> None:
        while not stopping.is_set():
            try:
                self._turn()
            except Exception:
                LOG.exception("kafka.thread_stumbled")
                stopping.wait(1)

    def _turn(self) -> None:
        producer = self._producer
        if producer is None:
            return
        producer.poll(POLL_S)
        if self._fatal:
            self._replace(producer)
        self._on_idle()

    def _replace(self, broken: Producer) -> None:
        """A producer that met a fatal error refuses everything: report its records, start anew."""
        with self._accounts.lock:
            self._producer = self._new_producer()
            self._fatal = False
        _purge(broken)

    def _new_producer(self) -> Producer:
        options = producer_options(self._config)
        options |= {"error_cb": self._erred, "logger": logging.getLogger("fleetmeter.kafka")}
        try:
            return Producer(options)
        except (KafkaException, ValueError, TypeError) as error:
            raise ConfigError(f"Kafka settings: {_words(error)}") from error

    def _reported(
        self, size: int, delivery: Delivery, error: KafkaError | None, message: Message
    ) -> None:
        accounts = self._accounts
        offset = message.offset() if error is None else None
        with accounts.lock:
            accounts.pending -= 1
            accounts.pending_bytes -= size
            delivery.pending -= 1
            if offset is None:
                accounts.dropped[Dropped.NOT_DELIVERED] += 1
            else:
                accounts.delivered += 1
                if delivery.offset is None or offset > delivery.offset:
                    delivery.offset = offset
        if error is not None:
            self._tell_once(error)
        elif self._told:
            # All is well again: the next trouble is worth a line of its own.
            self._told.clear()

    def _erred(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = True
        self._tell_once(error)

    def _tell_once(self, error: KafkaError) -> None:
        if error.name() not in self._told:
            self._told.add(error.name())
            LOG.warning("kafka.error %s: %s", error.name(), error.str())


def producer_options(config: Config) -> dict[str, Any]:
    """What librdkafka is told for these settings of ours."""
    named = {
        "security.protocol": config.kafka_security_protocol,
        "sasl.mechanism": config.kafka_sasl_mechanism,
        "sasl.username": config.kafka_sasl_username,
        "sasl.password": config.kafka_sasl_password,
        "ssl.ca.location": config.kafka_ssl_ca_location,
    }
    return {
        "client.id": "fleetmeter-sdk",
        "compression.type": "lz4",
        "batch.size": 1_000_000,
        "linger.ms": config.linger_ms,
        "message.timeout.ms": config.delivery_timeout_ms,
        "message.max.bytes": 3_000_000,
        # Ours are the bounds; librdkafka's are a second fence behind them.
        "queue.buffering.max.messages": config.queue_events_max + RESERVED_EVENTS,
        "queue.buffering.max.kbytes": (config.queue_bytes_max + RESERVED_BYTES) // 1_000,
        **{name: value for name, value in named.items() if value},
        **config.kafka_options,
        "bootstrap.servers": config.bootstrap_servers,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": PARTITIONER,
    }


def _purge(producer: Producer) -> None:
    """Gives up what the producer holds, so that each of its records is reported."""
    producer.purge()
    producer.flush(1)


def _refusal(error: Exception) -> Dropped:
    if isinstance(error, BufferError):
        return Dropped.QUEUE_FULL
    code = error.args[0].code() if error.args else None
    return Dropped.TOO_LARGE if code == KafkaError.MSG_SIZE_TOO_LARGE else Dropped.NOT_WRITTEN


def _words(error: Exception) -> str:
    first = error.args[0] if error.args else error
    return first.str() if isinstance(first, KafkaError) else str(first)

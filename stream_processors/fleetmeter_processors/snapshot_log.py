"""One partition of sessions.v1: read from its start, written in transactions; decodes nothing.

The transactional id belongs to the partition, so whoever fences it first makes every earlier
writer of it harmless: what a zombie still sends is refused by the broker.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from fleetmeter_processors.backoff import delays
from fleetmeter_processors.kafka import client_options
from fleetmeter_processors.ledger import LogRecord
from fleetmeter_processors.process import Runtime, Stopped
from fleetmeter_processors.settings import ProcessorSettings
from fleetmeter_schemas.topics import SESSIONS

T = TypeVar("T")

# An open transaction of a killed writer blocks read_committed readers for this long at most.
TRANSACTION_TIMEOUT_MS: Final = 10_000
# How long one call may block: a request to stop is noticed that late at most.
CALL_SECONDS_MAX: Final = 2.0
RETRY_SECONDS_MAX: Final = 2.0
READ_RECORDS_MAX: Final = 10_000
# librdkafka waits that long for a batch to fill, even when it holds the end of the partition.
READ_SECONDS_MAX: Final = 0.05
FENCED_CODES: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 - its public name
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)


class Fenced(Exception):  # noqa: N818 - the field's word
    """Another process has taken the partition: nothing that this one writes counts any more."""


class SnapshotLog:
    """Reads and writes one partition of sessions.v1. One thread at a time.

    Whatever fails and may succeed later is tried again, with health red meanwhile, until the
    process is asked to stop (`Stopped`). What cannot succeed is raised as KafkaException.
    """

    def __init__(self, settings: ProcessorSettings, runtime: Runtime, partition: int) -> None:
        self._topic = SESSIONS.full_name(settings.namespace)
        self._partition = partition
        self._options = client_options(settings) | {
            # Told by us, when it matters.
            "log_level": 0,
            "error_cb": lambda error: runtime.log.debug("kafka.error", why=error.str()),
        }
        self._group = f"{settings.namespace}.sessions"
        self._runtime = runtime
        self._component = f"sessions.v1/{partition}"
        self._producer = Producer(self._producer_options(f"{self._group}.{partition}"))

    def fence(self) -> None:
        """End the writing of everybody who wrote this partition before."""
        self._insist(lambda: self._producer.init_transactions(CALL_SECONDS_MAX))

    def read(self) -> Iterator[LogRecord]:
        """What committed transactions wrote, from the start to the end: key, value or None."""
        consumer = Consumer(self._consumer_options())
        try:
            consumer.assign([TopicPartition(self._topic, self._partition, OFFSET_BEGINNING)])
            while True:
                for message in consumer.consume(READ_RECORDS_MAX, READ_SECONDS_MAX):
                    error = message.error()
                    if error is None:
                        key = message.key()
                        assert key is not None, message.offset()  # noqa: S101 - we wrote it
                        yield _bytes(key), message.value()
                    elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                        return
                    elif not error.retriable():
                        raise KafkaException(error)
                if self._runtime.stopping.is_set():
                    raise Stopped
        finally:
            consumer.close()

    def write(self, records: Sequence[LogRecord]) -> None:
        """Write all of these or, when it raises, none.

        Raises:
            Fenced: Another process has taken the partition.
        """
        for delay in delays(RETRY_SECONDS_MAX):
            try:
                self._transact(records)
            except KafkaException as failure:
                error = _error(failure)
                if not error.txn_requires_abort():
                    raise
                self._runtime.ops.set_unhealthy(self._component, error.str())
                self._runtime.log.warning("transaction.aborted", why=error.str())
                self._insist(lambda: self._producer.abort_transaction(CALL_SECONDS_MAX))
                self._runtime.pause(delay)
            else:
                return

    def close(self) -> None:
        """Give the connections back. What was not committed is lost."""
        self._runtime.ops.set_healthy(self._component)
        # Its own close() would abort the transaction at the broker, which a zombie may not.
        self._producer.purge()
        del self._producer

    def _transact(self, records: Sequence[LogRecord]) -> None:
        self._insist(self._producer.begin_transaction)
        try:
            for key, value in records:
                self._producer.produce(self._topic, value, key, self._partition)
        except KafkaException as failure:
            # Fenced meanwhile, a producer refuses records without a reason: the commit tells it.
            if _error(failure).code() != KafkaError._FATAL:  # noqa: SLF001 - its public name
                raise
        self._insist(lambda: self._producer.commit_transaction(CALL_SECONDS_MAX))

    def _insist(self, act: Callable[[], T]) -> T:
        waits = delays(RETRY_SECONDS_MAX)
        while True:
            try:
                done = act()
            except KafkaException as failure:
                error = _error(failure)
                if error.code() in FENCED_CODES and not error.txn_requires_abort():
                    raise Fenced(error.str()) from failure
                if not error.retriable():
                    raise
                self._runtime.ops.set_unhealthy(self._component, error.str())
                self._runtime.pause(next(waits))
            else:
                self._runtime.ops.set_healthy(self._component)
                return done

    def _producer_options(self, transactional_id: str) -> dict[str, Any]:
        return self._options | {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "message.max.bytes": 3_000_000,
        }

    def _consumer_options(self) -> dict[str, Any]:
        return self._options | {
            "group.id": self._group,  # only names the client: nothing is committed under it
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            # The end of the partition is told when a fetch comes back empty.
            "fetch.wait.max.ms": 10,
        }


def _error(failure: KafkaException) -> KafkaError:
    error = failure.args[0]
    assert isinstance(error, KafkaError), failure  # noqa: S101 - librdkafka's binding says so
    return error


def _bytes(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else key.encode()

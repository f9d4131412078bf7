"""How far behind each processor is, as its consumer group says; reads offsets only."""

from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from fleetmeter_local.keys import ControlLog
from fleetmeter_schemas.errors import Unavailable
from fleetmeter_schemas.topics import EVENTS, METERED

SECONDS_MAX = 5.0
READS = {"meter": EVENTS, "sessions": METERED, "lander": METERED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Records of one partition that a processor has still to read; None: it read none yet."""

    process: str
    partition: int
    end: int
    committed: int | None

    @property
    def records(self) -> int:
        """How many records are still to read."""
        return self.end - (self.committed or 0)


def lags(log: ControlLog) -> list[Lag]:
    """The lag of each processor on each partition it reads.

    Raises:
        Unavailable: The broker does not answer.
    """
    try:
        return [each for process in READS for each in _of_process(log, process)]
    except KafkaException as error:
        raise Unavailable(f"Kafka at {log.bootstrap_servers}: {error.args[0]}") from error


def _of_process(log: ControlLog, process: str) -> list[Lag]:
    consumer = Consumer(
        {
            "bootstrap.servers": log.bootstrap_servers,
            "group.id": f"{log.namespace}.{process}",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    try:
        topic = READS[process].full_name(log.namespace)
        found = consumer.list_topics(topic, timeout=SECONDS_MAX).topics[topic].partitions
        partitions = [TopicPartition(topic, number) for number in sorted(found)]
        committed = consumer.committed(partitions, timeout=SECONDS_MAX) if partitions else []
        return [
            Lag(
                process=process,
                partition=each.partition,
                end=consumer.get_watermark_offsets(each, timeout=SECONDS_MAX)[1],
                committed=each.offset if each.offset >= 0 else None,
            )
            for each in committed
        ]
    finally:
        consumer.close()

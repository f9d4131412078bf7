"""What a processor checks before it works: brokers and topics. Repairs nothing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported silently
    AdminClient,
    ConfigResource,
    ResourceType,
)

from fleetmeter_processors.backoff import delays
from fleetmeter_processors.kafka import client_options
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import ProcessorSettings
from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import ConfigError, InvalidRecord, Unavailable
from fleetmeter_schemas.topics import Topic

ANSWER_SECONDS_MAX: Final = 3.0
RETRY_SECONDS_MAX: Final = 2.0
REPAIR: Final = "run `fleetmeter migrate`"
# Settings without which a topic's records mean something else. Sizes and retention are the
# operator's own affair.
ESSENTIAL = ("cleanup.policy", "message.timestamp.type")
_CLUSTER = Codec("Cluster")
T = TypeVar("T")


def essential_settings(topic: Topic) -> dict[str, str]:
    """Return the settings that `topic` must have on the broker."""
    wanted = {"cleanup.policy": "delete"} | dict(topic.settings)
    return {name: wanted[name] for name in ESSENTIAL if name in wanted}


def await_cluster(settings: ProcessorSettings, runtime: Runtime, needed: Iterable[Topic]) -> int:
    """Wait until the brokers answer, check the topics needed, and return the partition count.

    Raises:
        ConfigError: A topic is missing or is not as it must be.
        Stopped: The process was asked to stop before the brokers answered.
    """
    cluster = Cluster(settings)
    found = patiently(runtime, "kafka", cluster.partition_counts)
    _check_partitions(topics.CONTROL.full_name(settings.namespace), topics.CONTROL, found, 1)
    partitions = patiently(runtime, "kafka", cluster.recorded_partitions)
    if partitions is None:
        raise ConfigError(f"{settings.namespace}.control.v1 holds no Cluster record: {REPAIR}")
    for topic in needed:
        _check_partitions(topic.full_name(settings.namespace), topic, found, partitions)
        actual = patiently(runtime, "kafka", partial(cluster.settings_of, topic))
        _check_settings(topic.full_name(settings.namespace), topic, actual)
    return partitions


def patiently(runtime: Runtime, component: str, ask: Callable[[], T]) -> T:
    """Return what `ask` answers, asked again while it raises Unavailable; told once in the log.

    Raises:
        Stopped: The process was asked to stop.
    """
    waits = delays(RETRY_SECONDS_MAX)
    told = False
    while True:
        try:
            answer = ask()
        except Unavailable as error:
            if not told:
                runtime.log.warning("dependency.awaited", component=component, why=str(error))
                told = True
            runtime.ops.set_unhealthy(component, str(error))
            runtime.pause(next(waits))
        else:
            runtime.ops.set_healthy(component)
            return answer


@dataclass(slots=True)
class Cluster:
    """Questions to the brokers; each raises Unavailable while they do not answer."""

    settings: ProcessorSettings
    _trouble: list[str] = field(default_factory=list)
    _admin: AdminClient | None = None

    def admin(self) -> AdminClient:
        """Return the one admin client."""
        if self._admin is None:
            self._admin = AdminClient(self._options())
        return self._admin

    def partition_counts(self) -> dict[str, int]:
        """Return the number of partitions of every topic there is."""
        metadata = self._asked(lambda: self.admin().list_topics(timeout=ANSWER_SECONDS_MAX))
        return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def settings_of(self, topic: Topic) -> dict[str, str]:
        """Return a topic's settings on the broker."""
        name = topic.full_name(self.settings.namespace)
        resource = ConfigResource(ResourceType.TOPIC, name)
        futures = self.admin().describe_configs([resource], request_timeout=ANSWER_SECONDS_MAX)
        entries = self._asked(futures[resource].result)
        return {key: str(entry.value) for key, entry in entries.items()}

    def recorded_partitions(self) -> int | None:
        """Return what control.v1's Cluster record says; None where there is none.

        Raises:
            ConfigError: The record cannot be read.
        """
        value = self._asked(self._last_cluster_record)
        if value is None:
            return None
        try:
            return int(_CLUSTER.decode(value)["partitions"])
        except InvalidRecord as error:
            raise ConfigError(f"control.v1's Cluster record: {error}") from error

    def _last_cluster_record(self) -> bytes | None:
        consumer = Consumer(
            self._options()
            | {
                "group.id": "unused",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                # The end of the partition is told when a fetch comes back empty.
                "fetch.wait.max.ms": 10,
            }
        )
        found: bytes | None = None
        try:
            name = topics.CONTROL.full_name(self.settings.namespace)
            consumer.assign([TopicPartition(name, 0, 0)])
            while (message := consumer.poll(ANSWER_SECONDS_MAX)) is not None:
                match message.error():
                    case None if message.key() == topics.CLUSTER_KEY:
                        found = message.value()
                    case None:
                        pass
                    case error if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                        return found
                    case error:
                        raise KafkaException(error)
            raise Unavailable("control.v1 does not answer")
        finally:
            consumer.close()

    def _options(self) -> dict[str, Any]:
        return client_options(self.settings) | {
            "error_cb": lambda error: self._trouble.append(error.str()),
            # Told by us, once, in one line.
            "log_level": 0,
        }

    def _asked(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except KafkaException as error:
            why = self._trouble[0] if self._trouble else error.args[0].str()
            raise Unavailable(f"Kafka at {self.settings.bootstrap_servers}: {why}") from error
        finally:
            self._trouble.clear()


def _check_partitions(name: str, topic: Topic, found: Mapping[str, int], partitions: int) -> None:
    wanted = 1 if topic.single_partition else partitions
    actual = found.get(name)
    if actual is None:
        raise ConfigError(f"topic {name} does not exist: {REPAIR}")
    if actual != wanted:
        raise ConfigError(
            f"topic {name} has {actual} partitions, but {wanted} were fixed when it was made;"
            " they cannot be changed: use another namespace"
        )


def _check_settings(name: str, topic: Topic, actual: Mapping[str, str]) -> None:
    for setting, wanted in essential_settings(topic).items():
        if actual.get(setting) != wanted:
            raise ConfigError(
                f"topic {name} has {setting}={actual.get(setting)}, must be {wanted}: {REPAIR}"
            )

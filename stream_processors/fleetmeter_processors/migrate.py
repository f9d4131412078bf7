"""Creates topics, the Cluster record and tables where they are missing; deletes nothing.

`python -m fleetmeter_processors.migrate`: run it as often as you like, before the processors.
"""

import time
from functools import partial
from typing import NoReturn

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported silently
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from fleetmeter_processors import process
from fleetmeter_processors.kafka import client_options
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import MigrateSettings
from fleetmeter_processors.sink import Store
from fleetmeter_processors.startup import (
    ANSWER_SECONDS_MAX,
    Cluster,
    essential_settings,
    patiently,
)
from fleetmeter_processors.store_check import applied
from fleetmeter_schemas import tables, topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import ConfigError, Unavailable
from fleetmeter_schemas.topics import Topic

STATEMENT_SECONDS_MAX = 300.0
_CLUSTER = Codec("Cluster")


def run(settings: MigrateSettings, runtime: Runtime) -> None:
    """Bring topics and tables to what this version needs.

    Raises:
        ConfigError: What there is contradicts the settings, or may not be changed.
        Stopped: The process was asked to stop.
    """
    migrate_topics(settings, runtime)
    migrate_tables(settings, runtime)


def migrate_topics(settings: MigrateSettings, runtime: Runtime) -> None:
    """Create the topics, and record the partition count before those that depend on it."""
    cluster = Cluster(settings)
    counts = patiently(runtime, "kafka", cluster.partition_counts)
    _ensure(settings, runtime, cluster, topics.CONTROL, counts=counts, partitions=1)
    recorded = patiently(runtime, "kafka", cluster.recorded_partitions)
    if recorded is None:
        made = counts.get(topics.EVENTS.full_name(settings.namespace))
        recorded = settings.partitions or made or topics.PARTITIONS_DEFAULT
        patiently(runtime, "kafka", lambda: _record_partitions(settings, recorded))
    if settings.partitions not in (None, recorded):
        raise ConfigError(
            f"FLEETMETER_PARTITIONS is {settings.partitions}, but {recorded} were fixed when"
            " the topics were made: leave it out, or use another namespace"
        )
    for topic in topics.ALL:
        if topic is not topics.CONTROL:
            _ensure(settings, runtime, cluster, topic, counts=counts, partitions=recorded)


def migrate_tables(settings: MigrateSettings, runtime: Runtime) -> None:
    """Run the numbered migrations that the store has not seen, in order."""
    store = Store(settings, STATEMENT_SECONDS_MAX)
    try:
        patiently(runtime, "store", partial(_prepare_store, store, settings.namespace))
        done = applied(store, settings.namespace)
        for step in tables.migrations(settings.namespace):
            if step.number not in done:
                _apply(store, settings.namespace, step)
                runtime.log.info("table.migrated", number=step.number, step=step.name)
    finally:
        store.close()


def _prepare_store(store: Store, database: str) -> None:
    store.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    store.command(
        f"CREATE TABLE IF NOT EXISTS {database}.{tables.MIGRATIONS_TABLE}"
        " (number UInt32, name String, applied_at DateTime('UTC') DEFAULT now())"
        " ENGINE = MergeTree ORDER BY number"
    )


def _apply(store: Store, database: str, step: tables.Migration) -> None:
    """Run a step and note it; a crash between the two runs it again, so steps must allow that."""
    for statement in step.statements:
        store.command(statement)
    store.command(
        f"INSERT INTO {database}.{tables.MIGRATIONS_TABLE} (number, name)"  # noqa: S608 - both are identifiers
        f" VALUES ({step.number}, '{step.name}')"
    )


def _ensure(
    settings: MigrateSettings,
    runtime: Runtime,
    cluster: Cluster,
    topic: Topic,
    *,
    counts: dict[str, int],
    partitions: int,
) -> None:
    name = topic.full_name(settings.namespace)
    if name not in counts:
        patiently(runtime, "kafka", lambda: _create(settings, cluster, topic, partitions))
        runtime.log.info("topic.created", topic=name, partitions=partitions)
        return
    if counts[name] != partitions:
        raise ConfigError(f"topic {name} has {counts[name]} partitions instead of {partitions}")
    actual = patiently(runtime, "kafka", lambda: cluster.settings_of(topic))
    wrong = {
        setting: value
        for setting, value in essential_settings(topic).items()
        if actual.get(setting) != value
    }
    if wrong:
        patiently(runtime, "kafka", lambda: _alter(cluster, name, wrong))
        runtime.log.info("topic.altered", topic=name, **wrong)


def _create(settings: MigrateSettings, cluster: Cluster, topic: Topic, partitions: int) -> None:
    # With three replicas one may be away, and an acknowledged record is still on two.
    replicas = {"min.insync.replicas": str(max(1, settings.replication - 1))}
    new = NewTopic(
        topic.full_name(settings.namespace),
        num_partitions=partitions,
        replication_factor=settings.replication,
        config=dict(topic.settings) | replicas,
    )
    (future,) = cluster.admin().create_topics([new], request_timeout=ANSWER_SECONDS_MAX).values()
    try:
        future.result()
    except KafkaException as error:
        # Somebody else migrates at the same time.
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            _fail(topic.full_name(settings.namespace), error)


def _alter(cluster: Cluster, name: str, settings: dict[str, str]) -> None:
    entries = [
        ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        for setting, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    (future,) = cluster.admin().incremental_alter_configs([resource]).values()
    try:
        future.result()
    except KafkaException as error:
        _fail(name, error)


def _record_partitions(settings: MigrateSettings, partitions: int) -> None:
    producer = Producer(client_options(settings) | {"acks": "all", "log_level": 0})
    failures: list[KafkaError] = []
    record = {"partitions": partitions, "created_at_ms": int(time.time() * 1000)}
    producer.produce(
        topics.CONTROL.full_name(settings.namespace),
        key=topics.CLUSTER_KEY,
        value=_CLUSTER.encode(record),
        on_delivery=lambda error, _: failures.append(error) if error is not None else None,
    )
    if producer.flush(ANSWER_SECONDS_MAX) or failures:
        raise Unavailable(f"control.v1: {failures[0].str() if failures else 'no answer'}")


def _fail(name: str, error: KafkaException) -> NoReturn:
    cause: KafkaError = error.args[0]
    if cause.retriable() or cause.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):  # noqa: SLF001
        raise Unavailable(f"topic {name}: {cause.str()}") from error
    raise ConfigError(f"topic {name}: {cause.str()}") from error


if __name__ == "__main__":
    process.main("migrate", MigrateSettings, run)

"""The floor that the chain is measured against: consumer and the lander's insert, no metering.

What it reads has its verdict behind it already, so the rows are those that the chain writes.

Run as a program it reads a topic until it has landed a given number of events, and says so.
"""

import sys
import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from fleetmeter_processors.container import container
from fleetmeter_processors.settings import LanderSettings
from fleetmeter_processors.sink import Store
from fleetmeter_schemas.codec import HEADER_BYTES
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.tables import migrations

INSERT_BYTES_MAX = 50_000_000
INSERT_SECONDS_MAX = 2.0


def consumer(bootstrap_servers: str, topic: str) -> Consumer:
    """A consumer of all partitions, from their start, with the meter's fetch settings."""
    options: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "floor",
        "enable.auto.commit": False,
        "fetch.min.bytes": 500_000,
        "fetch.wait.max.ms": 50,
    }
    client = Consumer(options)
    partitions = client.list_topics(topic, timeout=10).topics[topic].partitions
    client.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    return client


def land(store: Store, bodies: list[bytes]) -> None:
    """Insert metered events, as the lander does."""
    store.insert("events", container(schema("MeteredEvent"), [(len(bodies), b"".join(bodies))]))


def main() -> None:
    """Arguments: topic and number of events; address and store from the environment."""
    topic, count = sys.argv[1], int(sys.argv[2])
    settings = LanderSettings()
    store = Store(settings, 60.0)
    store.command(f"CREATE DATABASE IF NOT EXISTS {settings.namespace}")
    for migration in migrations(settings.namespace):
        for statement in migration.statements:
            store.command(statement)
    client = consumer(settings.bootstrap_servers, topic)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    landed, waiting, size, since = 0, [], 0, time.monotonic()
    while landed < count:
        for message in client.consume(10_000, 0.2):
            value = message.value()
            assert value is not None, message.error()
            body = value[HEADER_BYTES:]
            waiting.append(body)
            size += len(body)
        due = time.monotonic() - since > INSERT_SECONDS_MAX or size > INSERT_BYTES_MAX
        if waiting and (due or landed + len(waiting) >= count):
            land(store, waiting)
            landed += len(waiting)
            waiting, size, since = [], 0, time.monotonic()
    client.close()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()

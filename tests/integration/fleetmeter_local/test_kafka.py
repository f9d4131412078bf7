import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fleetmeter_local import kafka, tether
from fleetmeter_local.ports import free_ports

START_SECONDS_MAX = 60.0


@contextmanager
def running(broker: kafka.Broker, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a broker of the test's own until the block ends."""
    command = tether.command(folder / "kafka.pid", kafka.program(broker))
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    deadline = time.monotonic() + START_SECONDS_MAX
    while not kafka.is_ready(broker.bootstrap_servers):
        assert process.poll() is None, (folder / "output.log").read_text()[-2000:]
        assert time.monotonic() < deadline
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def write(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    """Write values and wait until all are acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def read(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    """Read `count` values from the start as a consumer group."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{topic}.reader",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    messages = consumer.consume(count, 20)
    consumer.close()
    return [message.value() or b"" for message in messages]


def create(bootstrap_servers: str, topic: str) -> None:
    """Create a topic of one partition."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(20)


def test_a_record_comes_back(broker: str) -> None:
    """What is acknowledged can be read, through a consumer group too."""
    create(broker, "test_kafka.one")
    write(broker, "test_kafka.one", [b"value"])
    assert read(broker, "test_kafka.one", 1) == [b"value"]


def test_topics_are_not_made_by_accident(broker: str) -> None:
    """A topic that nobody created stays unknown."""
    admin = AdminClient({"bootstrap.servers": broker})
    admin.list_topics("test_kafka.typo", timeout=5)
    assert "test_kafka.typo" not in admin.list_topics(timeout=5).topics


def test_a_killed_broker_comes_back_with_its_records(tmp_path: Path) -> None:
    """After kill -9 the broker starts on the same data, as the same cluster, on other ports."""
    ports = [free_ports(2), free_ports(2)]
    first, second = (
        kafka.Broker(data_dir=tmp_path / "data", port=port, controller_port=controller_port)
        for port, controller_port in ports
    )
    values = [b"%d" % n for n in range(1000)]
    with running(first, tmp_path) as process:
        identity = (first.logs / "meta.properties").read_text()
        create(first.bootstrap_servers, "kept")
        write(first.bootstrap_servers, "kept", values)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with running(second, tmp_path):
        assert values == read(second.bootstrap_servers, "kept", 1000)
    assert identity == (first.logs / "meta.properties").read_text()


def test_a_stop_is_quick(tmp_path: Path) -> None:
    """The broker ends within seconds when it is told to."""
    port, controller_port = free_ports(2)
    broker = kafka.Broker(data_dir=tmp_path / "data", port=port, controller_port=controller_port)
    with running(broker, tmp_path) as process:
        before = time.monotonic()
        process.terminate()
        process.wait(10)
    assert time.monotonic() - before < 5

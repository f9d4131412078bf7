"""The way to Kafka, against the mock broker: delivery, bounds, outages, bad settings."""

import gc
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import fleetmeter
from fleetmeter import ActionEvent, Client, Config, FlushResult
from fleetmeter.kafka_transport import KafkaTransport
from fleetmeter.transport import Accounts
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.identity import partition_of
from fleetmeter_schemas.records import Event

Written = Callable[[], list[Event]]


@pytest.fixture(name="config")
def quiet_config(environ: dict[str, str]) -> Config:
    """Settings for a client inside the test's process."""
    return Config.from_environment(environ, crash_handlers=False, env_data_opt_out=True)


@pytest.fixture(name="connect")
def closing_connect() -> Iterator[Callable[[Config], Client]]:
    """Make clients that are closed when the test is over."""
    clients: list[Client] = []

    def connect(config: Config) -> Client:
        clients.append(Client(config))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(name="nobody")
def silent_address() -> Iterator[str]:
    """An address that is taken, and where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


Connect = Callable[[Config], Client]


def test_offsets_are_those_of_the_sessions_partition(config: Config, connect: Connect) -> None:
    """After an end the session's highest acknowledged offset is known."""
    client = connect(config)
    session = client.start_session()
    for _ in range(9):
        session.record(ActionEvent())
    session.end_session("Success")
    assert session.stream().delivery.offset == 10
    assert client.flush() == FlushResult(delivered=11, pending=0, filtered=0, dropped_by_reason={})


def test_sessions_lie_where_java_puts_them(
    config: Config, connect: Connect, bootstrap: str
) -> None:
    """The partition of a session is the one that `partition_of` says."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition  # noqa: PLC0415

    client = connect(config)
    for _ in range(20):
        client.start_session()
    client.flush()
    topic = f"{config.namespace}.events.v1"
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic})
    count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(count)])
    found = [consumer.poll(10) for _ in range(20)]
    consumer.close()
    assert count > 1
    assert all(
        message is not None and message.partition() == partition_of(message.key() or b"", count)
        for message in found
    )


def test_memory_is_bounded(config: Config, connect: Connect, nobody: str) -> None:
    """Without a broker records are kept up to the bound; ends still find room; all is told."""
    bounded = replace(config, bootstrap_servers=nobody, queue_events_max=50, flush_timeout_ms=100)
    client = connect(bounded)
    session = client.start_session()
    start = time.monotonic()
    for _ in range(100):
        session.record(ActionEvent())
    assert session.end_session("Success") is None
    assert time.monotonic() - start < 2
    assert client.flush() == FlushResult(
        delivered=0, pending=51, filtered=0, dropped_by_reason={"queue_full": 51}
    )
    assert client.close().dropped_by_reason == {"queue_full": 51, "not_delivered": 51}


def test_bytes_are_bounded(config: Config, connect: Connect, nobody: str) -> None:
    """The bound on memory holds for few large records as well."""
    bounded = replace(config, bootstrap_servers=nobody, queue_bytes_max=100_000, flush_timeout_ms=0)
    client = connect(bounded)
    session = client.start_session()
    for _ in range(10):
        session.record(ActionEvent(params="p" * 30_000))
    assert client.flush().dropped_by_reason == {"queue_full": 7}


BROKER = """
import time
from confluent_kafka import Producer
owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
(broker,) = owner.list_topics(timeout=10).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
time.sleep(60)
"""


def test_an_outage_is_waited_out(
    config: Config,
    connect: Connect,
    start_program: Callable[[str], subprocess.Popen[str]],
    read_log: Callable[[str], list[Event]],
) -> None:
    """While the broker is frozen a flush says what is pending; then all arrives, once."""
    process = start_program(BROKER)
    assert process.stdout is not None
    frozen = replace(config, bootstrap_servers=process.stdout.readline().strip())
    client = connect(frozen)
    session = client.start_session()
    assert client.flush().complete
    process.send_signal(signal.SIGSTOP)
    for _ in range(500):
        session.record(ActionEvent())
    assert client.flush(300).pending == 500
    process.send_signal(signal.SIGCONT)
    assert client.flush(10_000).complete
    records = read_log(frozen.bootstrap_servers)
    assert [record["sequence"] for record in records] == list(range(1, 502))


def test_old_records_can_be_given_up(config: Config, connect: Connect, nobody: str) -> None:
    """With a delivery timeout, what is older is dropped and counted."""
    client = connect(replace(config, bootstrap_servers=nobody, delivery_timeout_ms=200))
    client.start_session()
    assert client.flush(5_000).dropped_by_reason == {"not_delivered": 1}


def test_settings_that_kafka_refuses(config: Config, connect: Connect) -> None:
    """A bad librdkafka setting is a ConfigError at the start, not a silent loss."""
    client = connect(replace(config, kafka_options={"no.such.setting": 1}))
    with pytest.raises(ConfigError, match=r"no\.such\.setting"):
        client.start_session()


def test_a_client_can_go_on_after_close(config: Config, connect: Connect, written: Written) -> None:
    """What is recorded after a close starts the producer again."""
    client = connect(config)
    session = client.start_session()
    client.close()
    session.record(ActionEvent())
    assert client.close().delivered == 2
    assert [record["sequence"] for record in written()] == [1, 2]


def test_a_broken_producer_is_replaced(config: Config, connect: Connect, written: Written) -> None:
    """After a fatal error of librdkafka a new producer takes over."""
    client = connect(config)
    session = client.start_session()
    client.flush()
    transport: Any = client._transport
    assert isinstance(transport, KafkaTransport)
    broken = transport._producer
    fatal: Any = FatalError()
    transport._erred(fatal)
    deadline = time.monotonic() + 5
    while transport._producer is broken and time.monotonic() < deadline:
        time.sleep(0.02)
    session.record(ActionEvent())
    assert client.flush().complete
    assert [record["sequence"] for record in written()] == [1, 2]


class FatalError:
    """What librdkafka reports when a producer is done for."""

    def fatal(self) -> bool:
        """It is."""
        return True

    def name(self) -> str:
        """The error's name."""
        return "OUT_OF_ORDER_SEQUENCE_NUMBER"

    def str(self) -> str:
        """The error's words."""
        return "out of order"


def test_large_payloads_arrive_cut(config: Config, connect: Connect, written: Written) -> None:
    """A payload of many megabytes is cut to the limit, and nothing is dropped."""
    client = connect(config)
    session = client.start_session()
    session.record(ActionEvent(params="é" * 5_000_000, returns="r"))
    assert client.flush().complete
    record = written()[1]
    assert len(record["input"].encode()) == config.payload_bytes_max - 2
    assert '"truncated":true' in record["attributes"]


def test_equal_clients_in_one_process(config: Config) -> None:
    """`start_session(config=…)` with the settings of `init` shares its producer."""
    fleetmeter.init(config=config)
    try:
        shared = fleetmeter.start_session(config=replace(config, tags=("x",)))
        own = fleetmeter.start_session(config=replace(config, linger_ms=5))
        assert fleetmeter.get_session(shared.session_id) is shared
        assert fleetmeter.get_session(own.session_id) is None
        own._client.close()
    finally:
        fleetmeter.close()


class Handle:
    """Stands for a producer of the parent."""


def test_a_fork_never_frees_the_parents_producer(config: Config) -> None:
    """The child starts afresh and keeps the parent's producer alive for good."""
    transport: Any = KafkaTransport(config, Accounts(), lambda: None)
    transport._producer = Handle()
    alive = weakref.ref(transport._producer)
    child = transport.forked(Accounts())
    del transport
    gc.collect()
    assert child._producer is None
    assert alive() is not None

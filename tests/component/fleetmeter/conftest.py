"""One mock broker of librdkafka for these tests; each keeps to a namespace of its own."""

import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from fleetmeter.encoding import decode
from fleetmeter_schemas.records import Event

API_KEY = "3f2f3c1e-0000-4000-8000-000000000001"
RUN_S_MAX = 30
_numbers = itertools.count(1)


@pytest.fixture(scope="session", name="bootstrap")
def mock_broker() -> Iterator[str]:
    """Run a mock broker in this process; give its address."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = owner.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    owner.flush(0)


@pytest.fixture(name="namespace")
def fresh_namespace() -> str:
    """A namespace that no other test has."""
    return f"test_{next(_numbers)}"


@pytest.fixture(name="environ")
def sdk_variables(bootstrap: str, namespace: str) -> dict[str, str]:
    """What a program needs in its environment to write there."""
    return {
        "FLEETMETER_API_KEY": API_KEY,
        "FLEETMETER_BOOTSTRAP_SERVERS": bootstrap,
        "FLEETMETER_NAMESPACE": namespace,
    }


@pytest.fixture(name="read_log")
def any_log_reader(namespace: str) -> Callable[[str], list[Event]]:
    """Read the whole log of events at a broker: each session's records in order."""
    return lambda address: list(read(address, f"{namespace}.events.v1"))


@pytest.fixture(name="written")
def log_reader(bootstrap: str, read_log: Callable[[str], list[Event]]) -> Callable[[], list[Event]]:
    """Read the whole log of events at the mock broker."""
    return lambda: read_log(bootstrap)


def read(bootstrap: str, topic: str) -> Iterator[Event]:
    """All records of a topic; their keys are their sessions."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    ended: set[int | None] = set()
    while len(ended) < len(partitions):
        message = consumer.poll(10)
        assert message is not None
        if message.error() is None:
            record = decode(bytes(message.value() or b""))
            assert message.key() == record["session_id"].encode()
            yield record
        else:
            ended.add(message.partition())
    consumer.close()


@pytest.fixture(name="start_program")
def program_starter(
    tmp_path: Path, environ: dict[str, str]
) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a Python program with those variables; whatever is left of it dies with the test."""
    started: list[subprocess.Popen[str]] = []
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def start(source: str, **variables: str) -> subprocess.Popen[str]:
        path = tmp_path / f"program_{len(started)}.py"
        path.write_text(textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(path)],
            env={**inherited, **environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(name="run_program")
def program_runner(start_program: Any) -> Callable[..., tuple[int, str, str]]:
    """Run a program to its end: exit status, stdout, stderr."""

    def run(source: str, **variables: str) -> tuple[int, str, str]:
        process = start_program(source, **variables)
        out, err = process.communicate(timeout=RUN_S_MAX)
        return process.returncode, out, err

    return run

"""A running stack in the hands of a test: its commands, its tables, its processes' pids."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
from confluent_kafka import Consumer, TopicPartition

from fleetmeter_local import readiness, supervisor
from fleetmeter_local import stack as stacks
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.topics import PARTITIONS_DEFAULT, Topic

COMMAND_SECONDS_MAX = 240.0
READY_SECONDS_MAX = 60.0
POLL_SECONDS = 0.05
_SAMPLE = r"^{name}(?:\{{[^}}]*{label}[^}}]*\}})? (\S+)$"


def run_command(
    folder: Path, *arguments: str, seconds_max: float = COMMAND_SECONDS_MAX
) -> subprocess.CompletedProcess[str]:
    """Run `fleetmeter` on a data folder, in an environment that tells nothing about any stack."""
    return subprocess.run(
        command_line(folder, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds_max,
        env=plain_environment(),
    )


def command_line(folder: Path, *arguments: str) -> list[str]:
    """How `fleetmeter` is called on a data folder."""
    return [sys.executable, "-m", "fleetmeter_local.cli", *arguments, "--data-dir", str(folder)]


def plain_environment() -> dict[str, str]:
    """The environment without any setting of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLEETMETER_")}


def await_that(
    is_so: Callable[[], bool], seconds_max: float = READY_SECONDS_MAX, told: object = ""
) -> None:
    """Wait until something is so; fail with `told` when it takes too long."""
    deadline = time.monotonic() + seconds_max
    while not is_so():
        assert time.monotonic() < deadline, told
        time.sleep(POLL_SECONDS)


def rows(stack: Stack, sql: str) -> list[dict[str, Any]]:
    """The rows of a statement on the stack's tables."""
    answer = statement(stack, f"{sql} FORMAT JSONEachRow")
    assert answer.is_success, answer.text
    return [orjson.loads(line) for line in answer.content.splitlines()]


def statement(stack: Stack, sql: str) -> httpx.Response:
    """What the store answers to a statement; raises httpx.TransportError while it is away."""
    return httpx.post(
        stack.store_url,
        params={"database": stack.namespace},
        content=sql,
        headers=stacks.store_headers(stack),
        timeout=30,
        trust_env=False,
    )


def end_offsets(stack: Stack, topic: Topic) -> list[int]:
    """The offset behind the last record of each partition of a topic."""
    consumer = Consumer(
        {"bootstrap.servers": stack.bootstrap_servers, "group.id": "tests", "log_level": 0}
    )
    try:
        name = topic.full_name(stack.namespace)
        places = [TopicPartition(name, number) for number in range(PARTITIONS_DEFAULT)]
        return [consumer.get_watermark_offsets(place, timeout=20)[1] for place in places]
    finally:
        consumer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The processes of a stack, by name: kafka, store, meter, sessions, lander, api."""

    stack: Stack

    def pid(self, name: str) -> int:
        """The pid of one that runs."""
        (found,) = (
            each.pid for each in supervisor.status(self.stack.data_dir) if each.name == name
        )
        assert found is not None, f"{name} does not run"
        return found

    def restarts(self) -> dict[str, int]:
        """How often each was started again."""
        return {each.name: each.restarts for each in supervisor.status(self.stack.data_dir)}

    def kill(self, name: str) -> None:
        """`kill -9`; returns when the process is gone."""
        kill(self.pid(name))

    def await_ready(self, *names: str) -> None:
        """Wait until each of these does its work again."""
        for name in names:
            await_that(lambda name=name: self._is_ready(name), told=f"{name} does not come back")  # type: ignore[misc]

    def counted(self, name: str, metric: str, label: str = "") -> float:
        """The sum of a metric, over all samples with that label; 0 while there is no answer."""
        port = getattr(self.stack.ports, name)
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=2, trust_env=False)
        except httpx.TransportError:
            return 0.0
        samples = re.findall(_SAMPLE.format(name=metric, label=label), answer.text, re.MULTILINE)
        return sum(map(float, samples))

    def _is_ready(self, name: str) -> bool:
        return readiness.why_not_ready(self.stack, name) is None


def kill(pid: int) -> None:
    """`kill -9` a process of ours; returns when it is gone."""
    process = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    # Whoever started it reaps it.
    await_that(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 10)

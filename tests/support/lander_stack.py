"""A namespace of its own on the real broker and store, and processors running in it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported silently
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from fleetmeter_local.ports import free_ports
from lander_records import BARRIER

WAIT_SECONDS_MAX = 40.0


@dataclass(kw_only=True)
class Process:
    """A processor that runs."""

    popen: subprocess.Popen[bytes]
    ops_url: str
    log: Path

    def status(self, path: str) -> int:
        """Return the HTTP status of /ready or /health; 0 while nobody listens."""
        try:
            return httpx.get(f"{self.ops_url}{path}", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def metric(self, sample: str) -> float:
        """Return a sample of /metrics, such as `name{label="x"}`; 0 where there is none."""
        for line in httpx.get(f"{self.ops_url}/metrics", timeout=5).text.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.split()[-1])
        return 0.0

    def exit_status(self) -> int:
        """Wait for the end, and return the exit status."""
        return self.popen.wait(WAIT_SECONDS_MAX)

    def kill(self) -> None:
        """Kill -9."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """Ask it to stop, and return the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.exit_status()


@dataclass(kw_only=True)
class Stack:
    """One namespace on one broker and one store."""

    bootstrap_servers: str
    store_url: str
    store_user: str
    store_password: str
    folder: Path
    namespace: str = field(default_factory=lambda: f"t{uuid4().hex[:12]}")
    _producer: Producer | None = None

    @cached_property
    def admin(self) -> AdminClient:
        """The admin client; its futures fail once it is gone."""
        return AdminClient({"bootstrap.servers": self.bootstrap_servers})

    def setting(self, topic: str, name: str) -> str:
        """Return a topic's setting."""
        resource = ConfigResource(ResourceType.TOPIC, f"{self.namespace}.{topic}")
        (future,) = self.admin.describe_configs([resource]).values()
        return str(future.result(10)[name].value)

    def set_setting(self, topic: str, name: str, value: str) -> None:
        """Change a topic's setting."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(
            ResourceType.TOPIC, f"{self.namespace}.{topic}", incremental_configs=[entry]
        )
        (future,) = self.admin.incremental_alter_configs([resource]).values()
        future.result(10)

    @property
    def environment(self) -> dict[str, str]:
        """What processors are told by."""
        return dict(
            os.environ,
            FLEETMETER_NAMESPACE=self.namespace,
            FLEETMETER_BOOTSTRAP_SERVERS=self.bootstrap_servers,
            FLEETMETER_STORE_URL=self.store_url,
            FLEETMETER_STORE_USER=self.store_user,
            FLEETMETER_STORE_PASSWORD=self.store_password,
        )

    def run(self, module: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a processor to its end."""
        return subprocess.run(
            [sys.executable, "-m", f"fleetmeter_processors.{module}"],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_SECONDS_MAX,
        )

    @contextmanager
    def started(self, module: str, **environment: str) -> Iterator[Process]:
        """Run a processor until the block ends."""
        (port,) = free_ports(1)
        log = self.folder / f"{module}-{port}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", f"fleetmeter_processors.{module}"],
                env=self.environment | {"FLEETMETER_OPS_PORT": str(port)} | environment,
                stderr=output,
                stdout=output,
            )
        try:
            yield Process(popen=popen, ops_url=f"http://127.0.0.1:{port}", log=log)
        except BaseException:
            sys.stderr.write(log.read_text()[-3000:])
            raise
        finally:
            popen.terminate()
            try:
                popen.wait(10)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()

    def query(self, text: str) -> Any:
        """Return the single value of a query; `{db}` is the database."""
        answer = httpx.post(
            self.store_url,
            content=text.replace("{db}", self.namespace),
            headers={
                "X-ClickHouse-User": self.store_user,
                "X-ClickHouse-Key": self.store_password,
            },
            timeout=20,
        )
        answer.raise_for_status()
        return answer.text.strip()

    def append(
        self, topic: str, partition: int, value: bytes | None, key: bytes | None = None
    ) -> int:
        """Append a record, and return its offset."""
        offsets: list[int] = []
        if self._producer is None:
            self._producer = Producer({"bootstrap.servers": self.bootstrap_servers})
        self._producer.produce(
            f"{self.namespace}.{topic}",
            partition=partition,
            value=value,
            key=key,
            on_delivery=lambda error, message: offsets.append(_offset(error, message)),
        )
        assert self._producer.flush(20) == 0
        return offsets[0]

    def barrier(self, partition: int) -> int:
        """Append a barrier, and return the epoch."""
        return self.append("metered.v1", partition, BARRIER)

    def committed(self, topic: str, partition: int) -> TopicPartition:
        """Return what the lander's group has committed."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap_servers, "group.id": f"{self.namespace}.lander"}
        )
        try:
            wanted = [TopicPartition(f"{self.namespace}.{topic}", partition)]
            return consumer.committed(wanted, timeout=10)[0]
        finally:
            consumer.close()


def wait_for(is_so: Callable[[], bool], seconds_max: float = WAIT_SECONDS_MAX) -> float:
    """Wait until `is_so`, and return how long that took in seconds; fails after the limit."""
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds_max, "waited too long"
        time.sleep(0.05)
    return time.monotonic() - begun


def _offset(error: Any, message: Any) -> int:
    assert error is None, error
    return int(message.offset())

"""One real broker and one real store for the whole test session.

Each test keeps to a namespace of its own.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe

import httpx
import pytest

from fleetmeter_local import kafka, services, tether
from fleetmeter_local.ports import free_ports

START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 20.0


@contextmanager
def running(
    command: list[str], folder: Path, is_ready: Callable[[], bool], env: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until the block ends; it dies with this process whatever happens."""
    log = folder / "output.log"
    wrapped = tether.command(folder / "program.pid", command)
    with log.open("wb") as output:
        process = subprocess.Popen(wrapped, stdout=output, stderr=output, env=env)
    try:
        wait_until(is_ready, process, log)
        yield process
    finally:
        stop(process)


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for `is_ready`; fail with the end of the log when the process ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{process.args!r} did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process, by force when it does not listen."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS_MAX)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real Kafka and give its bootstrap servers, `127.0.0.1:port`."""
    folder = tmp_path_factory.mktemp("kafka")
    port, controller_port = free_ports(2)
    one = kafka.Broker(data_dir=folder / "data", port=port, controller_port=controller_port)
    command = kafka.program(one)
    with running(command, folder, lambda: kafka.is_ready(one.bootstrap_servers), dict(os.environ)):
        yield one.bootstrap_servers


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """Where the store listens and what it wants to hear."""

    url: str
    user: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreProcess:
    """A store that a test may kill."""

    address: StoreAddress
    process: subprocess.Popen[bytes]


@contextmanager
def running_store(folder: Path) -> Iterator[StoreProcess]:
    """Run a store on `folder` until the block ends."""
    (port,) = free_ports(1)
    address = StoreAddress(
        url=f"http://127.0.0.1:{port}", user="fleetmeter", password=token_urlsafe()
    )
    env = dict(
        os.environ,
        FLEETMETER_STORE_USER=address.user,
        FLEETMETER_STORE_PASSWORD=address.password,
    )
    command = services.store_command(folder / "data", port)
    with running(command, folder, lambda: answers(address.url), env) as process:
        yield StoreProcess(address=address, process=process)


def answers(url: str) -> bool:
    """Return whether the store at `url` is there."""
    try:
        return httpx.get(f"{url}/ping", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreAddress]:
    """Run a real store; each test makes databases of its own in it."""
    with running_store(tmp_path_factory.mktemp("store")) as started:
        yield started.address


@pytest.fixture
def run_store() -> Callable[[Path], AbstractContextManager[StoreProcess]]:
    """Give what runs a store of the test's own on a folder; it may be killed and run again."""
    return running_store

"""A crash inside the engine ends the store, so that somebody can start it again."""

import ctypes
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from fleetmeter_local.store import FATAL_SIGNALS

END_SECONDS_MAX = 10.0
RunStore = Callable[[Path], AbstractContextManager[Any]]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are signalled one by one on Linux")
def test_a_crash_in_a_thread_ends_the_process(run_store: RunStore, tmp_path: Path) -> None:
    """A thread that aborts takes the process with it, though the engine catches the signal."""
    with run_store(tmp_path) as started:
        assert "1\n" == _ask(started.address, "SELECT 1").text
        started_pid = started.process.pid
        thread = max(each.id for each in psutil.Process(started_pid).threads())
        assert thread != started_pid
        assert 0 == ctypes.CDLL(None).tgkill(started_pid, thread, signal.SIGABRT)
        assert -signal.SIGABRT == started.process.wait(END_SECONDS_MAX)
    with run_store(tmp_path) as again:
        assert "2\n" == _ask(again.address, "SELECT 2").text


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells which signals a process catches")
def test_no_fatal_signal_is_caught(run_store: RunStore, tmp_path: Path) -> None:
    """After many connections the fatal signals still have their default effect."""
    with run_store(tmp_path) as started:
        for _ in range(20):
            assert _ask(started.address, "SELECT count() FROM numbers(1000)").is_success
        status = Path(f"/proc/{started.process.pid}/status").read_text()
        (caught,) = (line.split()[1] for line in status.splitlines() if "SigCgt" in line)
        assert 0 == int(caught, 16) & sum(1 << (number - 1) for number in FATAL_SIGNALS)


def _ask(address: Any, sql: str) -> httpx.Response:
    credentials = {"X-ClickHouse-User": address.user, "X-ClickHouse-Key": address.password}
    return httpx.post(address.url, content=sql, headers=credentials, timeout=30, trust_env=False)

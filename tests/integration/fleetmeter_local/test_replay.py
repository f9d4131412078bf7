import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleetmeter_local import recompute, recorded
from fleetmeter_local.comparison import money

Command = Callable[..., subprocess.CompletedProcess[str]]
SESSIONS = 20
EVENTS_MAX = 120
IDLE_TIMEOUT = "8s"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some recorded sessions, the one with a verdict among them."""
    lines = gzip.decompress(recorded.demo_file().read_bytes()).splitlines()
    short = [line for line in lines if len(json.loads(line)["events"]) <= EVENTS_MAX]
    ended = [line for line in short if json.loads(line)["end_state"]]
    path = tmp_path_factory.mktemp("recorded") / "some.jsonl"
    path.write_bytes(b"\n".join([*ended, *short[: SESSIONS - len(ended)]]))
    return path


@pytest.fixture
def api_key(command: Command, request: pytest.FixtureRequest) -> str:
    """A key of a project whose sessions time out soon."""
    name: str = request.node.name
    made = command("keys", "create", "--project", name, "--idle-timeout", IDLE_TIMEOUT, "--json")
    key: str = json.loads(made.stdout)["api_key"]
    return key


def expected(file: Path) -> dict[str, Any]:
    """What `replay --json` must print, from the file alone."""
    total = recompute.empty()
    sessions = list(recorded.read(file))
    for session in sessions:
        total.add(recompute.expected(session))
    return {
        "sessions": len(sessions),
        "events": sum(total.events.values()),
        "cost_usd": money(total.cost_usd),
        "unpriced_events": total.unpriced_events,
        "tokens": total.tokens,
        "end_states": {"Indeterminate": len(sessions) - 1, "Success": 1},
        "mismatches": [],
    }


def test_a_replay_is_exact(command: Command, file: Path, api_key: str) -> None:
    """Totals equal the file's, abandoned sessions time out, verify agrees."""
    done = command("replay", str(file), "--api-key", api_key, "--writers", "3", "--json")
    assert 0 == done.returncode, done.stderr
    wanted = expected(file)
    assert wanted == json.loads(done.stdout)
    assert Decimal(0) < Decimal(wanted["cost_usd"])
    verified = json.loads(command("verify", "--project", "test_a_replay_is_exact", "--json").stdout)
    assert (True, SESSIONS) == (verified["agree"], verified["checked"])


def test_sessions_still_running_are_open(command: Command, file: Path) -> None:
    """Without waiting, in a project that waits long, what was abandoned is open."""
    done = command("replay", str(file), "--wait", "0", "--json")
    assert 0 == done.returncode, done.stderr
    assert {"Success": 1, "open": SESSIONS - 1} == json.loads(done.stdout)["end_states"]


def test_a_killed_writer_changes_nothing(data_dir: Path, file: Path, api_key: str) -> None:
    """Its events come again under the same ids, and count once."""
    arguments = ["--api-key", api_key, "--writers", "2", "--speed", "400000", "--json"]
    replay = subprocess.Popen(
        [
            *(sys.executable, "-m", "fleetmeter_local.cli", "replay", str(file)),
            *("--data-dir", str(data_dir), *arguments),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        os.kill(_a_writer(replay), signal.SIGKILL)
        said, _ = replay.communicate(timeout=120)
    finally:
        replay.kill()
        replay.wait()
    assert 0 == replay.returncode
    assert expected(file) == json.loads(said)


def _a_writer(replay: subprocess.Popen[str]) -> int:
    """The pid of a writer that has been at it for a second."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(replay.pid).children():
            if "fleetmeter_local.replay_writer" in child.cmdline():
                time.sleep(1)
                return child.pid
        time.sleep(0.05)
    pytest.fail("no writer was started")


def test_a_wrong_key_is_one_sentence(command: Command, file: Path) -> None:
    """Nothing is sent with a key that the stack does not know."""
    key = "8a0e3f6c-0000-4000-8000-000000000000"
    done = command("replay", str(file), "--api-key", key, "--json")
    assert (2, "") == (done.returncode, done.stdout)
    assert "does not know the API key" in done.stderr

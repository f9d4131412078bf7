import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from fleetmeter_local import keys, supervisor
from fleetmeter_local import stack as stacks

Command = Callable[..., subprocess.CompletedProcess[str]]
START_SECONDS_MAX = 200.0


def test_everything_is_ready(command: Command) -> None:
    """`up --detach` returned when all six processes were ready, none of them restarted."""
    done = command("status", "--json")
    status = json.loads(done.stdout)
    assert 0 == done.returncode, done.stdout
    names = ["kafka", "store", "meter", "sessions", "lander", "api"]
    assert names == [each["name"] for each in status["processes"]]
    assert [0] * 6 == [each["restarts"] for each in status["processes"]]
    assert {"meter", "sessions", "lander"} == {each["process"] for each in status["lags"]}


def test_a_second_up_says_that_it_runs(command: Command) -> None:
    """It changes nothing, and names the api and the way to stop it."""
    done = command("up")
    assert 2 == done.returncode
    assert "is running already at http://127.0.0.1:" in done.stderr
    assert "fleetmeter down" in done.stderr


def test_the_first_key_is_the_owners_alone(data_dir: Path) -> None:
    """A UUID that control.v1 knows as the project `default`'s."""
    key = stacks.api_key(data_dir)
    assert key == str(UUID(key))
    assert 0o600 == (data_dir / "api_key").stat().st_mode & 0o777
    stack = stacks.existing(data_dir)
    assert "default" == keys.read(stack.control).project_of(key)["name"]


def test_env_is_for_the_shell(command: Command, data_dir: Path) -> None:
    """`eval` of it sets what the SDK needs."""
    exports = command("env").stdout
    script = f'{exports}\nprintf %s "$FLEETMETER_API_KEY"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert stacks.api_key(data_dir) == shell.stdout
    for name in ("BOOTSTRAP_SERVERS", "API_URL", "NAMESPACE"):
        assert f"export FLEETMETER_{name}=" in exports


def test_keys_are_made_listed_and_revoked(command: Command) -> None:
    """JSON on stdout and nothing else; a revoked key is listed as such."""
    made = json.loads(
        command("keys", "create", "--project", "k", "--idle-timeout", "45s", "--json").stdout
    )
    assert {"project_id", "api_key"} == set(made)
    (project,) = [
        p for p in json.loads(command("keys", "list", "--json").stdout) if p["name"] == "k"
    ]
    assert (made["project_id"], 45_000) == (project["project_id"], project["idle_timeout_ms"])
    assert 0 == command("keys", "revoke", made["api_key"]).returncode
    again = command("keys", "revoke", project["keys"][0]["id"])
    assert (2, True) == (again.returncode, "revoked already" in again.stderr)
    assert made["api_key"] not in command("keys", "list").stdout


def test_an_sdk_beside_the_stack_is_seen(command: Command, data_dir: Path) -> None:
    """A bare `init()` under `fleetmeter env` works, and the session is listed and verified."""
    program = (
        "import fleetmeter\n"
        "session = fleetmeter.init()\n"
        "session.record(fleetmeter.ActionEvent('llms'))\n"
        "print(session.session_id, session.end_session('Success'))\n"
    )
    stack = stacks.existing(data_dir)
    environ = {**os.environ, **stacks.sdk_environment(stack, stacks.api_key(data_dir))}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )
    session_id, cost = ran.stdout.split()
    assert "0.00" == cost
    one = json.loads(command("sessions", session_id, "--json").stdout)
    assert (1, "Success") == (one["events"], one["end_state"])
    verified = command("verify", "--session", session_id, "--json")
    assert (0, 1) == (verified.returncode, json.loads(verified.stdout)["checked"]), verified
    deadline = time.monotonic() + 30
    while session_id not in command("sessions", "--json").stdout:
        assert time.monotonic() < deadline, "the session never came to the list"


def test_an_unknown_session_is_one_sentence(command: Command) -> None:
    """Exit status 2, and no word about other projects."""
    done = command("sessions", "8a0e3f6c-0000-4000-8000-000000000000")
    assert (2, "") == (done.returncode, done.stdout)
    assert 1 == done.stderr.count("\n")


@pytest.mark.slow
def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    """`up` in the foreground ends with 0 after Ctrl-C, nothing runs on, ports are kept."""
    folder = tmp_path / "data"
    environ = {n: v for n, v in os.environ.items() if not n.startswith("FLEETMETER_")}
    command = [sys.executable, "-m", "fleetmeter_local.cli", "up", "--data-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    try:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C stops it" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        pids = [each.pid for each in supervisor.status(folder) if each.pid]
        assert 6 == len(pids)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=90)
        assert (0, "Stopped.\n") == (process.returncode, rest)
        assert None is supervisor.pid(folder)
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    finally:
        supervisor.stop(folder)
        process.kill()
        process.communicate()

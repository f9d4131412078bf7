import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
from fleetmeter_processors import process
from fleetmeter_processors.settings import ProcessorSettings
from fleetmeter_schemas.errors import ConfigError
import os, signal

def done(settings, runtime): pass
def wrong(settings, runtime): raise ConfigError("topic x does not\\nexist")
def broken(settings, runtime): raise RuntimeError("oh")
def stopped(settings, runtime):
    os.kill(os.getpid(), signal.SIGTERM)
    runtime.pause(20)

process.main("tester", ProcessorSettings, {run})
"""


def run(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a processor whose `run` is the function of this name."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{run}", name)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("name", ["done", "stopped"])
def test_done_and_asked_to_stop_are_no_failures(name: str) -> None:
    """Both end with 0."""
    ended = run(name)
    assert 0 == ended.returncode, ended.stderr


def test_what_is_configured_wrongly_is_said_in_one_line() -> None:
    """The last line names process and cause, whatever line breaks the cause has."""
    ended = run("wrong")
    assert (2, "fleetmeter tester: topic x does not exist") == (
        ended.returncode,
        ended.stderr.splitlines()[-1],
    )


def test_wrong_variables_are_named_before_anything_is_done() -> None:
    """All of them, in one line, without their values."""
    ended = run("done", FLEETMETER_OPS_PORT="geheim", FLEETMETER_NAMESPACE="a b")
    assert 2 == ended.returncode
    (line,) = ended.stderr.splitlines()
    assert "FLEETMETER_OPS_PORT: " in line
    assert "FLEETMETER_NAMESPACE: " in line
    assert "geheim" not in line


def test_a_crash_is_logged_and_has_a_status_of_its_own() -> None:
    """A supervisor can tell it from wrong settings, and the log has the traceback."""
    ended = run("broken")
    assert 70 == ended.returncode
    crash = json.loads(ended.stderr.splitlines()[-1])
    assert ("process.crashed", "tester") == (crash["event"], crash["process"])
    assert "RuntimeError: oh" in crash["exception"]


def test_a_port_that_is_taken_is_a_wrong_setting() -> None:
    """Nobody would see the health of a process whose port is somebody else's."""
    ended = run("done", FLEETMETER_OPS_HOST="192.0.2.1", FLEETMETER_OPS_PORT="1")
    assert 2 == ended.returncode
    assert "cannot serve /health on 192.0.2.1:1" in ended.stderr

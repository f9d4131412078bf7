"""One whole stack for the tests here, started and stopped by the command as a user does it."""

from collections.abc import Iterator

import pytest

from fleetmeter_local import stack as stacks
from fleetmeter_local import supervisor
from fleetmeter_local.stack import Stack
from running_stack import run_command


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that runs, with all its processes; each test makes projects of its own in it."""
    folder = tmp_path_factory.mktemp("stack") / "data"
    try:
        done = run_command(folder, "up", "--detach")
        assert 0 == done.returncode, done.stderr
        yield stacks.existing(folder)
        stopped = run_command(folder, "down")
        assert (0, "Stopped.\n") == (stopped.returncode, stopped.stdout), stopped.stderr
    finally:
        # Also after a failure, and when `down` itself fails.
        supervisor.stop(folder)

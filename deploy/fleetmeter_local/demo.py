"""The demo: a stack of its own, the recorded sessions through it, the result, and away again."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetmeter_local import (
    keys,
    lifecycle,
    lifecycle_view,
    recorded,
    replay,
    replay_view,
    screen,
    verification,
)
from fleetmeter_local import stack as stacks
from fleetmeter_local.observed import ApiReader
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.errors import ConfigError, Unavailable

PROJECT = "demo"
# Short, so that the abandoned sessions are seen to time out.
IDLE_TIMEOUT_MS = 20_000


def run(data_dir: Path | None, writers: int) -> bool:
    """Show everything; whether all of it was as it should be. What was started is stopped."""
    console = screen.console()
    with lifecycle.ended_by_signals(), _folder(data_dir) as folder, _stack(folder) as stack:
        made = keys.create(stack.control, project=PROJECT, idle_timeout_ms=IDLE_TIMEOUT_MS)
        stacks.keep_project_key(folder, made.project_id, made.api_key)
        options = replay.Options(
            file=recorded.demo_file(), writers=writers, speed=None, wait_ms=None
        )
        console.print(
            f"Streaming {options.file.name} through it from {writers} writer processes."
            " Nearly all of these sessions just stop, so they time out after 20 s of silence."
        )
        with replay_view.bars() as display:
            result = replay.replay(stack, made.api_key, options, display)
        console.print(replay_view.report(result))
        found = verification.verify(_api(stack, made.api_key), None)
        console.print(verification.shown(found))
    return not result.mismatches and found.agree


def _api(stack: Stack, api_key: str) -> ApiReader:
    return ApiReader(url=stack.api_url, api_key=api_key)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The folder that was given, or one that is gone afterwards.

    It stays where something failed: the error names the log to read in it.
    """
    if given is not None:
        yield given.expanduser().resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="fleetmeter-demo-"))
    try:
        yield made
    except (ConfigError, Unavailable):
        raise
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _stack(folder: Path) -> Iterator[Stack]:
    with lifecycle_view.steps() as display:
        started = lifecycle.up(folder, None, os.environ, display)
    try:
        yield started.stack
    finally:
        lifecycle.down(folder)

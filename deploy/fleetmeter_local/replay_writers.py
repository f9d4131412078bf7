"""Runs the writer processes of a replay and restarts those that are killed; sends nothing."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from fleetmeter_local.last_words import last_words
from fleetmeter_schemas.errors import ConfigError, Unavailable

RESTARTS_MAX = 20
STALLED_SECONDS_MAX = 180.0
STOP_SECONDS_MAX = 15.0
EXIT_CONFIG = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the writers together have to send: the command line of each by its number."""

    command: Callable[[int], list[str]]
    writers: int
    environ: Mapping[str, str]
    logs: Path


def replay_command(
    file: Path, run: UUID, *, writers: int, speed: float | None
) -> Callable[[int], list[str]]:
    """The command lines of the writers that replay a file, from now on."""
    since = time.time()

    def command(writer: int) -> list[str]:
        return [
            *(sys.executable, "-m", "fleetmeter_local.replay_writer", str(file)),
            *("--run", str(run), "--writer", str(writer), "--writers", str(writers)),
            *(() if speed is None else ("--speed", str(speed), "--since", str(since))),
        ]

    return command


@dataclass(slots=True, kw_only=True)
class _Writer:
    """One writer and how far it has come; `process` is None when it has done its part."""

    number: int
    process: subprocess.Popen[bytes] | None
    acknowledged: int = 0
    restarts: int = 0
    done: bool = False


@dataclass(slots=True, kw_only=True)
class _Crew:
    """All writers of a job, and the lines that they write."""

    job: Job
    writers: list[_Writer] = field(default_factory=list)
    lines: queue.Queue[tuple[_Writer, bytes | None]] = field(default_factory=queue.Queue)

    def start(self, writer: _Writer) -> None:
        log = self.job.logs / f"replay-{writer.number}.log"
        with log.open("ab") as stderr:
            # A session of their own: Ctrl-C is for us, and we tell them.
            writer.process = subprocess.Popen(
                self.job.command(writer.number),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(self.job.environ),
                start_new_session=True,
            )
        reader = threading.Thread(target=self._read, args=(writer, writer.process), daemon=True)
        reader.start()

    def _read(self, writer: _Writer, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101
        with process.stdout as lines:
            for line in lines:
                self.lines.put((writer, line))
        process.wait()
        self.lines.put((writer, None))

    def stop(self) -> None:
        running = [w.process for w in self.writers if w.process and w.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.1))
            if process.poll() is None:
                process.kill()
                process.wait()


def run(job: Job, advanced: Callable[[int], None]) -> None:
    """Send everything; `advanced` hears how many events are acknowledged in all.

    Raises:
        ConfigError: A writer refuses to work, or events were dropped.
        Unavailable: Nothing goes on any more.
    """
    crew = _Crew(job=job)
    try:
        for number in range(job.writers):
            writer = _Writer(number=number, process=None)
            crew.writers.append(writer)
            crew.start(writer)
        while not all(writer.done for writer in crew.writers):
            _step(crew)
            advanced(sum(writer.acknowledged for writer in crew.writers))
    finally:
        crew.stop()


def _step(crew: _Crew) -> None:
    try:
        writer, line = crew.lines.get(timeout=STALLED_SECONDS_MAX)
    except queue.Empty as error:
        raise Unavailable(
            f"no event was acknowledged for {STALLED_SECONDS_MAX:.0f} s (see {crew.job.logs})"
        ) from error
    if line is not None:
        message = json.loads(line)
        # A writer that begins again sends again what was acknowledged: that counts once.
        writer.acknowledged = max(writer.acknowledged, message["acknowledged"])
        writer.done = message["done"]
    elif not writer.done:
        _bring_back(crew, writer)


def _bring_back(crew: _Crew, writer: _Writer) -> None:
    assert writer.process is not None  # noqa: S101
    if writer.process.returncode == EXIT_CONFIG or writer.restarts >= RESTARTS_MAX:
        log = crew.job.logs / f"replay-{writer.number}.log"
        raise ConfigError(f"a writer gave up: {last_words(log) or log}")
    writer.restarts += 1
    crew.start(writer)


def environment(environ: Mapping[str, str], sdk: Mapping[str, str]) -> dict[str, str]:
    """The environment of a writer: the caller's, with the stack's own settings of the SDK."""
    return {**environ, **sdk, "PYTHONUNBUFFERED": "1"}

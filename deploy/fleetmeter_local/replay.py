"""Replays recorded sessions through the SDK and compares what arrives with the file.

Wires writers, readers and the comparison together; prints nothing.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid4

from fleetmeter_local import comparison, keys, recompute, recorded, replay_plan, replay_writers
from fleetmeter_local.comparison import Expected, Mismatch, Observed
from fleetmeter_local.durations import parse_ms
from fleetmeter_local.observed import ApiReader, ModelCost, StoreReader, Visible
from fleetmeter_local.stack import Stack, own, sdk_environment, store_headers
from fleetmeter_schemas.errors import ConfigError, Unavailable

# How long nothing may move before what is there is compared: a killed process is back before that.
STALLED_SECONDS_MAX = 120.0
POLL_SECONDS = 0.5
# What a timeout takes beyond the silence itself: ticks, the batch, the landing.
TIMEOUT_GRACE_MS = 30_000
# The api answers from the log's tail and may be a moment behind the tables, or the reverse.
AGREEMENT_SECONDS_MAX = 20.0
T = TypeVar("T")


class Display(Protocol):
    """Whoever watches a replay."""

    def phase(self, text: str, total: int) -> None:
        """A new phase began, with so many steps."""

    def reached(self, steps: int) -> None:
        """So many steps of the phase are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to replay and how; `speed` None: as fast as possible; `wait_ms` None: the timeout."""

    file: Path
    writers: int
    speed: float | None
    wait_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was sent, what is there, and where they differ."""

    project: str
    expected: Mapping[str, Expected]
    observed: Observed
    mismatches: list[Mismatch]
    models: list[ModelCost]
    send_seconds: float


def options(*, file: Path, writers: int, speed: str, wait: str | None) -> Options:
    """The options as they are written on a command line; raises ConfigError."""
    return Options(
        file=file,
        writers=writers,
        speed=_speed(speed),
        wait_ms=None if wait is None else _wait_ms(wait),
    )


def _speed(text: str) -> float | None:
    try:
        speed = None if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if speed is not None and not 0 < speed < float("inf"):
        raise ConfigError(f"--speed is `max` or a number above 0, not {text!r}")
    return speed


def _wait_ms(text: str) -> int:
    return 0 if text.strip() in ("0", "0s") else parse_ms(text)


def replay(stack: Stack, api_key: str, options: Options, display: Display) -> Result:
    """Replay a file into the project of the key, and compare.

    Raises:
        ConfigError: The file or the key will not do.
        Unavailable: The stack does not answer, or nothing moves any more.
    """
    project = keys.read(stack.control).project_of(api_key)
    run = uuid4()
    expected = read_expected(options.file, run)
    store = store_reader(stack, project["project_id"])
    api = ApiReader(url=stack.api_url, api_key=api_key)
    try:
        started = time.monotonic()
        _send(
            stack,
            api_key=api_key,
            options=options,
            run=run,
            expected=expected,
            display=display,
        )
        send_seconds = time.monotonic() - started
        wait_ms = project["idle_timeout_ms"] + TIMEOUT_GRACE_MS
        wait_ms = wait_ms if options.wait_ms is None else options.wait_ms
        _await_visible(store, expected, display)
        _await_closed(store, expected, wait_ms, display)
        display.phase("comparing", len(expected))
        observed, found = _compare(store, api, expected)
        display.reached(len(expected))
        models = _patiently(lambda: store.by_model(list(expected)))
    finally:
        store.close()
        api.close()
    return Result(
        project=project["name"],
        expected=expected,
        observed=observed,
        mismatches=found,
        models=models,
        send_seconds=send_seconds,
    )


def read_expected(file: Path, run: UUID) -> dict[str, Expected]:
    """What each session of the file must show, by its fresh id in this run."""
    expected = {
        replay_plan.session_id(run, session): Expected(
            recorded_as=session.session,
            totals=recompute.expected(session),
            end_state=session.end_state,
        )
        for session in recorded.read(file)
        if session.events or session.end_state
    }
    if not expected:
        raise ConfigError(f"{file} holds no sessions")
    return expected


def store_reader(stack: Stack, project_id: str) -> StoreReader:
    """A reader of the stack's store for one project."""
    return StoreReader(
        url=stack.store_url,
        headers=store_headers(stack),
        database=stack.namespace,
        project_id=project_id,
    )


def _send(
    stack: Stack,
    *,
    api_key: str,
    options: Options,
    run: UUID,
    expected: Mapping[str, Expected],
    display: Display,
) -> None:
    display.phase("sending", _events(expected))
    writers = min(options.writers, len(expected))
    job = replay_writers.Job(
        command=replay_writers.replay_command(
            options.file, run, writers=writers, speed=options.speed
        ),
        writers=writers,
        environ=replay_writers.environment(own(os.environ), sdk_environment(stack, api_key)),
        logs=stack.logs,
    )
    replay_writers.run(job, display.reached)


def _events(expected: Mapping[str, Expected]) -> int:
    return sum(sum(each.totals.events.values()) for each in expected.values())


def _await_visible(store: StoreReader, expected: Mapping[str, Expected], display: Display) -> None:
    """Wait until both tables hold everything, or nothing has moved for long."""
    wanted = _events(expected)
    display.phase("landing", wanted)
    last, moved_at = None, time.monotonic()
    while time.monotonic() - moved_at < STALLED_SECONDS_MAX:
        seen = _visible(store, expected)
        if seen is not None and seen != last:
            last, moved_at = seen, time.monotonic()
            display.reached(min(seen.events, seen.counted))
            if min(seen.events, seen.counted) >= wanted and seen.sessions >= len(expected):
                return
        time.sleep(POLL_SECONDS)


def _await_closed(
    store: StoreReader, expected: Mapping[str, Expected], wait_ms: int, display: Display
) -> None:
    """Wait until no session is open any more, so long at most."""
    display.phase("closing", len(expected))
    deadline = time.monotonic() + wait_ms / 1000
    while time.monotonic() < deadline:
        seen = _visible(store, expected)
        if seen is not None:
            display.reached(seen.sessions - seen.open)
            if seen.open == 0:
                return
        time.sleep(POLL_SECONDS)


def _visible(store: StoreReader, expected: Mapping[str, Expected]) -> Visible | None:
    try:
        return store.visible(list(expected))
    except Unavailable:
        return None


def _compare(
    store: StoreReader, api: ApiReader, expected: Mapping[str, Expected]
) -> tuple[Observed, list[Mismatch]]:
    """Compare, and again for a while as long as something differs."""
    deadline = time.monotonic() + AGREEMENT_SECONDS_MAX
    while True:
        observed = _patiently(lambda: observe(store, api, list(expected)))
        found = comparison.mismatches(expected, observed)
        if not found or time.monotonic() > deadline:
            return observed, found
        time.sleep(1.0)


def _patiently(ask: Callable[[], T]) -> T:
    """The answer, asked for until somebody gives it; a restart may be under way."""
    deadline = time.monotonic() + STALLED_SECONDS_MAX
    while True:
        try:
            return ask()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def observe(store: StoreReader, api: ApiReader, session_ids: list[str]) -> Observed:
    """What api and tables say about these sessions now."""
    rows = store.sessions(session_ids)
    return Observed(
        api=api.stats(session_ids),
        events=store.events(session_ids),
        sessions={session_id: totals for session_id, (totals, _) in rows.items()},
        ended={session_id: ended for session_id, (_, ended) in rows.items()},
    )


def as_json(result: Result) -> dict[str, Any]:
    """The result for programs: what the events table adds up to, and what differs."""
    total = comparison.summed(result.observed.events)
    return {
        "sessions": len(result.observed.sessions),
        "events": sum(total.events.values()),
        "cost_usd": comparison.money(total.cost_usd),
        "unpriced_events": total.unpriced_events,
        "tokens": total.tokens,
        "end_states": comparison.end_states(result.expected, result.observed),
        "mismatches": [asdict(each) for each in result.mismatches],
    }

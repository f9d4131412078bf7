"""Adds up one block's events into deltas, session by session, in log order; judges nothing."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Final

from fleetmeter_processors.delta_bytes import encode_delta, encode_writer
from fleetmeter_processors.judge import Accepted
from fleetmeter_processors.numbers import Counts, saturated_sum
from fleetmeter_processors.prefix import Prefix
from fleetmeter_schemas.records import (
    COUNTED_KINDS,
    LIFECYCLE_KINDS,
    Kind,
    Lifecycle,
)

WRITERS_MAX: Final = 64
RUNS_MAX: Final = 64
# A session is grouped by these: a longer text names nobody and would be repeated in every delta.
TEXT_CHARS_MAX: Final = 1_000

SessionKey = tuple[str, str]


@dataclass(slots=True)
class _Writer:
    """What one writer's records of a run say about it; `runs` as in Delta."""

    writer_id: str
    heard_ms: int = 0
    heartbeat: bool = False
    announced: int = 0
    ended: bool = False
    runs: list[int] = field(default_factory=list)

    def takes(self, number: int) -> bool:
        """Whether one more sequence number surely fits."""
        runs = self.runs
        return len(runs) < 2 * RUNS_MAX or number == runs[-1] + 1

    def add(self, number: int) -> None:
        """Add a sequence number to the runs; most follow the last one."""
        runs = self.runs
        self.announced = max(self.announced, number)
        if runs and number == runs[-1] + 1:
            runs[-1] = number
        elif not runs or number > runs[-1]:
            runs += (number, number)
        else:
            self._insert(number)

    def _insert(self, number: int) -> None:
        runs = self.runs
        at = bisect_left(runs, number)
        if at % 2 or runs[at] == number:
            return
        joins_left = at > 0 and runs[at - 1] == number - 1
        joins_right = runs[at] == number + 1
        if joins_left and joins_right:
            del runs[at - 1 : at + 1]
        elif joins_left:
            runs[at - 1] = number
        elif joins_right:
            runs[at] = number
        else:
            runs[at:at] = (number, number)

    def encoded(self) -> bytes:
        """As Delta has it."""
        return encode_writer(
            writer_id=self.writer_id,
            heard_ms=self.heard_ms,
            heartbeat=self.heartbeat,
            announced=self.announced,
            ended=self.ended,
            runs=self.runs,
        )


@dataclass(slots=True)
class _Run:
    """One session's records since the block, or the run before, began."""

    key: SessionKey
    first_offset: int
    heard_ms: int = 0
    log_time_ms: int = 0
    idle_timeout_ms: int = 0
    counts: list[Counts] = field(default_factory=list)
    first_time_us: int | None = None
    last_time_us: int | None = None
    conversation_id: str = ""
    user_id: str = ""
    writers: dict[str, _Writer] = field(default_factory=dict)
    lifecycle: Lifecycle | None = None

    def encoded(self) -> bytes:
        """The run as a Delta."""
        sums, saturated = saturated_sum(self.counts)
        return encode_delta(
            project_id=self.key[0],
            session_id=self.key[1],
            first_offset=self.first_offset,
            first_time_us=self.first_time_us,
            last_time_us=self.last_time_us,
            heard_ms=self.heard_ms,
            log_time_ms=self.log_time_ms,
            idle_timeout_ms=self.idle_timeout_ms,
            counted=len(self.counts),
            saturated=saturated,
            numbers=sums,
            conversation_id=self.conversation_id,
            user_id=self.user_id,
            writers=[writer.encoded() for writer in self.writers.values()],
            lifecycle=self.lifecycle,
        )


class Fold:
    """The deltas of one block.

    A lifecycle event ends the run of its session, so that what came before an end and what came
    after stay apart. A run also ends when it would hold too many writers or runs.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._open: dict[SessionKey, _Run] = {}

    def deltas(self) -> list[bytes]:
        """All runs, by their first record, each encoded as a Delta."""
        return [run.encoded() for run in self._runs]

    def count(
        self, event: Accepted, counts: Counts | None, offset: int, heard_ms: int, log_time_ms: int
    ) -> None:
        """Add an event that is new, or revised by these differences; None: it counts nothing."""
        prefix = event.prefix
        kind = prefix.kind
        run = self._heard(event, offset, heard_ms, log_time_ms)
        if counts is not None:
            run.counts.append(counts)
        if kind in COUNTED_KINDS:
            _widen(run, prefix)
        elif kind in LIFECYCLE_KINDS:
            run.lifecycle = _lifecycle(prefix)
            del self._open[run.key]

    def hear(self, event: Accepted, offset: int, heard_ms: int, log_time_ms: int) -> None:
        """Take a heartbeat, or a duplicate's sequence number, as a sign of life only."""
        self._heard(event, offset, heard_ms, log_time_ms)

    def _heard(self, event: Accepted, offset: int, heard_ms: int, log_time_ms: int) -> _Run:
        prefix, grant = event.prefix, event.grant
        run = self._run((grant.project_id, prefix.session_id), prefix, offset)
        run.heard_ms = heard_ms
        run.log_time_ms = log_time_ms
        run.idle_timeout_ms = grant.idle_timeout_ms
        if prefix.conversation_id:
            run.conversation_id = prefix.conversation_id[:TEXT_CHARS_MAX]
        if prefix.user_id:
            run.user_id = prefix.user_id[:TEXT_CHARS_MAX]
        _note(run.writers[prefix.writer_id], prefix, heard_ms)
        return run

    def _run(self, key: SessionKey, prefix: Prefix, offset: int) -> _Run:
        """The session's open run with this writer in it; a new one where that has no room."""
        run = self._open.get(key)
        writer_id = prefix.writer_id
        if run is not None:
            writer = run.writers.get(writer_id)
            if writer is not None and (_is_unnumbered(prefix) or writer.takes(prefix.sequence)):
                return run
            if writer is None and len(run.writers) < WRITERS_MAX:
                run.writers[writer_id] = _Writer(writer_id)
                return run
        run = _Run(key, offset, writers={writer_id: _Writer(writer_id)})
        self._runs.append(run)
        self._open[key] = run
        return run


def _is_unnumbered(prefix: Prefix) -> bool:
    """Heartbeats carry the last number given so far; they have none themselves."""
    return not prefix.sequence or prefix.kind is Kind.HEARTBEAT


def _note(writer: _Writer, prefix: Prefix, heard_ms: int) -> None:
    writer.heard_ms = heard_ms
    match prefix.kind:
        case Kind.HEARTBEAT:
            writer.heartbeat = True
            writer.announced = max(writer.announced, prefix.sequence)
            return
        case Kind.SESSION_ENDED if prefix.detail is not None:
            writer.ended = True
            writer.announced = max(writer.announced, prefix.detail.record["last_sequence"])
    if prefix.sequence:
        writer.add(prefix.sequence)


def _widen(run: _Run, prefix: Prefix) -> None:
    start, end = prefix.start_time_us, prefix.end_time_us
    last = start if end is None or end < start else end
    if run.first_time_us is None or start < run.first_time_us:
        run.first_time_us = start
    if run.last_time_us is None or last > run.last_time_us:
        run.last_time_us = last


def _lifecycle(prefix: Prefix) -> Lifecycle:
    detail: Any = None
    if prefix.detail is not None:
        detail = (prefix.detail.name, prefix.detail.record)
    return {
        "kind": str(prefix.kind),
        "event_time_us": prefix.start_time_us,
        "writer_id": prefix.writer_id,
        "detail": detail,
    }

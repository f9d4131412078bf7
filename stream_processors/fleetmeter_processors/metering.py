"""Meters one partition: raw records in, one block out. Knows no log, no barrier and no clock.

What it remembers (heard time, log time, recent ids, where the next block begins) can be rebuilt
from the accepted blocks of metered.v1: `restore`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

import fastavro

from fleetmeter_processors.enrichment import encode_enrichment, read_events
from fleetmeter_processors.fold import Fold
from fleetmeter_processors.judge import Accepted, Judge, Keys, Raw, Reason, Rejected
from fleetmeter_processors.numbers import NOTHING, Verdict, counts_of, difference
from fleetmeter_processors.prefix import Prefix
from fleetmeter_processors.pricing import NO_COST, Cost, Pricer, Tokens, provided
from fleetmeter_processors.window import EventKey, Seen, Window, WindowLimits
from fleetmeter_schemas.block import Block, encode_block
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.records import COUNTED_KINDS, CostStatus, Enrichment, Kind, Reject
from fleetmeter_schemas.tiling import UNKNOWN

SILENCE_MS_MAX: Final = 5_000
# What a record may add to its block besides its own bytes: verdict, delta, reject.
OVERHEAD_BYTES: Final = 500
_PRICED: Final = frozenset({CostStatus.PROVIDED, CostStatus.OVERRIDE, CostStatus.PRICED})
_COUNTING: Final = COUNTED_KINDS | {Kind.CORRECTION}
_REJECT: Final = schema("Reject")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLimits:
    """How much one block may hold: raw bytes, bytes it may grow to, and log time."""

    raw_bytes_max: int = 1_000_000
    block_bytes_max: int = 2_500_000
    log_time_ms_max: int = 1_000


def cuts(records: Sequence[Raw], limits: BlockLimits) -> Iterator[Sequence[Raw]]:
    """The records, cut where a block would be too large or too long. At least one in each."""
    start = 0
    raw_bytes = grown_bytes = 0
    for at, record in enumerate(records):
        value_bytes = len(record.value or b"")
        own_bytes = value_bytes + 2 * len(record.key or b"") + OVERHEAD_BYTES
        if at > start and (
            raw_bytes + value_bytes > limits.raw_bytes_max
            or grown_bytes + own_bytes > limits.block_bytes_max
            or record.log_time_ms - records[start].log_time_ms > limits.log_time_ms_max
        ):
            yield records[start:at]
            start, raw_bytes, grown_bytes = at, 0, 0
        raw_bytes += value_bytes
        grown_bytes += own_bytes
    if start < len(records):
        yield records[start:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A block ready to be appended, and what is in it; for position, metrics and logs."""

    data: bytes
    epoch: int
    first: int
    next: int
    heard_ms: int
    log_time_ms: int
    records: int
    events: int
    duplicates: int
    rewritten: int
    rejects: tuple[str, ...]


@dataclass(slots=True)
class _Open:
    """The block being filled."""

    fold: Fold = field(default_factory=Fold)
    events: list[bytes] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    duplicates: int = 0


class Metering:
    """The books of one partition.

    Args:
        partition: The partition.
        judge: Who judges its records.
        keys: Who may write; asked to catch up once for each block that needs it.
        pricer: What LLM calls cost.
        limits: How many recent ids are remembered.
    """

    def __init__(
        self, partition: int, judge: Judge, keys: Keys, pricer: Pricer, limits: WindowLimits
    ) -> None:
        self.next = UNKNOWN
        self.heard_ms = 0
        self.log_time_ms = UNKNOWN
        self._partition = partition
        self._judge = judge
        self._keys = keys
        self._pricer = pricer
        self._window = Window(limits)

    def restore(self, block: Block) -> None:
        """Take over what an accepted block of metered.v1 says."""
        self.next = block.next
        self.heard_ms = block.heard_ms
        self.log_time_ms = block.log_time_ms
        for prefix, verdict in read_events(block.events):
            self._restore_event(prefix, verdict)
        self._window.trim(block.log_time_ms)

    def seal(self, epoch: int, records: Sequence[Raw]) -> Sealed:
        """Meter records of the raw log, none before `next`, into one block of this epoch."""
        assert records, "a block judges at least one record"  # noqa: S101
        assert UNKNOWN < self.next <= records[0].offset, (self.next, records[0])  # noqa: S101
        first = self.next
        rewritten = self._judge.rewritten
        block = _Open()
        for record, verdict in self._judged(records):
            self._hear(record.log_time_ms)
            self._enter(block, record, verdict)
        self.next = records[-1].offset + 1
        self._window.trim(self.log_time_ms)
        data = encode_block(
            epoch=epoch,
            first=first,
            next=self.next,
            heard_ms=self.heard_ms,
            log_time_ms=self.log_time_ms,
            duplicates=block.duplicates,
            deltas=block.fold.deltas(),
            events=block.events,
            rejects=[_encoded(reject) for reject in block.rejects],
        )
        return Sealed(
            data=data,
            epoch=epoch,
            first=first,
            next=self.next,
            heard_ms=self.heard_ms,
            log_time_ms=self.log_time_ms,
            records=len(records),
            events=len(block.events),
            duplicates=block.duplicates,
            rewritten=self._judge.rewritten - rewritten,
            rejects=tuple(reject["reason"] for reject in block.rejects),
        )

    def _judged(self, records: Sequence[Raw]) -> Iterator[tuple[Raw, Accepted | Rejected | None]]:
        """The verdicts. Before the first unknown key counts, control.v1 is read to its end."""
        caught_up = False
        for record in records:
            verdict = self._judge.judge(record)
            if isinstance(verdict, Rejected) and verdict.reason == Reason.UNKNOWN_KEY:
                if not caught_up:
                    self._keys.catch_up()
                    caught_up = True
                verdict = self._judge.judge(record)
            yield record, verdict

    def _hear(self, log_time_ms: int) -> None:
        """Heard time goes on with log time, but never by more than a short silence."""
        if self.log_time_ms == UNKNOWN:
            self.log_time_ms = log_time_ms
        elif log_time_ms > self.log_time_ms:
            self.heard_ms += min(log_time_ms - self.log_time_ms, SILENCE_MS_MAX)
            self.log_time_ms = log_time_ms

    def _enter(self, block: _Open, record: Raw, verdict: Accepted | Rejected | None) -> None:
        match verdict:
            case None:
                pass
            case Rejected():
                block.rejects.append(_reject(record, verdict, self._partition))
            case Accepted() if verdict.prefix.kind is Kind.HEARTBEAT:
                block.fold.hear(verdict, record.offset, self.heard_ms, record.log_time_ms)
            case Accepted():
                self._enter_event(block, record, verdict)

    def _enter_event(self, block: _Open, record: Raw, event: Accepted) -> None:
        prefix = event.prefix
        key = self._window.key(event.grant.project_id, prefix.session_id, prefix.event_id)
        before = self._window.find(key)
        if before is not None and prefix.revision <= before.revision:
            block.duplicates += 1
            if prefix.sequence:
                # Written once more under a number of its own: without it a gap would show.
                block.fold.hear(event, record.offset, self.heard_ms, record.log_time_ms)
            return
        cost = self._cost(key, prefix)
        counts = counts_of(prefix, _counted(event, cost))
        start_us = prefix.start_time_us if before is None else before.first_start_time_us
        added = counts if before is None else difference(counts, before.counts)
        # A revision may be of another kind than what it replaces.
        counting = prefix.kind in _COUNTING or added != NOTHING
        block.fold.count(
            event, added if counting else None, record.offset, self.heard_ms, record.log_time_ms
        )
        block.events.append(event.body + self._verdict(event, start_us, cost, record))
        seen = Seen(prefix.revision, start_us, counts, record.log_time_ms)
        self._remember(key, prefix, seen, cost.status)

    def _cost(self, key: EventKey, prefix: Prefix) -> Cost:
        if prefix.kind is not Kind.LLM:
            return _own_cost(prefix)
        cost = self._pricer.price(
            provider=prefix.provider,
            model=prefix.model,
            service_tier=prefix.service_tier,
            tokens=Tokens(
                input=prefix.input_tokens,
                output=prefix.output_tokens,
                cache_read=prefix.cache_read_tokens,
                cache_write_5m=prefix.cache_write_5m_tokens,
                cache_write_1h=prefix.cache_write_1h_tokens,
                reasoning=prefix.reasoning_tokens,
            ),
            reported_pico_usd=prefix.reported_cost_pico_usd,
            event_time_us=prefix.start_time_us,
        )
        return _aggregate(cost) if self._window.is_parent(key) else cost

    def _verdict(self, event: Accepted, start_us: int, cost: Cost, record: Raw) -> bytes:
        return encode_enrichment(
            project_id=event.grant.project_id,
            first_start_time_us=start_us,
            cost=cost,
            clock_skewed=event.clock_skewed,
            heard_ms=self.heard_ms,
            partition=self._partition,
            offset=record.offset,
            log_time_ms=record.log_time_ms,
        )

    def _restore_event(self, prefix: Prefix, verdict: Enrichment) -> None:
        counted = Verdict(
            clock_skewed=verdict["clock_skewed"],
            cost_status=verdict["cost_status"],
            cost_pico_usd=verdict["cost_pico_usd"],
            cost_input_pico_usd=verdict["cost_input_pico_usd"],
            cost_output_pico_usd=verdict["cost_output_pico_usd"],
        )
        seen = Seen(
            revision=prefix.revision,
            first_start_time_us=verdict["first_start_time_us"],
            counts=counts_of(prefix, counted),
            log_time_ms=verdict["log_time_ms"],
        )
        key = self._window.key(verdict["project_id"], prefix.session_id, prefix.event_id)
        self._remember(key, prefix, seen, verdict["cost_status"])

    def _remember(self, key: EventKey, prefix: Prefix, seen: Seen, cost_status: str) -> None:
        self._window.put(key, seen)
        if prefix.parent_id and prefix.kind is Kind.LLM and cost_status in _PRICED:
            self._window.put_parent((key[0], key[1], prefix.parent_id), seen.log_time_ms)


def _counted(event: Accepted, cost: Cost) -> Verdict:
    return Verdict(
        event.clock_skewed,
        cost.status,
        cost.total_pico_usd,
        cost.input_pico_usd,
        cost.output_pico_usd,
    )


def _own_cost(prefix: Prefix) -> Cost:
    """Of the other kinds only a tool may cost something, and only if its writer says so."""
    said = prefix.reported_cost_pico_usd
    return NO_COST if said is None or prefix.kind is not Kind.TOOL else provided(said)


def _aggregate(cost: Cost) -> Cost:
    """An LLM span around priced LLM spans: what it says is the sum of theirs."""
    return Cost(
        input_pico_usd=None,
        output_pico_usd=None,
        total_pico_usd=None,
        computed_pico_usd=cost.computed_pico_usd,
        status=CostStatus.AGGREGATE,
        price_id=cost.price_id,
        price_match=cost.price_match,
    )


def _reject(record: Raw, verdict: Rejected, partition: int) -> Reject:
    return {
        "partition": partition,
        "offset": record.offset,
        "log_time_ms": record.log_time_ms,
        "reason": str(verdict.reason),
        "detail": verdict.detail,
        "project_id": verdict.project_id,
        "key": record.key or b"",
        "value": record.value or b"",
    }


def _encoded(reject: Reject) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, _REJECT, reject)
    return out.getvalue()

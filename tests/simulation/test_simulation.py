"""The whole system's rules under every order of events that a seed can think of.

A failing seed is named; `Fleet(seed)` repeats it. Each invariant is shown to be able to fail, by a
mutation of the code that it must notice.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fleetmeter_processors import machine, metering, partition
from fleetmeter_processors.agenda import Agenda
from fleetmeter_processors.fold import Fold
from fleetmeter_processors.machine import TRANSITIONS, Input, Step
from fleetmeter_processors.meter_partition import MeterPartition
from fleetmeter_processors.metering import Metering, Sealed
from fleetmeter_processors.window import Window
from fleetmeter_schemas.block import CODEC as BLOCK
from fleetmeter_schemas.block import open_block
from fleetmeter_schemas.records import SessionState
from fleetmeter_schemas.tiling import Position, Verdict
from simulated_fleet import Broker, Fleet, SessionsProcess
from simulation_oracle import CHECKS

SEEDS = 400
BATCH = 50
MUTANT_SEEDS = 150
STEPS = 150


def complaints(seed: int) -> dict[str, list[str]]:
    """What the checks have to say after a run of this seed."""
    fleet = Fleet(seed)
    fleet.run(STEPS)
    fleet.close_all()
    fleet.settle()
    return {name: found for name, check in CHECKS.items() if (found := check(fleet))}


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_every_invariant_holds_for_every_seed(first: int) -> None:
    """Nothing is lost, doubled, stuck or different after a crash, whatever the order."""
    failed = {seed: found for seed in range(first, first + BATCH) if (found := complaints(seed))}

    assert failed == {}


def test_the_schedules_reach_what_they_are_for() -> None:
    """Fences, re-openings, late events, timeouts, parts and rejects do occur."""
    seen: set[str] = set()
    for seed in range(60):
        fleet = Fleet(seed)
        fleet.run(STEPS)
        fleet.close_all()
        fleet.settle()
        seen |= _features(fleet)

    assert seen == {"fenced", "late", "timed_out", "ended", "parts", "reopened", "skipped", "limit"}


def _features(fleet: Fleet) -> set[str]:
    features = set()
    if any(meter.partition.phase == "fenced" for meter in fleet.meters):
        features.add("fenced")
    state = partition.PartitionState(0, SessionsProcess(fleet.broker).state.limits)
    parts: set[tuple[str, int]] = set()
    for offset, data in enumerate(fleet.broker.metered):
        if state.apply(offset, data) is Verdict.SKIPPED:
            features.add("skipped")
        while not state.expire(100):
            pass
        for snapshot in state.sessions.values():
            parts.add((snapshot["session_id"], snapshot["part"]))
            features.add(snapshot["state"])
            if snapshot["late_events"]:
                features.add("late")
            if snapshot["state"] == "open" and snapshot["revision"] > 1:
                features.add("reopened")
    if len(parts) > len({session_id for session_id, _ in parts}):
        features.add("parts")
    if any(closed.reason == machine.SESSION_LIMIT for closed in state.closed):
        features.add("limit")
    return features - {"open"}


# -- mutations: what each invariant must notice ---------------------------------------------------


def blind_to_rivals(patch: pytest.MonkeyPatch) -> None:
    """A meter that does not look what landed between its blocks."""

    def landed(self: MeterPartition, offset: int, block: Sealed) -> Sealed:
        self._position = Position(
            metered_offset=offset, epoch=self._position.epoch, next=block.next
        )
        return block

    patch.setattr(MeterPartition, "_landed", landed)


def starts_from_the_hint(patch: pytest.MonkeyPatch) -> None:
    """A meter that goes on where it once was told, not where metered.v1 ends."""

    def read_known_start(self: MeterPartition, offset: int) -> None:
        self._position = replace(self._start.position, metered_offset=offset - 1)

    patch.setattr(MeterPartition, "_read_known_start", read_known_start)


def trusts_every_block(patch: pytest.MonkeyPatch) -> None:
    """A reader that counts whatever block it meets."""

    def take(position: Position, offset: int, data: bytes) -> tuple[Position, Verdict, Any]:
        if not BLOCK.knows(data):
            return replace(position, metered_offset=offset, epoch=offset), Verdict.BARRIER, None
        block = open_block(data)
        moved = replace(position, metered_offset=offset, next=block.next)
        return moved, Verdict.ACCEPTED, block

    patch.setattr(partition, "take", take)


def forgets_ids(patch: pytest.MonkeyPatch) -> None:
    """A meter that remembers no event id."""
    patch.setattr(Window, "find", lambda _self, _key: None)


def forgets_ids_when_it_starts(patch: pytest.MonkeyPatch) -> None:
    """A meter that takes no ids over from its predecessor."""
    patch.setattr(Metering, "_restore_event", lambda _self, _prefix, _verdict: None)


def hears_outages(patch: pytest.MonkeyPatch) -> None:
    """Heard time that goes on while nobody could be heard."""
    patch.setattr(metering, "SILENCE_MS_MAX", 10**12)


def writes_the_checkpoint_alone(patch: pytest.MonkeyPatch) -> None:
    """A worker whose checkpoint is committed before its snapshots."""

    def commit(self: SessionsProcess) -> None:
        records = self.state.drain()
        self.alive = self.broker.commit(self.epoch, records[-1:])
        if len(records) % 3:
            self.broker.commit(self.epoch, records[:-1])

    patch.setattr(SessionsProcess, "commit", commit)


def does_not_fence(patch: pytest.MonkeyPatch) -> None:
    """A broker that takes what a zombie writes."""

    def commit(self: Broker, _epoch: int, records: Any) -> bool:
        self.sessions.extend(records)
        return True

    patch.setattr(Broker, "commit", commit)


def skips_expiry_after_restore(patch: pytest.MonkeyPatch) -> None:
    """A worker that begins with the next block, though sessions are overdue."""

    def restored(self: partition.PartitionState) -> None:
        self._settled = True

    patch.setattr(partition.PartitionState, "restored", restored)


def never_due(patch: pytest.MonkeyPatch) -> None:
    """An agenda on which nothing is ever due."""
    patch.setattr(Agenda, "next_due", lambda _self, _heard_ms: None)


def closes_without_a_revision(patch: pytest.MonkeyPatch) -> None:
    """A timeout that leaves the revision as it was."""
    honest = machine.close

    def close(session: Any, *rest: Any) -> Any:
        return honest(session, *rest) | {"revision": session["revision"]}

    patch.setattr(machine, "close", close)


def last_end_wins(patch: pytest.MonkeyPatch) -> None:
    """An end without a verdict that replaces a verdict."""
    patch.setitem(TRANSITIONS[SessionState.ENDED], Input.END, Step.END)


def loses_tools(patch: pytest.MonkeyPatch) -> None:
    """A fold that counts no tools."""
    honest = Fold.count

    def count(self: Fold, event: Any, counts: Any, *rest: Any) -> None:
        honest(self, event, None if event.prefix.kind == "tool" else counts, *rest)

    patch.setattr(Fold, "count", count)


MUTATIONS: tuple[tuple[Callable[[pytest.MonkeyPatch], None], str], ...] = (
    (blind_to_rivals, "liveness"),
    (starts_from_the_hint, "tiling"),
    (trusts_every_block, "totals"),
    (forgets_ids, "totals"),
    (forgets_ids_when_it_starts, "totals"),
    (loses_tools, "totals"),
    (hears_outages, "heard_time"),
    (writes_the_checkpoint_alone, "determinism"),
    (does_not_fence, "determinism"),
    (skips_expiry_after_restore, "closing"),
    (never_due, "closing"),
    (closes_without_a_revision, "revisions"),
    (last_end_wins, "verdicts"),
)


@pytest.mark.parametrize(("mutate", "check"), MUTATIONS, ids=[m.__name__ for m, _ in MUTATIONS])
def test_each_invariant_notices_its_mutation(
    mutate: Callable[[pytest.MonkeyPatch], None], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check complains about some seed when the code is wrong in this way."""
    mutate(monkeypatch)

    assert any(check in complaints(seed) for seed in range(MUTANT_SEEDS))


def test_every_invariant_has_a_mutation() -> None:
    """No check is there that was never seen to fail."""
    assert {check for _, check in MUTATIONS} == set(CHECKS)

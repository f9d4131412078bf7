"""What must be true of a simulated fleet, computed from its raw log by other means.

Each check returns the complaints it has; none means it holds.
"""

from collections.abc import Callable
from typing import Any

from fleetmeter_processors.bounded import Limits
from fleetmeter_processors.enrichment import read_events
from fleetmeter_processors.partition import PartitionState
from fleetmeter_schemas.block import CODEC as BLOCK
from fleetmeter_schemas.block import open_block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.identity import CHECKPOINT_KEY
from simulated_fleet import EVENT, RETENTION_MS, Fleet

SNAPSHOT = Codec("Snapshot")
SILENCE_MS_MAX = 5_000
COUNTED = {"llm", "tool", "action", "error"}
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens")


def liveness(fleet: Fleet) -> list[str]:
    """Once faults end, every raw record is judged and every verdict is folded."""
    last = [value for key, value in fleet.broker.sessions if key == CHECKPOINT_KEY]
    if not last or last[-1] is None:
        return ["no checkpoint was ever written"]
    reached = Codec("Checkpoint").decode(last[-1])["next"]
    wanted = len(fleet.broker.raw)
    return [] if reached == wanted else [f"stuck at {reached} of {wanted} raw records"]


def tiling(fleet: Fleet) -> list[str]:
    """The blocks that count cover the raw log once, in order; each counted event is there once."""
    complaints, following, epoch = [], 0, -1
    offsets: list[int] = []
    for offset, data in enumerate(fleet.broker.metered):
        if not BLOCK.knows(data):
            epoch = offset
            continue
        block = open_block(data)
        if block.epoch != epoch or block.first != following:
            continue
        following = block.next
        found = read_events(block.events)
        offsets += [verdict["offset"] for _, verdict in found]
    if following != len(fleet.broker.raw):
        complaints.append(f"blocks cover {following} of {len(fleet.broker.raw)}")
    if offsets != sorted(set(offsets)):
        complaints.append("an offset is metered twice or out of order")
    return complaints


def heard_time(fleet: Fleet) -> list[str]:
    """Heard time is log time without silences over five seconds and without steps back."""
    heard, newest = 0, None
    for record in fleet.broker.raw:
        if newest is not None:
            heard += min(max(record.log_time_ms - newest, 0), SILENCE_MS_MAX)
        newest = record.log_time_ms if newest is None else max(newest, record.log_time_ms)
    checkpoint = [value for key, value in fleet.broker.sessions if key == CHECKPOINT_KEY][-1]
    assert checkpoint is not None
    said = Codec("Checkpoint").decode(checkpoint)["heard_ms"]
    return [] if said == heard else [f"heard {said} ms, not {heard} ms"]


def totals(fleet: Fleet) -> list[str]:
    """Sums over a session's parts are the sums over its unique events, highest revision each."""
    expected = _expected_totals(fleet)
    actual: dict[str, dict[str, int]] = {}
    for (session_id, _), snapshot in last_snapshots(fleet).items():
        sums = actual.setdefault(session_id, dict.fromkeys(next(iter(expected.values())), 0))
        for name in sums:
            sums[name] += snapshot["numbers"][name]
    actual = {key: sums for key, sums in actual.items() if sums["events"]}
    return [] if actual == expected else [f"totals {actual} instead of {expected}"]


def determinism(fleet: Fleet) -> list[str]:
    """Every session's last snapshot is that of one undisturbed reader of the metered log."""
    state = PartitionState(0, Limits(retention_ms=RETENTION_MS, open_sessions_max=4))
    undisturbed: dict[tuple[str, int], Any] = {}
    for offset, data in enumerate(fleet.broker.metered):
        state.apply(offset, data)
        while not state.expire(100):
            pass
        for _, value in state.drain()[:-1]:
            if value is not None:
                snapshot = SNAPSHOT.decode(value)
                undisturbed[snapshot["session_id"], snapshot["part"]] = snapshot
    disturbed = last_snapshots(fleet)
    different = [
        f"{key}: {disturbed.get(key)} instead of {undisturbed.get(key)}"
        for key in {*disturbed, *undisturbed}
        if disturbed.get(key) != undisturbed.get(key)
    ]
    return different[:1]


def closing(fleet: Fleet) -> list[str]:
    """After long silence nothing is open, and each closing is a revision of its own."""
    still_open = [
        key for key, snapshot in last_snapshots(fleet).items() if snapshot["state"] == "open"
    ]
    return [f"still open: {still_open}"] if still_open else []


def revisions(fleet: Fleet) -> list[str]:
    """What is written of a part never goes back, and another state is another revision."""
    complaints: list[str] = []
    before: dict[tuple[str, int], Any] = {}
    for snapshot in _written(fleet):
        key = snapshot["session_id"], snapshot["part"]
        old = before.get(key)
        before[key] = snapshot
        if old is None:
            continue
        if (old["revision"], old["next"]) > (snapshot["revision"], snapshot["next"]):
            complaints.append(f"{key} went back")
        same = old["revision"] == snapshot["revision"]
        if same and (old["state"], old["end_state"]) != (snapshot["state"], snapshot["end_state"]):
            complaints.append(f"{key} changed its state within a revision")
    return complaints[:1]


def verdicts(fleet: Fleet) -> list[str]:
    """A session that was told Success or Failure is never Indeterminate afterwards."""
    told: dict[tuple[str, int], str] = {}
    for snapshot in _written(fleet):
        key = snapshot["session_id"], snapshot["part"]
        if key in told and snapshot["end_state"] == "Indeterminate":
            return [f"{key} lost its verdict {told[key]}"]
        if snapshot["end_state"] != "Indeterminate":
            told[key] = snapshot["end_state"]
    return []


Check = Callable[[Fleet], list[str]]
CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        liveness,
        tiling,
        heard_time,
        totals,
        determinism,
        closing,
        revisions,
        verdicts,
    )
}


def last_snapshots(fleet: Fleet) -> dict[tuple[str, int], Any]:
    """The last committed snapshot of every part of every session, as the table would hold."""
    return {(snapshot["session_id"], snapshot["part"]): snapshot for snapshot in _written(fleet)}


def _written(fleet: Fleet) -> list[Any]:
    return [
        SNAPSHOT.decode(value)
        for key, value in fleet.broker.sessions
        if key != CHECKPOINT_KEY and value is not None
    ]


def _expected_totals(fleet: Fleet) -> dict[str, dict[str, int]]:
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for record in fleet.broker.raw:
        try:
            event = EVENT.decode(record.value or b"")
        except InvalidRecord:
            continue
        if event["kind"] in ("tick", "heartbeat"):
            continue
        key = event["session_id"], event["event_id"]
        if key not in chosen or event["revision"] > chosen[key]["revision"]:
            chosen[key] = event
    sums: dict[str, dict[str, int]] = {}
    for event in chosen.values():
        if event["kind"] in COUNTED:
            row = sums.setdefault(event["session_id"], _nothing())
            _add(row, event)
    return sums


def _nothing() -> dict[str, int]:
    return dict.fromkeys(("events", "llm_calls", "tool_calls", "actions", "errors", *TOKENS), 0)


def _add(row: dict[str, int], event: dict[str, Any]) -> None:
    names = {"llm": "llm_calls", "tool": "tool_calls", "action": "actions", "error": "errors"}
    row["events"] += 1
    row[names[event["kind"]]] += 1
    if event["kind"] == "llm":
        for name in TOKENS:
            row[name] += event[name] or 0

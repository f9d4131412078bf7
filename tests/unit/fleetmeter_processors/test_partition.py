"""All sessions of one partition: folding, expiry, forgetting, restoring."""

import pytest

from fleetmeter_processors.bounded import Limits
from fleetmeter_processors.partition import PartitionState
from fleetmeter_schemas.block import encode_block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.identity import CHECKPOINT_KEY
from fleetmeter_schemas.records import Delta
from fleetmeter_schemas.tiling import Gap, Position, Verdict
from session_records import MINUTE_MS, delta, end, writer

BARRIER = Codec("Barrier").encode({"owner": "meter"})
HOUR_MS = 60 * MINUTE_MS


def encoded(one: Delta) -> bytes:
    """A delta's body, as it stands in a block."""
    return Codec("Delta").encode(one)[10:]


def block(first: int, following: int, heard_ms: int, *deltas: Delta, epoch: int = 0) -> bytes:
    """A block over [first, following)."""
    return encode_block(
        epoch=epoch,
        first=first,
        next=following,
        heard_ms=heard_ms,
        log_time_ms=1_700_000_000_000 + heard_ms,
        duplicates=0,
        deltas=[encoded(one) for one in deltas],
        events=[],
        rejects=[],
    )


def of(session_id: str, heard_ms: int = 0) -> Delta:
    """A delta of one event of this session, heard then."""
    return delta(session_id=session_id, heard_ms=heard_ms, writers=[writer(heard_ms=heard_ms)])


def feed(state: PartitionState, *records: bytes, at: int = 0) -> list[Verdict]:
    """Apply records from this offset on, and let time pass after each."""
    verdicts = []
    for offset, data in enumerate(records, start=at):
        verdicts.append(state.apply(offset, data))
        while not state.expire(2):
            pass
    return verdicts


def restored(state: PartitionState) -> PartitionState:
    """A new state from what the old one wrote."""
    copy = PartitionState(state.partition, state.limits)
    for key, value in state.drain():
        if key == CHECKPOINT_KEY:
            assert value is not None
            copy.restore_checkpoint(value)
        else:
            copy.restore_snapshot(key, value)
    copy.restored()
    while not copy.expire(2):
        pass
    return copy


def test_only_tiling_blocks_are_folded() -> None:
    """A block of another epoch and one that was written twice change nothing."""
    state = PartitionState(0)
    first = block(0, 5, 10, of("a"))
    verdicts = feed(state, BARRIER, first, first, block(5, 9, 20, of("a"), epoch=9))

    assert verdicts == [Verdict.BARRIER, Verdict.ACCEPTED, Verdict.SKIPPED, Verdict.SKIPPED]
    assert state.sessions["p", "a"]["numbers"]["events"] == 1
    assert state.position == Position(metered_offset=3, epoch=0, next=5)


def test_a_missing_record_stops_the_reader() -> None:
    """A jump in metered.v1 is our own loss, and is not passed over."""
    state = PartitionState(0)
    feed(state, BARRIER)

    with pytest.raises(Gap):
        state.apply(2, block(0, 1, 0))


def test_an_unreadable_record_stops_the_reader() -> None:
    """Skipping what a newer meter wrote would lose it."""
    state = PartitionState(0)

    with pytest.raises(InvalidRecord):
        state.apply(0, b"\xc3\x01garbage!")


def test_silence_closes_then_forgets() -> None:
    """A session times out after its idle timeout, and leaves with a tombstone after retention."""
    state = PartitionState(0)
    limits = state.limits
    feed(state, BARRIER, block(0, 1, 0, of("a")))
    feed(state, block(1, 2, 30 * MINUTE_MS), at=2)
    assert state.sessions["p", "a"]["state"] == "open"

    feed(state, block(2, 3, 30 * MINUTE_MS + 1), at=3)
    assert state.sessions["p", "a"]["state"] == "timed_out"
    assert [closed.reason for closed in state.closed] == ["idle_timeout"]

    state.drain()
    feed(state, block(3, 4, 30 * MINUTE_MS + 2 + limits.retention_ms), at=4)
    assert state.sessions == {}
    assert state.drain()[0] == (b"p/a/7", None)


def test_a_forgotten_session_comes_back_as_a_new_part() -> None:
    """The offset that opened it again names the part."""
    state = PartitionState(0)
    feed(state, BARRIER, block(0, 1, 0, of("a")), block(1, 2, 9 * HOUR_MS))
    feed(state, block(2, 3, 18 * HOUR_MS), at=3)
    again: Delta = {**of("a", 18 * HOUR_MS), "first_offset": 3}
    feed(state, block(3, 4, 18 * HOUR_MS, again), at=4)

    assert (state.sessions["p", "a"]["part"], state.sessions["p", "a"]["state"]) == (3, "open")


def test_the_last_snapshot_is_written_before_a_session_is_forgotten() -> None:
    """Closed, forgotten and opened again between two drains: each part has its say."""
    state = PartitionState(0)
    again: Delta = {**of("a", 18 * HOUR_MS), "first_offset": 9}
    feed(state, BARRIER, block(0, 1, 0, of("a")), block(1, 2, 9 * HOUR_MS))
    feed(state, block(2, 3, 18 * HOUR_MS), block(3, 4, 18 * HOUR_MS, again), at=3)
    records = state.drain()

    assert [key for key, _ in records] == [b"p/a/7", b"p/a/7", b"p/a/9", CHECKPOINT_KEY]
    assert records[0][1] is not None
    assert Codec("Snapshot").decode(records[0][1])["state"] == "timed_out"
    assert records[1][1] is None


def test_a_block_folds_before_time_passes() -> None:
    """An event in the block that ends the silence keeps its session open."""
    state = PartitionState(0)
    feed(state, BARRIER, block(0, 1, 0, of("a")))
    feed(state, block(1, 2, 40 * MINUTE_MS, of("a", 40 * MINUTE_MS)), at=2)

    assert state.sessions["p", "a"]["revision"] == 1


def test_apply_refuses_to_go_on_before_time_has_passed() -> None:
    """An overdue session must not be kept alive by the next block."""
    state = PartitionState(0)
    feed(state, BARRIER)
    state.apply(1, block(0, 1, 0, of("a")))

    with pytest.raises(AssertionError):
        state.apply(2, block(1, 2, 0, of("a")))


def test_above_the_limit_the_longest_silent_session_closes() -> None:
    """The cap holds per project; ties go by key."""
    state = PartitionState(0, Limits(open_sessions_max=2))
    other: Delta = {**of("z"), "project_id": "q"}
    feed(state, BARRIER, block(0, 1, 0, other, of("a", 3), of("b", 1), of("c", 2)))

    states = {key[1]: session["state"] for key, session in state.sessions.items()}
    assert states == {"z": "open", "a": "open", "b": "timed_out", "c": "open"}
    assert [closed.reason for closed in state.closed] == ["session_limit"]


def test_drain_holds_each_touched_session_once_and_the_checkpoint_last() -> None:
    """What goes into one transaction: last snapshots, then the position."""
    state = PartitionState(0)
    feed(state, BARRIER, block(0, 1, 0, of("a"), of("b")), block(1, 2, 0, of("a")))

    assert [key for key, _ in state.drain()] == [b"p/a/7", b"p/b/7", CHECKPOINT_KEY]
    assert [key for key, _ in state.drain()] == [CHECKPOINT_KEY]


def test_restored_state_goes_on_exactly() -> None:
    """Snapshots and checkpoint hold all that the next block depends on."""
    log = [
        BARRIER,
        block(0, 1, 0, of("a"), of("b")),
        block(1, 2, 31 * MINUTE_MS, of("b", 31 * MINUTE_MS)),
        block(2, 3, 32 * MINUTE_MS, of("a", 32 * MINUTE_MS), end("Success", session_id="b")),
    ]
    undisturbed = PartitionState(0)
    feed(undisturbed, *log)
    for cut in range(len(log)):
        state = PartitionState(0)
        feed(state, *log[:cut])
        state = restored(state)
        feed(state, *log[cut:], at=cut)
        assert state.sessions == undisturbed.sessions
        assert state.position == undisturbed.position


def test_a_crash_inside_an_expiry_goes_on_where_it_was() -> None:
    """A transaction may end between two expiries of one block."""
    state = PartitionState(0)
    sessions = [of(str(number)) for number in range(5)]
    feed(state, BARRIER, block(0, 1, 0, *sessions))
    state.drain()
    before = {key: dict(session) for key, session in state.sessions.items()}
    state.apply(2, block(1, 2, 31 * MINUTE_MS))
    assert state.expire(2) is False

    crashed = PartitionState(0)
    for session in before.values():
        crashed.restore_snapshot(b"", Codec("Snapshot").encode(session))
    for key, value in state.drain():
        if key == CHECKPOINT_KEY:
            assert value is not None
            crashed.restore_checkpoint(value)
        else:
            crashed.restore_snapshot(key, value)
    crashed.restored()
    while not crashed.expire(2):
        pass
    while not state.expire(2):
        pass

    assert crashed.sessions == state.sessions
    assert {one["revision"] for one in state.sessions.values()} == {2}

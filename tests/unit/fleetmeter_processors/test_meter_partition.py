"""How a meter takes a partition, keeps it, and notices that it has lost it."""

import random
from collections import Counter

import pytest

from fleetmeter_processors.hint import Hint
from fleetmeter_processors.judge import Raw
from fleetmeter_processors.meter_partition import MeterPartition, Phase
from fleetmeter_processors.metered_record import BARRIER
from fleetmeter_processors.tail import TailLimits
from fleetmeter_schemas.tiling import UNKNOWN, Gap, Position
from meter_records import LOG_TIME_MS, event, events_of, raw
from rival_meters import FakeLog, FakePort, deliver, meter_on


def raws(first: int, end: int, at_ms: int = 0) -> list[Raw]:
    """Raw records, one event each."""
    return [
        raw(offset, event(event_id=f"e{offset}", sequence=offset + 1), LOG_TIME_MS + at_ms)
        for offset in range(first, end)
    ]


def taken(
    log: FakeLog, start: Hint | None = None, raw_start: int = 0
) -> tuple[MeterPartition, FakePort]:
    """A meter that has just taken the partition."""
    port = FakePort(log)
    meter = meter_on(port, start, raw_start)
    meter.take()
    deliver(meter, port)
    return meter, port


def ids(log: FakeLog) -> list[str]:
    """Ids of all accepted events, in log order."""
    return [prefix.event_id for prefix, _ in events_of(log.accepted()[0])]


def expected_ids(end: int) -> list[str]:
    """Ids of the first raw records."""
    return [f"e{offset}" for offset in range(end)]


def test_an_empty_log_begins_where_the_raw_log_does() -> None:
    """Without an accepted block the raw log is read from its beginning, or the group's hint."""
    meter, _ = taken(FakeLog(), raw_start=17)
    assert meter.phase is Phase.ACTIVE
    assert (meter.take_resume(), meter.take_resume()) == (17, None)


def test_nothing_is_metered_before_the_barrier_is_in_the_log() -> None:
    """A meter that has only asked for the partition may not write blocks."""
    port = FakePort(FakeLog())
    meter = meter_on(port)
    with pytest.raises(AssertionError):
        meter.meter(raws(0, 1))
    meter.take()
    assert meter.phase is Phase.TAKING
    with pytest.raises(AssertionError):
        meter.meter(raws(0, 1))


def test_a_successor_goes_on_where_the_blocks_end() -> None:
    """The next meter resumes behind the last accepted block, and knows its ids and times."""
    log = FakeLog()
    first, port = taken(log)
    first.meter(raws(0, 3, at_ms=0))
    first.meter(raws(3, 5, at_ms=700))
    deliver(first, port)
    second, port = taken(log, raw_start=99)
    assert second.take_resume() == 5
    again = [record._replace(offset=record.offset + 5) for record in raws(0, 2, at_ms=900)]
    second.meter([*again, *raws(7, 8, at_ms=900)])
    (block,) = deliver(second, port)
    assert (block.duplicates, block.heard_ms) == (2, 900)
    assert ids(log) == [*expected_ids(5), "e7"]


def test_records_metered_before_are_left_out() -> None:
    """Raw records that a block covers already are not metered again."""
    meter, _ = taken(FakeLog())
    meter.meter(raws(0, 3))
    assert meter.meter(raws(0, 3)) is None
    block = meter.meter(raws(1, 5))
    assert block is not None
    assert (block.first, block.next, block.records) == (3, 5, 2)


def test_the_hint_spares_reading_the_whole_log() -> None:
    """A successor reads from before the oldest block remembered, and ends at the same place."""
    log = FakeLog()
    port = FakePort(log)
    first = meter_on(port, tail=TailLimits(window_ms=1_000))
    first.take()
    deliver(first, port)
    for number in range(5):
        first.meter(raws(number, number + 1, at_ms=600 * number))
        deliver(first, port)
    assert first.hint.position == Position(metered_offset=3, epoch=0, next=3)
    second, port = taken(log, first.hint)
    assert port.reads == [(4, 5)]
    assert (second.take_resume(), second.position.next) == (5, 5)


def test_a_hint_that_retention_has_overtaken_is_let_go() -> None:
    """Where the log begins behind the hint, the reader starts at the first barrier it meets."""
    log = FakeLog()
    first, port = taken(log)
    hint = first.hint
    first.meter(raws(0, 2))
    first.renew()
    deliver(first, port)
    first.meter(raws(2, 4))
    deliver(first, port)
    log.low = 2
    second, _ = taken(log, hint)
    assert second.take_resume() == 4


def test_the_group_knows_when_the_log_is_empty() -> None:
    """Where retention has left no block at all, group and hint tell place and heard time."""
    log = FakeLog(records=[b"gone"] * 9, low=9)
    hint = Hint(
        position=Position(metered_offset=3, epoch=0, next=3), heard_ms=70, log_time_ms=LOG_TIME_MS
    )
    meter, port = taken(log, hint, raw_start=12)
    assert meter.take_resume() == 12
    meter.meter(raws(12, 13, at_ms=5))
    (block,) = deliver(meter, port)
    assert block.heard_ms == 75


def test_a_rival_fences_what_is_on_its_way() -> None:
    """Blocks that land behind a rival's barrier count for nothing, and the meter notices."""
    log = FakeLog()
    old, old_port = taken(log)
    old.meter(raws(0, 2))
    old_port.land()
    old.meter(raws(2, 4))
    old.meter(raws(4, 6))
    new, new_port = taken(log)
    assert new.take_resume() == 2
    new.meter(raws(2, 5))
    deliver(new, new_port)
    counted = deliver(old, old_port)
    assert [block.next for block in counted] == [2]
    assert old.phase is Phase.FENCED
    with pytest.raises(AssertionError):
        old.meter(raws(6, 7))
    assert ids(log) == expected_ids(5)


def test_a_fenced_meter_takes_it_back() -> None:
    """A fenced meter that still holds the partition reads what the rival did, and goes on."""
    log = FakeLog()
    old, old_port = taken(log)
    old.take_resume()
    old.meter(raws(0, 2))
    deliver(old, old_port)
    new, new_port = taken(log)
    new.meter(raws(2, 5))
    deliver(new, new_port)
    old.meter(raws(2, 4))
    deliver(old, old_port)
    old.take()
    deliver(old, old_port)
    assert (old.phase, old.take_resume()) == (Phase.ACTIVE, 5)
    old.meter(raws(5, 7))
    deliver(old, old_port)
    new.meter(raws(5, 6))
    deliver(new, new_port)
    assert new.phase is Phase.FENCED
    assert ids(log) == expected_ids(7)


def test_records_in_hand_at_a_taking_are_not_metered() -> None:
    """What was fetched before is behind what must be read first: a block of it would lose that."""
    log = FakeLog()
    old, old_port = taken(log)
    old.take_resume()
    new, new_port = taken(log)
    deliver(new, new_port)
    old.meter(raws(0, 2))
    deliver(old, old_port)
    assert old.phase is Phase.FENCED
    old.take()
    deliver(old, old_port)
    with pytest.raises(AssertionError):
        old.meter(raws(2, 4))
    assert (old.is_ready, old.take_resume(), old.is_ready) == (False, 0, True)
    old.meter(raws(0, 4))
    deliver(old, old_port)
    assert ids(log) == expected_ids(4)


def test_a_zombies_blocks_between_do_no_harm() -> None:
    """Blocks of an old epoch between one's own are skipped, and nobody is fenced."""
    log = FakeLog()
    zombie, zombie_port = taken(log)
    zombie.meter(raws(0, 2))
    owner, port = taken(log)
    owner.meter(raws(0, 3))
    port.land()
    zombie_port.land()
    owner.meter(raws(3, 4))
    assert [3, 4] == [block.next for block in deliver(owner, port)]
    assert owner.phase is Phase.ACTIVE
    assert ids(log) == expected_ids(4)


def test_a_dropped_partition_is_written_no_more() -> None:
    """After a revocation no block is written, and late reports change nothing."""
    meter, port = taken(FakeLog())
    meter.meter(raws(0, 2))
    meter.drop()
    with pytest.raises(AssertionError):
        meter.meter(raws(2, 3))
    assert deliver(meter, port) == []


def test_a_renewed_barrier_changes_nothing_else() -> None:
    """A meter that renews its barrier goes on with its books and its place."""
    log = FakeLog()
    meter, port = taken(log)
    meter.take_resume()
    meter.meter(raws(0, 2))
    meter.renew()
    with pytest.raises(AssertionError):
        meter.meter(raws(2, 3))
    deliver(meter, port)
    assert (meter.phase, meter.take_resume()) == (Phase.ACTIVE, None)
    meter.meter(raws(2, 4))
    deliver(meter, port)
    assert ids(log) == expected_ids(4)
    assert log.accepted()[1].epoch == 2


def test_a_renewal_notices_a_rivals_blocks() -> None:
    """A rival that metered between two barriers of ours has moved the place: books are new."""
    log = FakeLog()
    old, old_port = taken(log)
    new, new_port = taken(log)
    new.meter(raws(0, 3))
    deliver(new, new_port)
    old.renew()
    deliver(old, old_port)
    assert old.phase is Phase.FENCED
    old.take()
    deliver(old, old_port)
    assert old.take_resume() == 3


def test_a_gap_in_the_log_is_not_walked_over() -> None:
    """A meter that cannot read what landed between its own blocks stops."""
    log = FakeLog()
    meter, port = taken(log)
    meter.meter(raws(0, 2))
    log.records += [BARRIER.encode({"owner": "rival"})] * 2
    log.low = 2
    port.land()
    with pytest.raises(Gap):
        deliver(meter, port)


def test_the_hint_is_unknown_before_anything_is_known() -> None:
    """A meter that never had the partition hints at nothing."""
    meter = meter_on(FakePort(FakeLog()))
    assert meter.hint == Hint()
    assert (meter.next, meter.in_flight) == (UNKNOWN, 0)


@pytest.mark.parametrize("seed", range(60))
def test_rivals_in_any_order_meter_each_record_once(seed: int) -> None:
    """However rivals' steps, barriers and reports interleave, the blocks tile, and go on."""
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    log = FakeLog()
    end = 40
    rivals: list[tuple[MeterPartition, FakePort]] = []
    hint = Hint()
    for _ in range(400):
        if len(rivals) < 3 and chance.random() < 0.05:
            port = FakePort(log)
            rivals.append((meter_on(port, chance.choice([hint, Hint()])), port))
        if not rivals:
            continue
        meter, port = chance.choice(rivals)
        hint = meter.hint if meter.phase is Phase.ACTIVE else hint
        step(chance, meter, port, end)
        if chance.random() < 0.02:
            # Killed; what is on its way may land all the same.
            rivals.remove((meter, port))
            while port.sent and chance.random() < 0.5:
                port.land()
    last, port = taken(log, hint)
    last.meter([record for record in raws(0, end) if record.offset >= last.next])
    deliver(last, port)
    assert ids(log) == expected_ids(end)
    runs = [delta for block in log.accepted()[0] for delta in [block.first, block.next]]
    assert runs == sorted(runs)
    assert max(Counter(ids(log)).values()) == 1


def step(chance: random.Random, meter: MeterPartition, port: FakePort, end: int) -> None:
    """One step that this meter could take now."""
    if port.landed and chance.random() < 0.5:
        meter.delivered(port.landed.popleft())
    elif port.sent and chance.random() < 0.5:
        port.land()
    elif meter.phase in (Phase.IDLE, Phase.FENCED):
        meter.take()
    elif meter.phase is Phase.ACTIVE and chance.random() < 0.1:
        meter.renew()
    elif meter.phase is Phase.ACTIVE and meter.next < end and meter.in_flight < 4:
        size = chance.randint(1, 3)
        meter.meter(raws(meter.next, min(end, meter.next + size)))

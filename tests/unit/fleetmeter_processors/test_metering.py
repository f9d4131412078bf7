"""What a block says about its raw records, and that the next meter remembers it."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmeter_processors.judge import Grant, Judge, Raw
from fleetmeter_processors.metering import BlockLimits, Metering, cuts
from fleetmeter_processors.pricing import Pricer
from fleetmeter_processors.window import WindowLimits
from fleetmeter_schemas.block import Block, decode_deltas, decode_rejects, open_block
from fleetmeter_schemas.records import NUMBER_NAMES
from meter_records import (
    EVENT,
    KEY_HASH,
    LOG_TIME_MS,
    PROJECT,
    FakeKeys,
    ended,
    event,
    events_of,
    llm,
    raw,
)

PRICER = Pricer()
MINUTE_MS = 60_000


def metering(keys: FakeKeys | None = None, limits: WindowLimits | None = None) -> Metering:
    """Books that begin at raw offset 0."""
    keys = keys or FakeKeys()
    found = Metering(0, Judge(0, 1, keys, EVENT), keys, PRICER, limits or WindowLimits())
    found.next = 0
    return found


def sealed(books: Metering, *records: dict[str, Any], at_ms: int = 0) -> Block:
    """A block over these events, at the next raw offsets, all appended at one time."""
    raws = [
        raw(books.next + place, record, LOG_TIME_MS + at_ms) for place, record in enumerate(records)
    ]
    return open_block(books.seal(5, raws).data)


def sums(*blocks: Block) -> dict[str, int]:
    """The sums of all deltas."""
    deltas = [delta for block in blocks for delta in decode_deltas(block.deltas)]
    return {name: sum(delta["numbers"][name] for delta in deltas) for name in NUMBER_NAMES}


def counted(*blocks: Block) -> int:
    """How many events the deltas count."""
    return sum(delta["counted"] for block in blocks for delta in decode_deltas(block.deltas))


def test_a_block_covers_its_records() -> None:
    """A block goes from the last one's end to its last record, over missing offsets too."""
    books = metering()
    block = open_block(books.seal(5, [raw(3, event()), raw(4, event(event_id="e2"))]).data)
    assert (block.epoch, block.first, block.next) == (5, 0, 5)
    block = open_block(books.seal(6, [raw(9, event(event_id="e3"))]).data)
    assert (block.epoch, block.first, block.next) == (6, 5, 10)


def test_events_come_with_their_verdict() -> None:
    """Each event carries project, price, place and times."""
    books = metering()
    block = sealed(books, llm())
    ((prefix, verdict),) = events_of([block])
    assert prefix.model == "gpt-4o"
    # 1,000 x $2.50 and 100 x $10 a million.
    assert verdict["cost_pico_usd"] == 3_500_000_000
    assert verdict["cost_status"] == "priced"
    assert (verdict["project_id"], verdict["offset"]) == (PROJECT, 0)
    assert (verdict["log_time_ms"], verdict["heard_ms"]) == (LOG_TIME_MS, 0)
    assert verdict["first_start_time_us"] == prefix.start_time_us
    totals = sums(block)
    assert (totals["input_tokens"], totals["output_tokens"]) == (1_000, 100)
    assert (totals["events"], totals["llm_calls"]) == (1, 1)
    assert totals["cost_pico_usd"] == 3_500_000_000
    assert totals["cost_input_pico_usd"] + totals["cost_output_pico_usd"] == 3_500_000_000


@pytest.mark.parametrize(
    ("record", "status", "expected"),
    [
        (event(), "none", {"actions": 1}),
        (event(kind="tool", input_tokens=9), "none", {"tool_calls": 1}),
        (event(kind="error"), "none", {"errors": 1}),
        (llm(model="nobody-knows"), "unpriced", {"llm_calls": 1, "unpriced_events": 1}),
        (llm(input_tokens=None, output_tokens=None), "no_usage", {"llm_calls": 1}),
        (
            llm(cache_read_tokens=2_000),
            "invalid_usage",
            {"llm_calls": 1, "invalid_usage_events": 1},
        ),
        (llm(reported_cost_pico_usd=7), "provided", {"llm_calls": 1, "cost_pico_usd": 7}),
        (event(start_time_us=1_600_000_000_000_000), "none", {"actions": 1, "skewed_events": 1}),
    ],
)
def test_what_each_kind_counts(
    record: dict[str, Any], status: str, expected: dict[str, int]
) -> None:
    """Kind, price and odd values are counted; tokens only with LLM calls."""
    block = sealed(metering(), record)
    ((_, verdict),) = events_of([block])
    assert status == verdict["cost_status"]
    tokens = {name: count for name, count in sums(block).items() if name.endswith("_tokens")}
    assert record["kind"] == "llm" or not any(tokens.values())
    found = {name: count for name, count in sums(block).items() if count and name not in tokens}
    assert expected | {"events": 1} == found


def test_heartbeats_and_ticks_are_no_events() -> None:
    """Heartbeats are heard, ticks only move time; neither is an event."""
    block = sealed(metering(), event(kind="heartbeat"), event(kind="tick"))
    assert (block.events.count, block.rejects.count, block.next) == (0, 0, 2)
    (delta,) = decode_deltas(block.deltas)
    assert delta["counted"] == 0


def test_rejects_keep_their_bytes() -> None:
    """A rejected record is kept with place, reason, key and value; its neighbours are metered."""
    books = metering()
    bad = Raw(1, LOG_TIME_MS, b"k", b"garbage")
    block = open_block(books.seal(5, [raw(0, event()), bad, raw(2, event(event_id="e2"))]).data)
    assert decode_rejects(block.rejects) == [
        {
            "partition": 0,
            "offset": 1,
            "log_time_ms": LOG_TIME_MS,
            "reason": "not_avro",
            "detail": "no Avro single-object header",
            "project_id": "",
            "key": b"k",
            "value": b"garbage",
        }
    ]
    assert block.events.count == 2


def test_an_unknown_key_is_judged_after_catching_up() -> None:
    """control.v1 is read once for a block with unknown keys, and then decides."""
    grant = Grant("late", 1, None)
    keys = FakeKeys({}, later={KEY_HASH: grant})
    stranger = event(key_hash=bytes(16))
    block = sealed(metering(keys), stranger, event(), stranger, event(event_id="e2"))
    assert keys.caught_up == 1
    assert {"late"} == {verdict["project_id"] for _, verdict in events_of([block])}
    assert ["unknown_key"] * 2 == [found["reason"] for found in decode_rejects(block.rejects)]


def test_the_first_metered_wins() -> None:
    """The same id again is a duplicate, in the same block and later, whatever it says."""
    books = metering()
    first = sealed(books, event(), event(name="again", sequence=0))
    second = sealed(books, event(name="again", sequence=0), event(session_id="other"))
    assert (first.duplicates, second.duplicates) == (1, 1)
    assert sums(first, second)["events"] == 2
    assert all(prefix.name == "" for prefix, _ in events_of([first, second]))


def test_a_duplicates_number_is_noted() -> None:
    """An event recorded twice under two numbers leaves no gap and counts once."""
    block = sealed(metering(), event(sequence=1), event(sequence=2))
    (delta,) = decode_deltas(block.deltas)
    assert (delta["counted"], delta["writers"][0]["runs"]) == (1, [1, 2])


def test_a_higher_revision_replaces() -> None:
    """A higher revision counts as the difference, and keeps the place of the first one."""
    books = metering()
    blocks = [
        sealed(books, llm()),
        sealed(
            books, llm(revision=2, input_tokens=3_000, start_time_us=llm()["start_time_us"] + 9)
        ),
        sealed(books, llm(revision=1, input_tokens=9_000, sequence=0)),
        sealed(books, llm(revision=3, kind="tool", sequence=0)),
    ]
    assert [0, 0, 1, 0] == [block.duplicates for block in blocks]
    assert [1_000, 2_000, 0, -3_000] == [sums(block)["input_tokens"] for block in blocks]
    totals = sums(*blocks)
    assert (totals["events"], totals["llm_calls"], totals["tool_calls"]) == (1, 0, 1)
    assert (totals["input_tokens"], totals["cost_pico_usd"]) == (0, 0)
    assert len({verdict["first_start_time_us"] for _, verdict in events_of(blocks)}) == 1
    # A revised delta is folded like an event, so that a closed session is revised too.
    assert counted(*blocks) == 3


def test_a_correction_adds_its_numbers() -> None:
    """A correction counts as one and adds what it says, also less than nothing."""
    numbers = dict.fromkeys(NUMBER_NAMES, 0) | {"cost_pico_usd": -5, "events": -1}
    detail = ("fleetmeter.Correction", {"numbers": numbers, "who": "w", "why": "y"})
    block = sealed(metering(), event(kind="correction", detail=detail))
    assert (sums(block)["cost_pico_usd"], sums(block)["events"], counted(block)) == (-5, -1, 1)


def test_a_span_around_priced_calls_is_an_aggregate() -> None:
    """An LLM span that comes after its own priced LLM call counts neither tokens nor cost."""
    block = sealed(metering(), llm(event_id="child", parent_id="parent"), llm(event_id="parent"))
    assert ["priced", "aggregate"] == [said["cost_status"] for _, said in events_of([block])]
    totals = sums(block)
    assert (totals["llm_calls"], totals["input_tokens"]) == (2, 1_000)
    assert totals["cost_pico_usd"] == 3_500_000_000


def test_a_tool_costs_what_its_writer_says() -> None:
    """A tool's own cost counts beside that of the call it happened in; an action's does not."""
    tool = event(event_id="t", kind="tool", parent_id="call", reported_cost_pico_usd=7)
    action = event(event_id="a", kind="action", reported_cost_pico_usd=5)
    block = sealed(metering(), tool, action, llm(event_id="call"))
    statuses = [said["cost_status"] for _, said in events_of([block])]
    assert ["provided", "none", "priced"] == statuses
    assert sums(block)["cost_pico_usd"] == 3_500_000_007


def test_lifecycle_events_are_metered_once() -> None:
    """An end that is written twice ends once."""
    block = sealed(metering(), ended(sequence=0), ended(sequence=0))
    assert (block.duplicates, block.deltas.count, block.events.count) == (1, 1, 1)


def test_heard_time_leaves_silences_out() -> None:
    """Heard time follows log time, five seconds a record at most, and never goes back."""
    books = metering()
    heard = [
        sealed(books, event(event_id=f"e{at_ms}"), at_ms=at_ms).heard_ms
        for at_ms in (0, 1_000, 500, 1_000, 4_000_000, 4_001_000)
    ]
    assert heard == [0, 1_000, 1_000, 1_000, 6_000, 7_000]


def test_the_window_forgets_by_time() -> None:
    """An id is known for ten minutes of log time."""
    books = metering()
    sealed(books, event())
    known = sealed(books, event(), at_ms=10 * MINUTE_MS)
    sealed(books, event(session_id="other"), at_ms=10 * MINUTE_MS + 1)
    forgotten = sealed(books, event(), at_ms=10 * MINUTE_MS + 2)
    assert (known.duplicates, forgotten.duplicates) == (1, 0)


def test_the_window_forgets_by_number() -> None:
    """Of more ids than the bound the oldest are forgotten."""
    books = metering(limits=WindowLimits(ids_max=2))
    sealed(books, *(event(event_id=f"e{number}") for number in range(3)))
    block = sealed(books, event(event_id="e0"), event(event_id="e2"))
    assert (block.duplicates, block.events.count) == (1, 1)


STORIES = st.lists(
    st.builds(
        lambda make, number, revision, session: make(
            event_id=f"e{number}", revision=revision, session_id=session, parent_id="e0"
        ),
        st.sampled_from([event, llm, ended]),
        st.integers(0, 5),
        st.integers(0, 2),
        st.sampled_from(["a", "b"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60)
@given(STORIES, STORIES)
def test_a_successor_meters_like_its_predecessor(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Books restored from the blocks seal the next block as the first books would have."""
    books = metering()
    blocks = [sealed(books, record, at_ms=place) for place, record in enumerate(before)]
    successor = metering()
    for block in blocks:
        successor.restore(block)
    raws = [raw(books.next + place, record) for place, record in enumerate(after)]
    assert books.seal(7, raws).data == successor.seal(7, raws).data


def test_blocks_are_cut_by_bytes_and_time() -> None:
    """A block takes at most so many raw bytes, grown bytes and log time, and at least a record."""
    limits = BlockLimits(raw_bytes_max=100, block_bytes_max=10_000, log_time_ms_max=1_000)
    large = [Raw(number, 0, b"k", bytes(60)) for number in range(3)]
    assert [1, 1, 1] == [len(cut) for cut in cuts(large, limits)]
    late = [Raw(number, 400 * number, b"k", b"") for number in range(6)]
    assert [3, 3] == [len(cut) for cut in cuts(late, limits)]
    small = [Raw(number, 0, None, None) for number in range(45)]
    assert [20, 20, 5] == [len(cut) for cut in cuts(small, limits)]
    huge = [Raw(0, 0, b"k", bytes(2_000_000))]
    assert [1] == [len(cut) for cut in cuts(huge, limits)]
    assert [] == list(cuts([], limits))


def test_no_block_outgrows_its_topic() -> None:
    """The worst that fits one cut still fits one record of metered.v1."""
    sessions = [str(UUID(int=number)) for number in range(20_000)]
    tiny = [
        raw(number, event(session_id=session * 5, user_id="u", writer_id=""))
        for number, session in enumerate(sessions)
    ]
    books = metering()
    for cut in cuts(tiny, BlockLimits()):
        assert len(books.seal(5, cut).data) < 4_000_000
    big = raw(
        books.next,
        event(
            kind="session_started",
            session_id="b",
            detail=("fleetmeter.SessionUpdate", {"name": "n" * 490_000}),
            output="x" * 1_500_000,
        ),
    )
    assert len(books.seal(5, [big]).data) < 4_000_000
    assert events_of([open_block(books.seal(5, [raw(books.next, event())]).data)])

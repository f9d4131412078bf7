"""How one block's events add up to deltas."""

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_processors.fold import RUNS_MAX, WRITERS_MAX, Fold
from fleetmeter_processors.judge import Accepted, Grant
from fleetmeter_processors.numbers import NOTHING, Counts
from fleetmeter_processors.prefix import decode_event
from fleetmeter_schemas.block import Items, decode_deltas
from fleetmeter_schemas.codec import HEADER_BYTES
from fleetmeter_schemas.records import NUMBER_NAMES, Delta, SessionEnd
from meter_records import EVENT, GRANT, PROJECT, SESSION, START_US, ended, event

LONG_MAX = 2**63 - 1


def accepted(record: dict[str, Any], grant: Grant = GRANT) -> Accepted:
    """The event as the judge hands it on."""
    prefix = decode_event(EVENT.encode(record), HEADER_BYTES)
    return Accepted(prefix, b"", grant, clock_skewed=False)


def counts(**values: int) -> Counts:
    """Counts that are zero but for those given."""
    return tuple(values.get(name, 0) for name in NUMBER_NAMES)


ONE = counts(events=1, actions=1)


def folded(*records: dict[str, Any]) -> list[Delta]:
    """The deltas of events at raw offsets 0, 1, 2 …, heard at ten times that."""
    fold = Fold()
    for offset, record in enumerate(records):
        found = accepted(record)
        if record["kind"] == "heartbeat":
            fold.hear(found, offset, 10 * offset, 1_000 + offset)
        else:
            counted = ONE if record["kind"] == "action" else None
            fold.count(found, counted, offset, 10 * offset, 1_000 + offset)
    return deltas_of(fold)


def deltas_of(fold: Fold) -> list[Delta]:
    """The fold's deltas, decoded."""
    encoded = fold.deltas()
    data = memoryview(b"".join(encoded))
    return cast("list[Delta]", decode_deltas(Items(count=len(encoded), data=data)))


def runs_of(*sequences: int) -> list[list[int]]:
    """The runs of one writer's numbers, in each delta."""
    deltas = folded(*(event(sequence=number) for number in sequences))
    return [delta["writers"][0]["runs"] for delta in deltas]


def test_a_run_adds_up_one_session() -> None:
    """Events of one session become one delta with their sums, times and writers."""
    (delta,) = folded(
        event(sequence=1, user_id="u1", conversation_id="c"),
        event(sequence=2, user_id="u2", start_time_us=START_US - 5, end_time_us=START_US - 3),
        event(sequence=3, start_time_us=START_US, end_time_us=START_US + 7),
    )
    expected: dict[str, Any] = {
        "project_id": PROJECT,
        "session_id": SESSION,
        "first_offset": 0,
        "first_time_us": START_US - 5,
        "last_time_us": START_US + 7,
        "heard_ms": 20,
        "log_time_ms": 1_002,
        "idle_timeout_ms": 60_000,
        "counted": 3,
        "saturated": False,
        "numbers": dict(zip(NUMBER_NAMES, counts(events=3, actions=3), strict=True)),
        "conversation_id": "c",
        "user_id": "u2",
        "writers": [
            {
                "writer_id": "w",
                "heard_ms": 20,
                "heartbeat": False,
                "announced": 3,
                "ended": False,
                "runs": [1, 3],
            }
        ],
        "lifecycle": None,
    }
    assert expected == delta


def test_sessions_stand_by_their_first_record() -> None:
    """Deltas of several sessions are ordered by their first raw offset."""
    found = folded(
        event(session_id="b"), event(session_id="a"), event(session_id="b"), event(session_id="c")
    )
    assert [("b", 0), ("a", 1), ("c", 3)] == [
        (delta["session_id"], delta["first_offset"]) for delta in found
    ]


def test_a_lifecycle_event_ends_the_run() -> None:
    """What came before an end and what came after it are told apart."""
    found = folded(
        event(sequence=1), ended(sequence=2), event(sequence=3), event(session_id="other")
    )
    assert [(0, 1), (2, 1), (3, 1)] == [
        (delta["first_offset"], delta["counted"]) for delta in found
    ]
    before, after, _ = found
    assert before["lifecycle"] is not None
    assert after["lifecycle"] is None
    assert before["lifecycle"]["kind"] == "session_ended"
    assert before["lifecycle"]["event_time_us"] == START_US
    said = cast("SessionEnd", before["lifecycle"]["detail"])
    assert (said["end_state"], said["last_sequence"]) == ("Success", 9)
    assert before["writers"] == [
        {
            "writer_id": "w",
            "heard_ms": 10,
            "heartbeat": False,
            "announced": 9,
            "ended": True,
            "runs": [1, 2],
        }
    ]


def test_a_lone_lifecycle_event_counts_nothing() -> None:
    """A start without events is a delta that counts nothing and has no times."""
    (delta,) = folded(event(kind="session_started"))
    assert (0, None, None) == (delta["counted"], delta["first_time_us"], delta["last_time_us"])


def test_a_heartbeat_is_a_sign_of_life_only() -> None:
    """A heartbeat counts nothing, has no number itself, and announces the last one given."""
    (delta,) = folded(event(kind="heartbeat", sequence=7))
    assert (delta["counted"], delta["first_time_us"], delta["lifecycle"]) == (0, None, None)
    (writer,) = delta["writers"]
    assert (writer["heartbeat"], writer["announced"], writer["runs"]) == (True, 7, [])


def test_unnumbered_events_leave_no_runs() -> None:
    """A writer that does not number is heard all the same."""
    assert runs_of(0, 0) == [[]]


@pytest.mark.parametrize(
    ("sequences", "runs"),
    [
        ((1, 2, 3), [1, 3]),
        ((2, 1), [1, 2]),
        ((1, 3, 2), [1, 3]),
        ((5, 1, 3), [1, 1, 3, 3, 5, 5]),
        ((1, 1, 1), [1, 1]),
        ((1, 2, 3, 2), [1, 3]),
        ((1, 3, 4, 2, 9, 8), [1, 4, 8, 9]),
    ],
)
def test_numbers_are_joined_to_runs(sequences: tuple[int, ...], runs: list[int]) -> None:
    """Sequence numbers become runs in whatever order they come."""
    assert runs_of(*sequences) == [runs]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_runs_hold_exactly_the_numbers_seen(sequences: list[int]) -> None:
    """The runs are ascending, do not touch, and hold what was seen and nothing else."""
    (runs,) = runs_of(*sequences)
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    assert {number for first, last in pairs for number in range(first, last + 1)} == set(sequences)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(pairs))


def test_too_many_runs_cut_the_delta() -> None:
    """A writer's runs above the bound go to a second delta of the same session."""
    sequences = [2 * number + 1 for number in range(RUNS_MAX + 3)]
    first, second = runs_of(*sequences)
    assert (len(first), len(second)) == (2 * RUNS_MAX, 6)


def test_the_last_run_grows_at_the_bound() -> None:
    """A writer that goes on in order needs no second delta, however many gaps it had."""
    sequences = [2 * number + 1 for number in range(RUNS_MAX)]
    assert len(runs_of(*sequences, sequences[-1] + 1)) == 1


def test_too_many_writers_cut_the_delta() -> None:
    """A session's writers above the bound go to a second delta."""
    found = folded(*(event(writer_id=f"w{number}") for number in range(WRITERS_MAX + 2)))
    assert [WRITERS_MAX, 2] == [len(delta["writers"]) for delta in found]
    assert [WRITERS_MAX, 2] == [delta["counted"] for delta in found]
    assert [0, WRITERS_MAX] == [delta["first_offset"] for delta in found]


def test_sums_stay_within_64_bits() -> None:
    """A sum that would leave 64 bits stays at the limit, and says so."""
    fold = Fold()
    for offset in range(3):
        fold.count(accepted(event()), counts(cost_pico_usd=LONG_MAX), offset, 0, 0)
    fold.count(accepted(event(session_id="o")), counts(cost_pico_usd=-LONG_MAX - 1), 3, 0, 0)
    held, whole = deltas_of(fold)
    assert (held["saturated"], held["numbers"]["cost_pico_usd"]) == (True, LONG_MAX)
    assert (whole["saturated"], whole["numbers"]["cost_pico_usd"]) == (False, -LONG_MAX - 1)


def test_long_texts_are_cut() -> None:
    """A user or conversation id of any length cannot blow up every delta."""
    (delta,) = folded(event(user_id="u" * 5_000, conversation_id="c" * 5_000))
    assert (len(delta["user_id"]), len(delta["conversation_id"])) == (1_000, 1_000)


def test_projects_do_not_meet() -> None:
    """The same session id in two projects is two sessions."""
    fold = Fold()
    for offset, grant in enumerate((GRANT, GRANT._replace(project_id="other", idle_timeout_ms=5))):
        fold.count(accepted(event(), grant), NOTHING, offset, 0, 0)
    assert [(PROJECT, 60_000), ("other", 5)] == [
        (delta["project_id"], delta["idle_timeout_ms"]) for delta in deltas_of(fold)
    ]

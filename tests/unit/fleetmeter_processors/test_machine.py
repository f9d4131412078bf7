"""The session machine, cell by cell of its table."""

import pytest

from fleetmeter_processors import machine
from fleetmeter_processors.bounded import Limits
from fleetmeter_processors.machine import TRANSITIONS, Input, Place, Step
from fleetmeter_schemas.records import (
    Delta,
    EndState,
    Kind,
    SessionState,
    Snapshot,
    WriterRecord,
)
from session_records import (
    MINUTE_MS,
    START_US,
    delta,
    end,
    heartbeat,
    lifecycle,
    numbers,
    update,
    writer,
)

LIMITS = Limits()


def place(following: int = 1) -> Place:
    """A place in partition 3."""
    return Place(partition=3, next=following, log_time_ms=1_700_000_000_000 + following)


def after(*deltas: Delta, limits: Limits = LIMITS) -> Snapshot:
    """The session after these deltas, each in a block of its own."""
    session: Snapshot | None = None
    for number, one in enumerate(deltas, start=1):
        session = machine.apply(session, one, place(number), limits)
    assert session is not None
    return session


def timed_out(*deltas: Delta) -> Snapshot:
    """The session after these deltas and silence past its deadline."""
    session = after(*deltas)
    heard_ms = machine.deadline_ms(session, LIMITS) + 1
    return machine.expire(session, place(50), heard_ms, LIMITS)


def test_table_has_a_cell_for_every_state_and_input() -> None:
    """No combination of state and input is left undefined."""
    assert set(TRANSITIONS) == {None, *SessionState}
    assert [set(row) for row in TRANSITIONS.values()] == [set(Input)] * 4


def test_every_step_is_reached_by_some_cell() -> None:
    """The table uses every step that the machine can do."""
    assert {step for row in TRANSITIONS.values() for step in row.values()} == set(Step)


def test_first_event_opens_a_session() -> None:
    """An event of an unknown session opens it, named by the offset that did."""
    session = after(delta())

    assert (session["state"], session["revision"], session["part"]) == ("open", 1, 7)
    assert (session["started_at_us"], session["partition"]) == (START_US, 3)
    assert session["numbers"] == numbers(events=1, actions=1)


@pytest.mark.parametrize("ignored", [heartbeat(), lifecycle(Kind.SESSION_UPDATED, update())])
def test_heartbeat_or_update_of_an_unknown_session_is_ignored(ignored: Delta) -> None:
    """Neither opens a session."""
    assert machine.apply(None, ignored, place(), LIMITS) is None


def test_end_of_an_unknown_session_is_kept_and_flagged() -> None:
    """A session of which only the end is known has ended, and says that its start is missing."""
    session = after(end("Success"))

    assert (session["state"], session["end_state"]) == ("ended", "Success")
    assert (session["flags"], session["revision"]) == (["start_missing"], 1)


def test_open_session_folds_without_a_revision() -> None:
    """Events of an open session add up and raise no revision."""
    session = after(delta(), delta(numbers=numbers(events=2, llm_calls=2, cost_pico_usd=5)))

    assert session["numbers"] == numbers(events=3, actions=1, llm_calls=2, cost_pico_usd=5)
    assert (session["revision"], session["next"]) == (1, 2)


def test_earliest_start_wins() -> None:
    """A join with an earlier start moves the start; one with a later start does not."""
    joins = [lifecycle(Kind.SESSION_STARTED, time_us=START_US + offset) for offset in (10, -10, 20)]

    assert after(*joins)["started_at_us"] == START_US - 10


def test_update_changes_only_what_it_names() -> None:
    """Tags are added to or replaced, names kept until another is said."""
    first = lifecycle(Kind.SESSION_STARTED, update(name="n", tags_added=["a", "b"]))
    added = lifecycle(Kind.SESSION_UPDATED, update(tags_added=["b", "c"], agents={"1": "x"}))
    replaced = lifecycle(Kind.SESSION_UPDATED, update(tags_set=["z"], video="https://v"))

    session = after(first, added)
    assert (session["tags"], session["agents"]) == (["a", "b", "c"], {"1": "x"})
    session = after(first, added, replaced)
    assert (session["name"], session["tags"], session["video"]) == ("n", ["z"], "https://v")


def test_end_gives_state_reason_and_time() -> None:
    """The end carries the verdict, its words and its time on both clocks."""
    told = end("Failure", reason="out of money", said="Fail", time_us=START_US + 5)
    session = after(delta(), told)

    assert (session["state"], session["end_state"]) == ("ended", "Failure")
    assert (session["end_state_said"], session["end_state_reason"]) == ("Fail", "out of money")
    assert (session["ended_at_us"], session["revision"]) == (START_US + 5, 2)
    assert session["closed_at_ms"] == told["log_time_ms"]


def test_events_before_the_end_in_one_delta_are_not_late() -> None:
    """A delta's events come before the lifecycle event that ended it."""
    both = end("Success", counted=1, numbers=numbers(events=1))
    session = after(delta(), both)

    assert (session["numbers"]["events"], session["late_events"]) == (2, 0)


def test_events_after_the_end_are_late_and_revise() -> None:
    """Totals follow, late events are counted, the verdict and the end stay."""
    session = after(delta(), end("Success"), delta(last_time_us=START_US + 99))

    assert (session["state"], session["end_state"]) == ("ended", "Success")
    assert (session["late_events"], session["revision"]) == (1, 3)
    assert (session["ended_at_us"], session["numbers"]["events"]) == (START_US, 2)


def test_corrections_after_the_end_are_not_late_events() -> None:
    """A correction revises the sums and counts no event."""
    corrected = delta(numbers=numbers(cost_pico_usd=-3), first_time_us=None, last_time_us=None)
    session = after(delta(), end("Success"), corrected)

    assert (session["late_events"], session["numbers"]["cost_pico_usd"]) == (0, -3)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("Indeterminate", "Success", "Success"),
        ("Success", "Indeterminate", "Success"),
        ("Failure", "Indeterminate", "Failure"),
        ("Success", "Failure", "Failure"),
        ("Failure", "Success", "Success"),
        ("Indeterminate", "Indeterminate", "Indeterminate"),
    ],
)
def test_verdicts_replace_indeterminate_and_each_other(
    first: str, second: str, expected: str
) -> None:
    """A verdict replaces Indeterminate, never the reverse; the last of two verdicts wins."""
    session = after(delta(), end(first), end(second))

    assert session["end_state"] == expected
    assert session["revision"] == (2 if second == "Indeterminate" else 3)


def test_start_of_an_ended_session_is_ignored() -> None:
    """A process that joins after the end moves nothing."""
    ended = after(delta(), end("Success"))
    joined = after(delta(), end("Success"), lifecycle(Kind.SESSION_STARTED, time_us=1))

    assert joined["started_at_us"] == ended["started_at_us"]
    assert joined["revision"] == ended["revision"]


def test_update_of_an_ended_session_applies() -> None:
    """Tags may come after the end, and raise the revision."""
    late = lifecycle(Kind.SESSION_UPDATED, update(tags_added=["t"]))
    session = after(delta(), end("Success"), late)

    assert (session["tags"], session["revision"], session["state"]) == (["t"], 3, "ended")


def test_silence_makes_indeterminate_at_the_last_event() -> None:
    """A timed-out session ends on the event clock, closes on the log clock, and says why."""
    session = timed_out(delta(last_time_us=START_US + 77))

    assert (session["state"], session["end_state"]) == ("timed_out", EndState.INDETERMINATE)
    assert (session["end_state_reason"], session["ended_at_us"]) == ("idle_timeout", START_US + 77)
    assert (session["closed_at_ms"], session["revision"]) == (place(50).log_time_ms, 2)


def test_lost_heartbeats_are_named() -> None:
    """Where the last deadline was a heartbeat's, the writer is lost rather than idle."""
    session = timed_out(delta(writers=[writer(heartbeat=True)]))

    assert session["end_state_reason"] == "writer_lost"


@pytest.mark.parametrize(
    ("writers", "idle_ms", "expected_ms"),
    [
        ([writer(heard_ms=5)], 30 * MINUTE_MS, 5 + 30 * MINUTE_MS),
        ([writer(heard_ms=5, heartbeat=True)], 30 * MINUTE_MS, 5 + 5 * MINUTE_MS),
        ([writer(heard_ms=5, heartbeat=True)], 2 * MINUTE_MS, 5 + 2 * MINUTE_MS),
        (
            [writer(writer_id="a", heartbeat=True), writer(writer_id="b", heard_ms=9)],
            30 * MINUTE_MS,
            9 + 30 * MINUTE_MS,
        ),
        (
            [writer(writer_id="a", heard_ms=40 * MINUTE_MS, heartbeat=True), writer(writer_id="b")],
            30 * MINUTE_MS,
            45 * MINUTE_MS,
        ),
    ],
)
def test_deadline_is_the_latest_over_the_writers(
    writers: list[WriterRecord], idle_ms: int, expected_ms: int
) -> None:
    """Five minutes after a heartbeat, else the idle timeout; a shorter timeout caps both."""
    session = after(delta(writers=writers, idle_timeout_ms=idle_ms))

    assert machine.deadline_ms(session, LIMITS) == expected_ms


@pytest.mark.parametrize("sign", [delta(), heartbeat(), lifecycle(Kind.SESSION_STARTED)])
def test_a_sign_of_life_reopens_a_timed_out_session(sign: Delta) -> None:
    """It is open again, as if it had not ended, and both changes are revisions."""
    session = machine.apply(timed_out(delta()), sign, place(60), LIMITS)

    assert session is not None
    assert (session["state"], session["revision"], session["ended_at_us"]) == ("open", 3, None)
    assert (session["closed_at_ms"], session["end_state_reason"]) == (None, "")


def test_a_timed_out_session_takes_a_verdict() -> None:
    """An end that comes after the timeout counts."""
    session = machine.apply(timed_out(delta()), end("Success"), place(60), LIMITS)

    assert session is not None
    assert (session["state"], session["end_state"]) == ("ended", "Success")


def test_inputs_are_not_changed() -> None:
    """Applying a delta leaves the session it started from as it was."""
    before = after(delta())
    copy = {**before, "writers": [dict(one) for one in before["writers"]]}
    machine.apply(before, delta(user_id="u", writers=[writer(heard_ms=9)]), place(2), LIMITS)

    assert before == copy


def test_an_ignored_input_does_not_change_what_it_met() -> None:
    """Who was heard is noted on a copy, also where the table says to ignore."""
    before = after(delta(), end("Success"))
    copy = {**before, "writers": [dict(one) for one in before["writers"]]}
    heard = machine.apply(before, heartbeat(heard_ms=9), place(3), LIMITS)

    assert before == copy
    assert heard is not None
    assert (heard["heard_ms"], heard["revision"]) == (9, before["revision"])


def test_complete_only_when_every_number_was_seen() -> None:
    """True with all numbers, false with a hole, null before the writer's last word."""
    whole = delta(writers=[writer(announced=3, ended=True, runs=[1, 3])])
    holed = delta(writers=[writer(announced=3, ended=True, runs=[1, 1, 3, 3])])
    going_on = delta(writers=[writer(announced=3, runs=[1, 3])])
    other = delta(writers=[writer(writer_id="x", announced=1, runs=[1, 1])])

    assert after(whole)["complete"] is True
    assert after(holed)["complete"] is False
    assert after(going_on)["complete"] is None
    assert after(whole, other)["complete"] is None


def test_a_hole_closes_when_the_missing_number_comes() -> None:
    """Runs of different deltas are joined."""
    holed = delta(writers=[writer(announced=3, ended=True, runs=[1, 1, 3, 3])])
    filled = delta(writers=[writer(announced=2, runs=[2, 2])])

    assert after(holed, filled)["complete"] is True


def test_sums_saturate_and_say_so() -> None:
    """Two costs that leave 64 bits stop at the limit, with a flag."""
    huge = delta(numbers=numbers(cost_pico_usd=2**62))
    session = after(huge, huge, huge)

    assert session["numbers"]["cost_pico_usd"] == 2**63 - 1
    assert session["flags"] == ["sums_saturated"]


def test_everything_is_bounded_and_flagged() -> None:
    """Tags, agents, writers and runs stop at their bounds, each with its flag."""
    limits = Limits(writers_max=2, runs_max=2, tags_max=2, agents_max=2)
    many = lifecycle(
        Kind.SESSION_STARTED,
        update(tags_added=["a", "b", "c"], agents={"1": "a", "2": "b", "3": "c"}),
        writers=[writer(writer_id=name, runs=[1, 1, 3, 3, 5, 5]) for name in "abc"],
    )
    session = after(many, limits=limits)

    assert session["flags"] == [
        "agents_truncated",
        "runs_truncated",
        "tags_truncated",
        "writers_truncated",
    ]
    assert (session["tags"], list(session["agents"])) == (["a", "b"], ["1", "2"])
    assert [one["runs"] for one in session["writers"]] == [[1, 1, 3, 3]] * 2


def test_a_writer_beyond_the_bound_still_keeps_the_session_open() -> None:
    """Silence is measured over all writers, also those that are not listed."""
    limits = Limits(writers_max=1)
    session = after(delta(), delta(heard_ms=500, writers=[writer(writer_id="b")]), limits=limits)

    assert machine.deadline_ms(session, limits) == 500 + 30 * MINUTE_MS

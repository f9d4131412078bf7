from typing import Any
from uuid import UUID

from fleetmeter_local import replay_plan
from fleetmeter_local.recorded import Recorded

RUN = UUID("12345678-1234-4234-8234-123456789abc")
OTHER_RUN = UUID("22345678-1234-4234-8234-123456789abc")


def session(line: int, *starts: int, end_state: str | None = None) -> Recorded:
    """A session with an event at each start."""
    events: list[dict[str, Any]] = [{"kind": "action", "start_ms": start} for start in starts]
    return Recorded(line=line, session=f"s{line}", end_state=end_state, events=events)


def test_every_session_has_exactly_one_writer() -> None:
    """The shares of all writers together are all sessions."""
    sessions = [session(line, line) for line in range(1, 12)]
    shares = [replay_plan.share(sessions, writer, 3) for writer in range(3)]
    assert sorted(each.line for share in shares for each in share) == list(range(1, 12))


def test_events_come_as_the_fleet_did_them() -> None:
    """Sessions run beside each other; inside a session the file's order stays."""
    one, two = session(1, 10, 30, 30), session(2, 20, 40)
    steps = list(replay_plan.steps(RUN, [one, two]))
    assert [10, 20, 30, 30, 40] == [step.at_ms for step in steps]
    first = replay_plan.session_id(RUN, one)
    assert [True, False, True, True, False] == [step.session_id == first for step in steps]


def test_the_end_comes_last() -> None:
    """A session with an end state is ended behind its last event, the others never."""
    steps = list(replay_plan.steps(RUN, [session(1, 10, 20, end_state="Success"), session(2, 20)]))
    ends = [place for place, step in enumerate(steps) if step.event is None]
    mine = [place for place, step in enumerate(steps) if step.session_id == steps[0].session_id]
    assert [max(mine)] == ends
    assert "Success" == steps[ends[0]].end_state


def test_a_writer_that_begins_again_sends_the_same() -> None:
    """All ids follow from the run and the file, and differ from every other run's."""
    sessions = [session(1, 10, 20), session(2, 15)]
    again = list(replay_plan.steps(RUN, sessions))
    assert again == list(replay_plan.steps(RUN, sessions))
    ids = {step.event_id for step in again}
    assert 3 == len(ids)
    assert not ids & {step.event_id for step in replay_plan.steps(OTHER_RUN, sessions)}

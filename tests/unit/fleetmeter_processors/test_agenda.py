"""The agenda, held against a plain sort."""

from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_processors.agenda import Agenda, SessionKey, _Queue

KEYS = st.sampled_from([("p", str(number)) for number in range(5)])


@given(st.lists(st.tuples(KEYS, st.one_of(st.none(), st.integers(0, 9)))))
def test_first_is_the_smallest_time_then_key(steps: list[tuple[SessionKey, int | None]]) -> None:
    """Whatever was put, moved and removed, the first is what sorting would give."""
    queue = _Queue()
    model: dict[SessionKey, int] = {}
    for key, time_ms in steps:
        if time_ms is None:
            queue.remove(key)
            model.pop(key, None)
        else:
            queue.put(key, time_ms)
            model[key] = time_ms
        expected = min(((at, one) for one, at in model.items()), default=None)
        assert queue.first() == expected


def test_dead_entries_are_bounded() -> None:
    """Sessions that come and go leave nothing behind but a bounded number of entries."""
    agenda = Agenda()
    for number in range(10_000):
        key = ("p", str(number))
        agenda.opened(key, due_ms=number, heard_ms=number)
        agenda.closed(key, due_ms=number)
        agenda.remove(key)

    assert len(agenda._due._heap) <= 1001
    assert agenda._open == {}


def test_a_project_with_one_session_left_keeps_its_queue_small() -> None:
    """Closed sessions do not pile up behind one that stays open."""
    agenda = Agenda()
    agenda.opened(("p", "stays"), due_ms=0, heard_ms=0)
    for number in range(10_000):
        agenda.opened(("p", str(number)), due_ms=1, heard_ms=number)
        agenda.closed(("p", str(number)), due_ms=1)

    assert agenda.open_in("p") == 1
    assert len(agenda._open["p"]._heap) <= 1003


def test_an_earlier_due_time_counts_at_once() -> None:
    """A session whose deadline moves forward is found at the new one."""
    agenda = Agenda()
    agenda.opened(("p", "a"), due_ms=100, heard_ms=0)
    agenda.opened(("p", "a"), due_ms=50, heard_ms=1)

    assert agenda.next_due(50) is None
    assert agenda.next_due(51) == ("p", "a")

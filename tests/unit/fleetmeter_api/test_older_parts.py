"""What is kept of the parts before those that are live."""

from api_fakes import snapshot
from fleetmeter_api.older_parts import OlderParts


def test_only_parts_before_the_live_ones_are_kept() -> None:
    """A live part's own row in the store is not kept: it changes."""
    older = OlderParts(10)
    live = [snapshot(part=90), snapshot(part=50)]
    assert older.get(live) is None
    older.put(live, [snapshot(part=10), snapshot(part=50), snapshot(part=90)])
    assert older.get(live) == (snapshot(part=10),)


def test_another_first_part_is_another_question() -> None:
    """When the first live part left the memory, the store is asked again; nobody shares."""
    older = OlderParts(10)
    older.put([snapshot(part=50)], [])
    assert older.get([snapshot(part=50)]) == ()
    assert older.get([snapshot(part=90)]) is None
    assert older.get([snapshot(part=50, session_id="other")]) is None
    assert older.get([snapshot(part=50, project_id="other")]) is None


def test_longest_unused_is_dropped() -> None:
    """The number of sessions is bounded."""
    older = OlderParts(2)
    for name in ("a", "b"):
        older.put([snapshot(session_id=name)], [])
    assert older.get([snapshot(session_id="a")]) == ()
    older.put([snapshot(session_id="c")], [])
    known = [older.get([snapshot(session_id=name)]) is not None for name in "abc"]
    assert known == [True, False, True]

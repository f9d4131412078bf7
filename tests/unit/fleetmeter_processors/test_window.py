"""Which event ids are remembered."""

from fleetmeter_processors.numbers import NOTHING
from fleetmeter_processors.window import SESSIONS_SHARED_MAX, Seen, Window, WindowLimits

LIMITS = WindowLimits(window_ms=100, ids_max=3)


def seen(log_time_ms: int, revision: int = 0) -> Seen:
    """An event that counts nothing."""
    return Seen(revision, 0, NOTHING, log_time_ms)


def window(*times_ms: int) -> Window:
    """A window with events `0`, `1` … metered at these times."""
    found = Window(LIMITS)
    for number, time_ms in enumerate(times_ms):
        found.put(("p", "s", str(number)), seen(time_ms))
    return found


def test_old_and_many_ids_are_forgotten() -> None:
    """Time and number bound the window, whichever is first."""
    found = window(0, 1, 99, 100, 101)
    found.trim(101)
    assert [found.find(("p", "s", str(number))) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    found.trim(200)
    assert len(found) == 2


def test_a_revised_event_is_remembered_anew() -> None:
    """A higher revision renews an id, and does not keep older ones in the window."""
    found = window(0, 1)
    found.put(("p", "s", "0"), seen(50, revision=1))
    found.trim(120)
    assert (found.find(("p", "s", "0")), found.find(("p", "s", "1"))) == (seen(50, 1), None)


def test_parents_are_forgotten_like_ids() -> None:
    """That a priced call happened inside of an event is known as long as an id is."""
    found = Window(LIMITS)
    for number in range(5):
        found.put_parent(("p", "s", str(number)), number)
    found.put_parent(("p", "s", "2"), 90)
    found.trim(103)
    known = [number for number in range(5) if found.is_parent(("p", "s", str(number)))]
    assert known == [2, 3, 4]
    found.trim(150)
    assert [found.is_parent(("p", "s", "2")), found.is_parent(("p", "s", "3"))] == [True, False]


def test_a_sessions_keys_share_its_id() -> None:
    """The id of a session is in memory once, and of very many sessions not for ever."""
    found = Window(LIMITS)
    one, other = (found.key("p", "session-" + "x", event_id) for event_id in "ab")
    assert one[1] is other[1]
    for number in range(SESSIONS_SHARED_MAX):
        found.key("p", str(number), "a")
    assert found.key("p", "session-x", "a") == one

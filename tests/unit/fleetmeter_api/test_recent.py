"""The bounded memory of recent snapshots."""

from fleetmeter_api.recent import Held, RecentSnapshots

VALUE = bytes(700)


def held(offset: int, partition: int = 0, part: int = 1, value: bytes = VALUE) -> Held:
    """A snapshot at an offset of sessions.v1."""
    return Held(part=part, partition=partition, offset=offset, value=value)


def test_last_snapshot_of_a_part_is_kept() -> None:
    """A newer snapshot of the same part replaces the older; another part stands beside it."""
    recent = RecentSnapshots(10, 10**6)
    recent.put(b"k", held(1, value=b"1"))
    recent.put(b"k", held(2, value=b"2"))
    recent.put(b"k", held(3, part=2, value=b"3"))
    assert recent.get(b"k") == (b"2", b"3")
    assert (len(recent), recent.get(b"other"), recent.floors) == (1, (), {})


def test_longest_unchanged_is_dropped_first() -> None:
    """Above the bound the session leaves that changed longest ago, and its place is remembered."""
    recent = RecentSnapshots(2, 10**6)
    recent.put(b"a", held(10))
    recent.put(b"b", held(11, partition=1))
    recent.put(b"a", held(12))
    recent.put(b"c", held(13, partition=1))
    assert [bool(recent.get(key)) for key in (b"a", b"b", b"c")] == [True, False, True]
    assert recent.floors == {1: 12}


def test_bytes_are_bounded_and_counted() -> None:
    """The bound on bytes holds, and what leaves is no longer counted."""
    recent = RecentSnapshots(1_000, 5_000)
    for offset in range(50):
        recent.put(str(offset).encode(), held(offset))
    assert 0 < recent.size_bytes <= 5_000
    assert 0 < len(recent) < 50
    assert recent.floors == {0: 50 - len(recent)}


def test_bytes_come_back_to_zero() -> None:
    """A snapshot that is larger than everything allowed is dropped again, and leaves no trace."""
    recent = RecentSnapshots(1_000, 100)
    recent.put(b"k", held(7))
    assert (recent.size_bytes, len(recent), recent.floors) == (0, 0, {0: 8})


def test_floors_never_go_back() -> None:
    """What was missed stays missed, whatever is missed later."""
    recent = RecentSnapshots(10, 10**6)
    recent.miss(0, 40)
    recent.miss(0, 7)
    assert recent.floors == {0: 41}

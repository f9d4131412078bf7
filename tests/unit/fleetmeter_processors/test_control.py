"""Who may write, as the records of control.v1 say, and how that is kept current."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from fleetmeter_processors.control import Control, ControlState
from fleetmeter_processors.judge import Grant
from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import InvalidRecord, Unavailable
from fleetmeter_schemas.identity import short_hash
from meter_records import KEY_HASH, PROJECT

PROJECTS = Codec("Project")
KEYS = Codec("ApiKey")
Record = tuple[bytes, bytes | None]


def project(**values: Any) -> Record:
    """A project with an idle timeout of a minute."""
    base = {"project_id": PROJECT, "name": "p", "idle_timeout_ms": 60_000, "created_at_ms": 0}
    record = base | values
    return topics.project_key(str(record["project_id"])), PROJECTS.encode(record)


def api_key(key_hash: bytes = KEY_HASH, **values: Any) -> Record:
    """A key of that project."""
    hashed = short_hash(key_hash)
    base = {"key_hash_hash": hashed, "project_id": PROJECT, "hint": "abcd", "created_at_ms": 0}
    return topics.api_key_key(hashed), KEYS.encode(base | values)


def state(*records: Record) -> ControlState:
    """The state after some records."""
    found = ControlState()
    for key, value in records:
        found.apply(key, value)
    return found


def test_a_key_stands_for_its_project() -> None:
    """A key gives project and idle timeout, in whatever order the two records came."""
    expected = Grant(PROJECT, 60_000, None)
    assert expected == state(project(), api_key()).find(KEY_HASH)
    assert expected == state(api_key(), project()).find(KEY_HASH)
    assert state(project(), api_key()).find(bytes(16)) is None


def test_what_is_in_control_cannot_be_used_to_write() -> None:
    """The hash that control.v1 holds is no key."""
    assert state(project(), api_key()).find(short_hash(KEY_HASH)) is None


def test_the_last_record_counts() -> None:
    """A revocation, another timeout, or a removal takes effect at once."""
    found = state(project(), api_key())
    assert found.find(KEY_HASH) == Grant(PROJECT, 60_000, None)
    for key, value in (project(idle_timeout_ms=5), api_key(revoked_at_ms=9)):
        found.apply(key, value)
    assert found.find(KEY_HASH) == Grant(PROJECT, 5, 9)
    found.apply(api_key()[0], None)
    assert found.find(KEY_HASH) is None


def test_a_key_without_its_project_has_the_default() -> None:
    """A key whose project record is not there writes with the usual idle timeout."""
    assert state(api_key()).find(KEY_HASH) == Grant(PROJECT, 1_800_000, None)


def test_other_records_are_left_alone() -> None:
    """Records of kinds that the meter does not need are not read."""
    assert state((topics.CLUSTER_KEY, b"x"), (b"budget:1", b"x")).find(KEY_HASH) is None


class FakeLog:
    """control.v1 in memory; `silent` makes it not answer."""

    def __init__(self, *records: Record) -> None:
        self.records = list(records)
        self.silent = False
        self._position = 0

    def end(self) -> int:
        """The end."""
        return len(self.records)

    def position(self) -> int:
        """The position."""
        return self._position

    def read(self, seconds: float) -> list[Record]:
        """Two records at most."""
        assert seconds >= 0
        if self.silent:
            return []
        found = self.records[self._position : self._position + 2]
        self._position += len(found)
        return found


def control(log: FakeLog) -> tuple[Control, list[InvalidRecord]]:
    """Control over a log, that does not wait; and the records it refused."""
    refused: list[InvalidRecord] = []

    def once(ask: Callable[[], None]) -> None:
        ask()

    return Control(log, refused.append, once), refused


def test_catching_up_reads_to_the_end() -> None:
    """All that is in control.v1 is known after catching up, and refreshing takes what came."""
    log = FakeLog(*(project(name=str(number)) for number in range(5)), api_key())
    keys, refused = control(log)
    assert keys.find(KEY_HASH) is None
    keys.catch_up()
    assert keys.find(KEY_HASH) is not None
    log.records.append(api_key(revoked_at_ms=3))
    keys.refresh()
    assert keys.find(KEY_HASH) == Grant(PROJECT, 60_000, 3)
    assert refused == []


def test_a_log_that_does_not_answer_is_unavailable() -> None:
    """Nothing is decided on half of control.v1."""
    log = FakeLog(api_key())
    log.silent = True
    keys, _ = control(log)
    keys.refresh()
    with pytest.raises(Unavailable):
        keys.catch_up()


def test_an_unreadable_record_is_told_and_passed_over() -> None:
    """One bad control record does not stop the others."""
    log = FakeLog((topics.project_key("x"), b"garbage"), api_key())
    keys, refused = control(log)
    keys.catch_up()
    assert ["not_avro"] == [error.reason for error in refused]
    assert keys.find(KEY_HASH) is not None


def test_many_keys_are_found_again() -> None:
    """Each of many keys is found, however often keys change in between."""
    hashes = [short_hash(UUID(int=number).bytes) for number in range(50)]
    found = ControlState()
    for key_hash in hashes:
        found.apply(*api_key(key_hash))
        assert found.find(key_hash) is not None
    assert all(found.find(key_hash) for key_hash in hashes)

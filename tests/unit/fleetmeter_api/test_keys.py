"""Whose a key is, from records fed by hand."""

import asyncio
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from fleetmeter_api.keys import Keyring, Keys, Tenant
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import Unavailable
from fleetmeter_schemas.identity import NO_KEY, key_hash, short_hash
from fleetmeter_schemas.topics import CLUSTER_KEY, api_key_key, project_key

API_KEY = "3F2C6A9E-8D10-4B57-9A34-5D1C0E7F2B88"
RECORD = Codec("ApiKey")
CLUSTER = Codec("Cluster")


def feed(keyring: Keyring, api_key: str, **values: object) -> None:
    """Have the keyring read a key's record."""
    hashed = short_hash(key_hash(api_key))
    record = {
        "key_hash_hash": hashed,
        "project_id": "p",
        "hint": "",
        "created_at_ms": 0,
        "revoked_at_ms": None,
    }
    keyring.read(0, 0, api_key_key(hashed), RECORD.encode(record | values))


@pytest.fixture
def keyring() -> Keyring:
    """A keyring with one key."""
    keyring = Keyring()
    feed(keyring, API_KEY)
    return keyring


@pytest.mark.parametrize(
    "written", [API_KEY, API_KEY.lower(), API_KEY.replace("-", ""), f" {API_KEY} "]
)
def test_a_key_is_known_however_it_is_written(keyring: Keyring, written: str) -> None:
    """All spellings of the UUID are the same key."""
    assert keyring.tenant(written, 0) == Tenant(project_id="p")  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["", "x", str(uuid4()), key_hash(API_KEY).hex(), NO_KEY.hex()])
def test_other_keys_are_unknown(keyring: Keyring, other: str) -> None:
    """What is no key of a project is nobody's, the key's own hash included."""
    assert keyring.tenant(other, 0) is None


def test_revocation_has_its_time(keyring: Keyring) -> None:
    """A revoked key works until the time that its record says."""
    feed(keyring, API_KEY, revoked_at_ms=100)
    told = [keyring.tenant(API_KEY, now_ms) is not None for now_ms in (99, 100, 101)]
    assert told == [True, False, False]


def test_other_records_are_passed_over(keyring: Keyring) -> None:
    """Projects, kinds to come, tombstones and garbage leave the keys as they are."""
    keyring.read(0, 1, project_key("p"), b"garbage")
    keyring.read(0, 2, b"budget:1", b"garbage")
    keyring.read(0, 3, api_key_key(short_hash(key_hash(API_KEY))), None)
    keyring.read(0, 4, None, b"garbage")
    with capture_logs() as logs:
        keyring.read(0, 5, b"key:00", b"garbage")
    assert keyring.knows(API_KEY)
    assert [entry["event"] for entry in logs] == ["control_record.undecodable"]


def test_the_partition_count_is_remembered(keyring: Keyring) -> None:
    """The cluster's record tells the number of partitions."""
    assert keyring.partitions is None
    keyring.read(0, 1, CLUSTER_KEY, CLUSTER.encode({"partitions": 7, "created_at_ms": 0}))
    assert keyring.partitions == 7


class FakeSource:
    """A follower whose catching up brings a key."""

    def __init__(self, keyring: Keyring) -> None:
        self.has_caught_up = True
        self.calls = 0
        self.brings: str | None = None
        self.away = False
        self._keyring = keyring

    async def catch_up(self, timeout_seconds: float) -> None:
        """Read what is there now."""
        assert timeout_seconds > 0
        self.calls += 1
        if self.away:
            raise Unavailable("control.v1")
        if self.brings is not None:
            feed(self._keyring, self.brings)


def test_known_key_asks_nobody(keyring: Keyring) -> None:
    """A known key is answered from memory, a revoked one too."""
    source = FakeSource(keyring)
    keys = Keys(keyring, source, lambda: 500)
    assert asyncio.run(keys.tenant(API_KEY)) is not None
    feed(keyring, API_KEY, revoked_at_ms=100)
    assert asyncio.run(keys.tenant(API_KEY)) is None
    assert source.calls == 0


def test_unknown_key_is_looked_up_in_the_log_once(keyring: Keyring) -> None:
    """A key created just now is found by catching up; one that is still unknown is refused."""
    source = FakeSource(keyring)
    keys = Keys(keyring, source, lambda: 0)
    source.brings = str(uuid4())
    assert asyncio.run(keys.tenant(source.brings)) is not None
    assert asyncio.run(keys.tenant(str(uuid4()))) is None
    assert source.calls == 2


def test_unknown_key_without_a_broker_is_unavailable(keyring: Keyring) -> None:
    """While nobody can tell whether the key exists, it is not refused."""
    source = FakeSource(keyring)
    source.away = True
    keys = Keys(keyring, source, lambda: 0)
    assert asyncio.run(keys.tenant(API_KEY)) is not None
    with pytest.raises(Unavailable):
        asyncio.run(keys.tenant(str(uuid4())))


def test_before_the_keys_were_read_nobody_is_refused(keyring: Keyring) -> None:
    """Until control.v1 has been read, revocations may be missing: no key is judged."""
    source = FakeSource(keyring)
    source.has_caught_up = False
    with pytest.raises(Unavailable):
        asyncio.run(Keys(keyring, source, lambda: 0).tenant(API_KEY))

from uuid import UUID

import pytest
from confluent_kafka import Message, Producer
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.identity import (
    ID_BYTES_MAX,
    KEY_HASH_BYTES,
    NO_KEY,
    canonical_session_id,
    checked_id,
    key_hash,
    murmur2,
    partition_of,
    session_key,
    short_hash,
    snapshot_key,
    split_snapshot_key,
)
from fleetmeter_schemas.topics import PARTITIONER

DASHED = "0b5ac9b8-6f3e-4d6a-9d0b-5a1c3f7e2d11"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(DASHED, DASHED, id="canonical"),
        pytest.param(DASHED.upper(), DASHED, id="upper_case"),
        pytest.param(DASHED.replace("-", ""), DASHED, id="trace_id"),
        pytest.param(DASHED.replace("-", "").upper(), DASHED, id="trace_id_upper_case"),
        pytest.param("{" + DASHED + "}", DASHED, id="braces"),
        pytest.param("urn:uuid:" + DASHED, "urn:uuid:" + DASHED, id="urn_is_text"),
        pytest.param(DASHED + "\n", DASHED + "\n", id="line_end_is_text"),
        pytest.param(DASHED[:-1], DASHED[:-1], id="short_is_text"),
        pytest.param(
            "0b5ac9b8-6f3e4d6a9d0b5a1c3f7e2d11",
            "0b5ac9b8-6f3e4d6a9d0b5a1c3f7e2d11",
            id="one_dash_is_text",
        ),
        pytest.param("0x" + "a" * 30, "0x" + "a" * 30, id="0x_is_text"),
        pytest.param("1_" * 16, "1_" * 16, id="underscores_are_text"),
        pytest.param("\u0661" * 32, "\u0661" * 32, id="other_digits_are_text"),
        pytest.param("Run 7", "Run 7", id="text_keeps_its_case"),
        pytest.param(" ", " ", id="blank"),
        pytest.param("s" * 200, "s" * 200, id="200_bytes"),
        pytest.param("\u00e9" * 100, "\u00e9" * 100, id="200_bytes_of_100_characters"),
    ],
)
def test_session_ids(text: str, expected: str) -> None:
    """What is a UUID gets one spelling; any other text stays as it is."""
    assert expected == canonical_session_id(text)


@pytest.mark.parametrize("text", ["", "s" * 201, "\u00e9" * 101, "\ud800"])
def test_bad_session_ids(text: str) -> None:
    """An id that is empty, over 200 bytes or no Unicode is rejected as such."""
    with pytest.raises(InvalidRecord) as rejected:
        canonical_session_id(text)
    assert "session_id" == rejected.value.reason


@given(
    text=st.text(min_size=1, max_size=50) | st.uuids().map(str) | st.uuids().map(lambda u: u.hex)
)
def test_canonical_is_idempotent(text: str) -> None:
    """The canonical spelling of a canonical id is itself."""
    once = canonical_session_id(text)
    assert once == canonical_session_id(once)


@given(uuid=st.uuids())
def test_spellings_agree(uuid: UUID) -> None:
    """All spellings of a UUID are one session."""
    spellings = [str(uuid), str(uuid).upper(), uuid.hex, uuid.hex.upper(), f"{{{uuid}}}"]
    assert {str(uuid)} == {canonical_session_id(each) for each in spellings}


@given(text=st.text(max_size=250))
def test_checked_ids(text: str) -> None:
    """An id passes unchanged exactly when it has 1 to 200 bytes."""
    try:
        passed = checked_id(text, "event_id") == text
    except InvalidRecord as rejected:
        passed = False
        assert rejected.reason == "event_id"  # noqa: PT017 - both ends are right
    assert (0 < len(text.encode()) <= ID_BYTES_MAX) == passed


@pytest.mark.parametrize(
    "spelling",
    [DASHED, DASHED.upper(), DASHED.replace("-", ""), f" {DASHED}\n", "{" + DASHED + "}"],
)
def test_key_hash(spelling: str) -> None:
    """Every spelling of a key has the hash of its canonical one: 16 bytes of SHA-256."""
    assert bytes.fromhex("15b2581b70742498b0e1bb6dd8f569d4") == key_hash(spelling)


@pytest.mark.parametrize("text", ["", "secret", DASHED[:-1], "\ud800" * 32])
def test_bad_keys(text: str) -> None:
    """A key that is no UUID is rejected, and the error does not repeat it."""
    with pytest.raises(InvalidRecord) as rejected:
        key_hash(text)
    assert ("api_key", "an API key is a UUID") == (rejected.value.reason, rejected.value.detail)


@given(text=st.text(max_size=40))
def test_any_text_as_key(text: str) -> None:
    """Any text is a key or an InvalidRecord."""
    try:
        size = len(key_hash(text))
    except InvalidRecord:
        size = KEY_HASH_BYTES
    assert KEY_HASH_BYTES == size


def test_hash_of_the_hash() -> None:
    """What control.v1 holds is another hash, from which the first cannot be had."""
    once = key_hash(DASHED)
    assert KEY_HASH_BYTES == len(short_hash(once)) == len(NO_KEY)
    assert short_hash(once) != once


def test_snapshot_key() -> None:
    """Snapshots are keyed by project, session and part, and a session id may hold a slash."""
    key = snapshot_key("p", "s\u00e9/1", 7)

    assert key == "p/s\u00e9/1/7".encode()
    assert split_snapshot_key(key) == (session_key("p", "s\u00e9/1"), 7)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2(key: bytes, expected: int) -> None:
    """The hash is that of Kafka's Java client, by its own test vectors."""
    assert expected % 2**32 == murmur2(key)


def test_partitions_agree_with_the_client() -> None:
    """A key's partition is the one that the Kafka client chooses."""
    producer = Producer({"test.mock.num.brokers": 1, "partitioner": PARTITIONER})
    chosen: dict[bytes, int | None] = {}

    def delivered(error: object, message: Message) -> None:
        assert error is None
        key = message.key()
        assert isinstance(key, bytes)
        chosen[key] = message.partition()

    keys = [f"session-{number}".encode() for number in range(200)] + [DASHED.encode(), b"\xff\x80x"]
    partitions = len(producer.list_topics("events", timeout=10).topics["events"].partitions)
    for key in keys:
        producer.produce("events", key=key, on_delivery=delivered)
    assert producer.flush(10) == 0
    assert partitions > 1
    assert {key: partition_of(key, partitions) for key in keys} == chosen

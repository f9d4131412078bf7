from typing import Any

import pytest

from fleetmeter_schemas.codec import HEADER_BYTES, MARKER, Codec
from fleetmeter_schemas.definitions import fingerprint_of, schema
from fleetmeter_schemas.errors import InvalidRecord

CODEC = Codec("Barrier")
RECORD = {"owner": "host-1"}
DATA = CODEC.encode(RECORD)


def test_header() -> None:
    """A record begins with C3 01 and its schema's fingerprint."""
    assert MARKER + fingerprint_of(schema("Barrier")) == DATA[:HEADER_BYTES]


def test_body() -> None:
    """The body is plain Avro."""
    assert b"\x0chost-1" == DATA[HEADER_BYTES:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "not_avro", id="empty"),
        pytest.param(DATA[:9], "not_avro", id="header_cut"),
        pytest.param(b"\xc3\x02" + DATA[2:], "not_avro", id="other_version"),
        pytest.param(b'{"owner": "host-1"}', "not_avro", id="json"),
        pytest.param(MARKER + bytes(8) + DATA[10:], "unknown_fingerprint", id="unknown"),
        pytest.param(Codec("Cluster").header + DATA[10:], "unknown_fingerprint", id="other_record"),
        pytest.param(DATA[:-1], "undecodable", id="truncated"),
        pytest.param(DATA[:10], "undecodable", id="no_body"),
        pytest.param(DATA + b"\x00", "undecodable", id="left_over"),
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    """What is not a whole record of a known schema is rejected, and the reason tells why."""
    with pytest.raises(InvalidRecord) as rejected:
        CODEC.decode(data)
    assert reason == rejected.value.reason


def test_left_over_is_counted() -> None:
    """The detail tells how many bytes stand behind the record."""
    with pytest.raises(InvalidRecord, match="3 bytes left over"):
        CODEC.decode(DATA + b"abc")


def test_unknown_fingerprint_is_told() -> None:
    """The detail of an unknown fingerprint is the fingerprint."""
    with pytest.raises(InvalidRecord) as rejected:
        CODEC.writer_schema(MARKER + b"\x01\x23\x45\x67\x89\xab\xcd\xef")
    assert "0123456789abcdef" == rejected.value.detail


@pytest.mark.parametrize(("data", "expected"), [(DATA, True), (DATA[:10], True), (b"", False)])
def test_knows(data: bytes, *, expected: bool) -> None:
    """A codec tells its records by their header, without reading on."""
    assert expected == CODEC.knows(data)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({}, id="missing"),
        pytest.param({"owner": "x", "since": 1}, id="unknown_field"),
        pytest.param({"owner": 1}, id="other_type"),
        pytest.param({"owner": "\ud800"}, id="lone_surrogate"),
    ],
)
def test_encode_refuses(record: Any) -> None:
    """A record that does not fit its schema is not written."""
    with pytest.raises((ValueError, TypeError)):
        CODEC.encode(record)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_encode_refuses_large_numbers(number: int) -> None:
    """A number of more than 64 bits is a ValueError."""
    record = dict.fromkeys(("metered_offset", "epoch", "next", "heard_ms", "log_time_ms"), number)
    with pytest.raises(ValueError, match="64 bits"):
        Codec("Checkpoint").encode({"partition": 0, **record})

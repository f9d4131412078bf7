import inspect
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter import encoding
from fleetmeter.encoding import decode, encode
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.records import COUNTED_KINDS, Event

CODEC = Codec("Event")
TEXTS = st.text(max_size=40)
LONGS = st.integers(-(2**63), 2**63 - 1)
EVENTS = st.fixed_dictionaries(
    {
        "key_hash": st.binary(min_size=16, max_size=16),
        "session_id": TEXTS,
        "event_id": TEXTS,
        "kind": st.sampled_from(sorted(COUNTED_KINDS)),
        "writer_id": TEXTS,
        "sequence": LONGS,
        "start_time_us": LONGS,
        "end_time_us": st.none() | LONGS,
    },
    optional={
        field["name"]: st.none() | LONGS if isinstance(field["type"], list) else TEXTS
        for field in CODEC.schema["fields"]
        if field["type"] in ("string", ["null", "long"])
        and field["name"]
        not in {"session_id", "event_id", "writer_id", "start_time_us", "end_time_us"}
    },
)


@given(EVENTS)
def test_bytes_are_those_of_fastavro(record: Any) -> None:
    """Written by hand or by fastavro, a record has the same bytes."""
    assert encode(record) == CODEC.encode(record)


def test_fields_stand_in_the_schemas_order() -> None:
    """The hand-written part names every field that it does not write as constant, in order."""
    source = inspect.getsource(encoding._encode_counted)
    named = re.findall(r'(?:record\[|get\()"(\w+)"', source)
    constant = {"revision", "detail"}
    assert named == [f["name"] for f in CODEC.schema["fields"] if f["name"] not in constant]


def test_what_is_not_counted_goes_through_fastavro() -> None:
    """A heartbeat reads back as it was written."""
    record: Event = {
        "key_hash": bytes(16),
        "session_id": "s",
        "event_id": "e",
        "kind": "heartbeat",
        "writer_id": "w",
        "sequence": 3,
        "start_time_us": 1,
        "end_time_us": 1,
    }
    back = decode(encode(record))
    assert {name: back[name] for name in record} == record  # type: ignore[literal-required]


def test_numbers_beyond_64_bits_raise() -> None:
    """A number that Avro cannot hold is never written wrongly."""
    with pytest.raises(ValueError, match="64-bit"):
        encoding._long(2**63)

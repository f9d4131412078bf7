"""Records written by hand are what fastavro would write."""

from io import BytesIO
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_processors import avro_bytes
from fleetmeter_processors.delta_bytes import encode_delta, encode_writer
from fleetmeter_schemas import block
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.records import NUMBER_NAMES

LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-20_000, 20_000)
TEXTS = st.text(max_size=80)
WRITERS = st.fixed_dictionaries(
    {
        "writer_id": TEXTS,
        "heard_ms": LONGS,
        "heartbeat": st.booleans(),
        "announced": LONGS,
        "ended": st.booleans(),
        "runs": st.lists(LONGS, max_size=6),
    }
)
DETAILS = st.none() | st.fixed_dictionaries({"name": TEXTS, "tags_added": st.lists(TEXTS)}).map(
    lambda update: ("fleetmeter.SessionUpdate", update)
)
LIFECYCLES = st.none() | st.fixed_dictionaries(
    {
        "kind": st.just("session_started"),
        "event_time_us": LONGS,
        "writer_id": TEXTS,
        "detail": DETAILS,
    }
)
DELTAS = st.fixed_dictionaries(
    {
        "project_id": TEXTS,
        "session_id": TEXTS,
        "first_offset": LONGS,
        "first_time_us": st.none() | LONGS,
        "last_time_us": st.none() | LONGS,
        "heard_ms": LONGS,
        "log_time_ms": LONGS,
        "idle_timeout_ms": LONGS,
        "counted": LONGS,
        "saturated": st.booleans(),
        "numbers": st.lists(LONGS, min_size=len(NUMBER_NAMES), max_size=len(NUMBER_NAMES)),
        "conversation_id": TEXTS,
        "user_id": TEXTS,
        "writers": st.lists(WRITERS, max_size=3),
        "lifecycle": LIFECYCLES,
    }
)


@given(DELTAS)
def test_a_delta_is_encoded_as_its_schema_says(delta: dict[str, Any]) -> None:
    """The bytes of a delta written by hand are those of fastavro."""
    out = BytesIO()
    numbers = dict(zip(NUMBER_NAMES, delta["numbers"], strict=True))
    fastavro.schemaless_writer(out, schema("Delta"), delta | {"numbers": numbers})
    writers = [encode_writer(**writer) for writer in delta["writers"]]
    by_hand = encode_delta(**delta | {"writers": writers, "numbers": tuple(delta["numbers"])})
    assert out.getvalue() == by_hand


@given(LONGS)
def test_a_long_is_encoded_as_its_plain_form(number: int) -> None:
    """The tables say what the contract's plain encoder says."""
    assert block.encode_long(number) == avro_bytes.encode_long(number)
    assert block.encode_long(number) == avro_bytes.encode_longs([number])

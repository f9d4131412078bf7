"""The verdict behind an event's bytes is what fastavro would write, and is read back."""

from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmeter_processors.enrichment import encode_enrichment, read_events
from fleetmeter_processors.pricing import NO_COST, Cost
from fleetmeter_schemas.block import Items
from fleetmeter_schemas.codec import HEADER_BYTES
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.records import CostStatus
from meter_records import EVENT, PROJECT, START_US, event, llm

LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(max_size=60)
COSTS = st.just(NO_COST) | st.builds(
    Cost,
    input_pico_usd=st.none() | LONGS,
    output_pico_usd=st.none() | LONGS,
    total_pico_usd=st.none() | LONGS,
    computed_pico_usd=st.none() | LONGS,
    status=st.sampled_from(CostStatus),
    price_id=TEXTS,
    price_match=TEXTS,
)
VERDICTS = st.fixed_dictionaries(
    {
        "project_id": TEXTS,
        "first_start_time_us": LONGS,
        "clock_skewed": st.booleans(),
        "heard_ms": LONGS,
        "partition": st.integers(0, 2**31 - 1),
        "offset": LONGS,
        "log_time_ms": LONGS,
    }
)


def record_of(verdict: dict[str, Any], cost: Cost) -> dict[str, Any]:
    """The Enrichment as a record."""
    return verdict | {
        "cost_input_pico_usd": cost.input_pico_usd,
        "cost_output_pico_usd": cost.output_pico_usd,
        "cost_pico_usd": cost.total_pico_usd,
        "computed_cost_pico_usd": cost.computed_pico_usd,
        "cost_status": str(cost.status),
        "price_id": cost.price_id,
        "price_match": cost.price_match,
    }


@given(VERDICTS, COSTS)
def test_a_verdict_is_encoded_as_its_schema_says(verdict: dict[str, Any], cost: Cost) -> None:
    """The bytes written by hand are those of fastavro."""
    out = BytesIO()
    fastavro.schemaless_writer(out, schema("Enrichment"), record_of(verdict, cost))
    assert out.getvalue() == encode_enrichment(**verdict, cost=cost)


VERDICT: dict[str, Any] = {
    "project_id": PROJECT,
    "first_start_time_us": START_US,
    "clock_skewed": False,
    "heard_ms": 5,
    "partition": 2,
    "offset": 7,
    "log_time_ms": 9,
}


def test_metered_events_are_read_one_after_the_other() -> None:
    """Event and verdict, put together, are a MeteredEvent; a block's are read in order."""
    metered = [
        EVENT.encode(record)[HEADER_BYTES:] + encode_enrichment(**VERDICT, cost=NO_COST)
        for record in (event(event_id="a", output="xyz"), llm(event_id="b"))
    ]
    whole: Any = fastavro.schemaless_reader(BytesIO(metered[0]), schema("MeteredEvent"), None)
    assert ("a", "xyz", 7) == (whole["event_id"], whole["output"], whole["offset"])
    found = read_events(Items(count=2, data=memoryview(b"".join(metered))))
    assert [prefix.event_id for prefix, _ in found] == ["a", "b"]
    assert {record_of(VERDICT, NO_COST)["heard_ms"]} == {said["heard_ms"] for _, said in found}


def test_a_cut_metered_event_is_refused() -> None:
    """A block whose last event is cut is not read as if it were whole."""
    data = EVENT.encode(event())[HEADER_BYTES:] + encode_enrichment(**VERDICT, cost=NO_COST)[:-1]
    with pytest.raises(InvalidRecord, match="undecodable"):
        read_events(Items(count=1, data=memoryview(data)))

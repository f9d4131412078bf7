"""Encodes and reads the meter's verdict behind an event's own bytes; judges nothing.

Written by hand for speed, in the order of fleetmeter.Enrichment.avsc; a property test holds it
against fastavro.
"""

from functools import lru_cache
from io import BytesIO
from typing import Any, Final, cast

import fastavro

from fleetmeter_processors.avro_bytes import encode_long, encode_optional, encode_text
from fleetmeter_processors.prefix import UNDECODABLE, Prefix, decode_prefix
from fleetmeter_processors.pricing import NO_COST, Cost
from fleetmeter_schemas.block import Items
from fleetmeter_schemas.codec import READ_ERRORS
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.records import Enrichment

_SCHEMA: Final = schema("Enrichment")
_STATUSES: Final = {
    symbol: encode_long(index)
    for index, symbol in enumerate(
        next(field for field in _SCHEMA["fields"] if field["name"] == "cost_status")["type"][
            "symbols"
        ]
    )
}

# A fleet uses some dozens of projects, models and prices; neighbours share their times, because
# brokers stamp a whole batch at once.
_shared_text: Final = lru_cache(maxsize=10_000)(encode_text)
_shared_long: Final = lru_cache(maxsize=1_000)(encode_long)


def _cost(cost: Cost) -> bytes:
    total = encode_optional(cost.total_pico_usd)
    same = cost.computed_pico_usd == cost.total_pico_usd
    return b"".join(
        (
            encode_optional(cost.input_pico_usd),
            encode_optional(cost.output_pico_usd),
            total,
            total if same else encode_optional(cost.computed_pico_usd),
            _STATUSES[cost.status],
            _shared_text(cost.price_id),
            _shared_text(cost.price_match),
        )
    )


_NO_COST: Final = _cost(NO_COST)


def encode_enrichment(
    *,
    project_id: str,
    first_start_time_us: int,
    cost: Cost,
    clock_skewed: bool,
    heard_ms: int,
    partition: int,
    offset: int,
    log_time_ms: int,
) -> bytes:
    """The verdict's bytes, to be appended to the event's body."""
    return b"".join(
        (
            _shared_text(project_id),
            encode_long(first_start_time_us),
            _NO_COST if cost is NO_COST else _cost(cost),
            b"\x01" if clock_skewed else b"\x00",
            _shared_long(heard_ms),
            _shared_long(partition),
            encode_long(offset),
            _shared_long(log_time_ms),
        )
    )


def read_events(items: Items) -> list[tuple[Prefix, Enrichment]]:
    """The metered events of a block: prefix and verdict, payload skipped.

    Raises:
        InvalidRecord: `undecodable`.
    """
    data = bytes(items.data)
    source = BytesIO(data)
    events = []
    position = 0
    for _ in range(items.count):
        prefix, position = decode_prefix(data, position)
        source.seek(position)
        try:
            verdict: Any = fastavro.schemaless_reader(source, _SCHEMA, None)
        except READ_ERRORS as error:
            raise InvalidRecord(UNDECODABLE, str(error)) from error
        position = source.tell()
        events.append((prefix, cast("Enrichment", verdict)))
    return events

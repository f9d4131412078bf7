"""Writes records of events.v1 as bytes.

What a program records is written by hand, in half of fastavro's time; a test holds it to the
schema and to fastavro, which writes all else.
"""

from functools import lru_cache
from typing import Any, Final

from fleetmeter_schemas.block import encode_long
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.records import COUNTED_KINDS, Event

_CODEC: Final = Codec("Event")
_KINDS: Final[list[str]] = next(
    field["type"]["symbols"] for field in _CODEC.schema["fields"] if field["name"] == "kind"
)
_KIND: Final = {name: encode_long(position) for position, name in enumerate(_KINDS)}
_SMALL: Final = [encode_long(number) for number in range(4096)]
_SOME: Final = [b"\x02" + number for number in _SMALL]
_NULL: Final = b"\x00"
_ZERO: Final = b"\x00"
_REVISION: Final = _ZERO
_INT64: Final = 2**63


def encode(record: Event) -> bytes:
    """The record with its single-object header; raises for what does not fit the schema."""
    if record["kind"] in COUNTED_KINDS:
        return _encode_counted(record)
    return _CODEC.encode(record)


def decode(data: bytes) -> Event:
    """The record in these bytes; raises InvalidRecord."""
    record: Event = _CODEC.decode(data)
    return record


def _encode_counted(record: Event) -> bytes:
    """In the schema's order, defaults written out; such records have revision 0 and no detail."""
    get: Any = record.get
    return b"".join(
        (
            _CODEC.header,
            record["key_hash"],
            _label(record["session_id"]),
            _text(record["event_id"]),
            _REVISION,
            _KIND[record["kind"]],
            _label(record["writer_id"]),
            _long(record["sequence"]),
            _long(record["start_time_us"]),
            _optional(record["end_time_us"]),
            _label(get("name", "")),
            _label(get("provider", "")),
            _label(get("model", "")),
            _label(get("service_tier", "")),
            _optional(get("input_tokens")),
            _optional(get("output_tokens")),
            _optional(get("cache_read_tokens")),
            _optional(get("cache_write_5m_tokens")),
            _optional(get("cache_write_1h_tokens")),
            _optional(get("reasoning_tokens")),
            _optional(get("reported_cost_pico_usd")),
            _optional(get("time_to_first_token_us")),
            _label(get("error_type", "")),
            _label(get("user_id", "")),
            _label(get("conversation_id", "")),
            _label(get("agent_id", "")),
            _text(get("parent_id", "")),
            _text(get("trace_id", "")),
            _text(get("span_id", "")),
            _NULL,
            _text(get("input", "")),
            _text(get("output", "")),
            _text(get("logs", "")),
            _text(get("attributes", "")),
        )
    )


def _text(text: str) -> bytes:
    if not text:
        return _ZERO
    data = text.encode()
    return _long(len(data)) + data


_label = lru_cache(maxsize=2048)(_text)
"""For texts that come again: names, models, ids of agents."""


def _long(number: int) -> bytes:
    if 0 <= number < len(_SMALL):
        return _SMALL[number]
    if not -_INT64 <= number < _INT64:
        raise ValueError(f"not a 64-bit number: {number}")
    return encode_long(number)


def _optional(number: int | None) -> bytes:
    if number is None:
        return _NULL
    if 0 <= number < len(_SOME):
        return _SOME[number]
    return b"\x02" + _long(number)

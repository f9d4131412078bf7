"""The byte layout of a Block: written and opened without touching what is inside its arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from fleetmeter_schemas.codec import HEADER_BYTES, Codec, read_record
from fleetmeter_schemas.definitions import Schema, schema
from fleetmeter_schemas.errors import InvalidRecord

CODEC = Codec("Block")
EMPTY = b"\x00"
ARRAYS = ("deltas", "events", "rejects")
_LONG_BITS = 0xFFFF_FFFF_FFFF_FFFF
_LOW_BITS = 0x7F  # of each byte of a number; its high bit says that more follow
_MORE = 0x80
_DELTA = schema("Delta")
_REJECT = schema("Reject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """One array of a block, still encoded: `count` records, one after the other."""

    count: int
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block's numbers, and its arrays undecoded. Field docs: fleetmeter.Block.avsc."""

    epoch: int
    first: int
    next: int
    heard_ms: int
    log_time_ms: int
    duplicates: int
    deltas: Items
    events: Items
    rejects: Items


def encode_block(
    *,
    epoch: int,
    first: int,
    next: int,  # noqa: A002 - the field's name
    heard_ms: int,
    log_time_ms: int,
    duplicates: int,
    deltas: Sequence[bytes],
    events: Sequence[bytes],
    rejects: Sequence[bytes],
) -> bytes:
    """The block with its single-object header; each array's members come encoded.

    Raises:
        ValueError: A number has more than 64 bits.
    """
    out = bytearray(CODEC.header)
    for number in (epoch, first, next, heard_ms, log_time_ms, duplicates):
        out += encode_long(number)
    for members in (deltas, events, rejects):
        out += encode_array(members)
    return bytes(out)


def encode_array(members: Sequence[bytes]) -> bytes:
    """An Avro array in one run, with negative count and size in bytes, of encoded members."""
    if not members:
        return EMPTY
    data = b"".join(members)
    return encode_long(-len(members)) + encode_long(len(data)) + data + EMPTY


def open_block(data: bytes) -> Block:
    """The block in these bytes; its arrays are views into them.

    Raises:
        InvalidRecord: `undecodable`, where the layout is not ours, or the header's reasons.
    """
    CODEC.writer_schema(data)
    view = memoryview(data)
    numbers = []
    position = HEADER_BYTES
    for _ in range(6):
        number, position = decode_long(view, position)
        numbers.append(number)
    arrays = []
    for _ in ARRAYS:
        items, position = _open_array(view, position)
        arrays.append(items)
    if position != len(data):
        raise InvalidRecord("undecodable", f"{len(data) - position} bytes left over")
    epoch, first, following, heard_ms, log_time_ms, duplicates = numbers
    if not 0 <= first <= following:
        raise InvalidRecord("undecodable", f"it covers [{first}, {following})")
    deltas, events, rejects = arrays
    return Block(
        epoch=epoch,
        first=first,
        next=following,
        heard_ms=heard_ms,
        log_time_ms=log_time_ms,
        duplicates=duplicates,
        deltas=deltas,
        events=events,
        rejects=rejects,
    )


def decode_deltas(items: Items) -> list[Any]:
    """The deltas of a block as records (dicts); field docs: fleetmeter.Delta.avsc.

    Raises:
        InvalidRecord: `undecodable`.
    """
    return _decode(items, _DELTA)


def decode_rejects(items: Items) -> list[Any]:
    """The rejects of a block as records (dicts); field docs: fleetmeter.Reject.avsc.

    Raises:
        InvalidRecord: `undecodable`.
    """
    return _decode(items, _REJECT)


def encode_long(number: int) -> bytes:
    """Avro's zig-zag variable-length long; raises ValueError outside of 64 signed bits."""
    value = (number << 1) ^ (number >> 63)
    if not 0 <= value <= _LONG_BITS:
        raise ValueError(f"{number} has more than 64 bits")
    out = bytearray()
    while value > _LOW_BITS:
        out.append((value & _LOW_BITS) | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_long(view: memoryview, position: int) -> tuple[int, int]:
    """The long at a position, and the position behind it.

    Raises:
        InvalidRecord: `undecodable`: the bytes end inside it, or it has more than 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise InvalidRecord("undecodable", "a number runs past the end")
        byte = view[position]
        position += 1
        value |= (byte & _LOW_BITS) << shift
        if byte < _MORE:
            if value > _LONG_BITS:
                break
            return (value >> 1) ^ -(value & 1), position
    raise InvalidRecord("undecodable", "a number of more than 64 bits")


def _decode(items: Items, record_schema: Schema) -> list[Any]:
    source = BytesIO(items.data)
    records = [read_record(source, record_schema, record_schema) for _ in range(items.count)]
    if source.tell() != len(items.data):
        raise InvalidRecord("undecodable", f"{len(items.data) - source.tell()} bytes left over")
    return records


def _open_array(view: memoryview, position: int) -> tuple[Items, int]:
    count, position = decode_long(view, position)
    if count == 0:
        return Items(count=0, data=view[:0]), position
    if count > 0:
        raise InvalidRecord("undecodable", "an array without its size in bytes")
    size, position = decode_long(view, position)
    end = position + size
    if size < 0 or end >= len(view) or view[end] != 0:
        raise InvalidRecord("undecodable", "an array that does not end where it says")
    if -count > size:
        raise InvalidRecord("undecodable", "an array of more members than bytes")
    return Items(count=-count, data=view[position:end]), end + 1

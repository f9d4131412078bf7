from collections.abc import Sequence
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmeter_schemas import definitions, golden
from fleetmeter_schemas.block import (
    decode_deltas,
    decode_long,
    decode_rejects,
    encode_array,
    encode_long,
    open_block,
)
from fleetmeter_schemas.codec import HEADER_BYTES, Codec
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.golden import Valid

QUICK = settings(max_examples=60)
LONGS = st.integers(-(2**63), 2**63 - 1)
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS,
    "string": st.text(max_size=20),
    "bytes": st.binary(max_size=20),
}


def values(definition: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one a type
    """All values of a schema, in the form in which they are written."""
    match definition:
        case str() if definition.startswith("fleetmeter."):
            return values(schema(definition.removeprefix("fleetmeter.")))
        case str():
            return PRIMITIVES[definition]
        case list():
            return st.one_of([branch(each, definition) for each in definition])
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({each["name"]: values(each["type"]) for each in fields})
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from(symbols)
        case {"type": "array", "items": items}:
            return st.lists(values(items), max_size=3)
        case {"type": "map", "values": members}:
            return st.dictionaries(st.text(max_size=5), values(members), max_size=3)
        case {"type": "fixed", "size": size}:
            return st.binary(min_size=size, max_size=size)
        case _:
            raise AssertionError(definition)


def branch(definition: Any, union: list[Any]) -> st.SearchStrategy[Any]:
    """All values of a union's branch; a record among several goes with its name."""
    name = definition if isinstance(definition, str) else definition.get("name", "")
    plain = not name.startswith("fleetmeter.") or len(union) == len(["null", name])
    return values(definition) if plain else st.tuples(st.just(name), values(definition))


def blocks() -> st.SearchStrategy[Any]:
    """Blocks whose raw offsets go forward."""
    offsets = st.integers(0, 2**63 - 1)
    pairs = st.tuples(offsets, offsets).map(sorted)
    return st.tuples(values(schema("Block")), pairs).map(
        lambda drawn: drawn[0] | {"first": drawn[1][0], "next": drawn[1][1]}
    )


EVERY = st.sampled_from([name for name in definitions.names() if name != "Block"]).flatmap(
    lambda name: st.tuples(st.just(name), values(schema(name)))
)
GOLDEN = [example for name in definitions.names() for example in golden.valid(name)]


@QUICK
@given(record=values(schema("Event")))
def test_events(record: Any) -> None:
    """Any event is read back as it was written."""
    assert golden.as_read(record) == Codec("Event").decode(Codec("Event").encode(record))


@QUICK
@given(drawn=EVERY)
def test_every_record(drawn: tuple[str, Any]) -> None:
    """Any value of any schema is read back as it was written."""
    name, record = drawn
    assert golden.as_read(record) == Codec(name).decode(Codec(name).encode(record))


@QUICK
@given(record=values(schema("Event")), verdict=values(schema("Enrichment")))
def test_appended_verdict(record: Any, verdict: Any) -> None:
    """An event's body followed by a verdict's body is a metered event."""
    body = Codec("Event").encode(record)[HEADER_BYTES:]
    suffix = Codec("Enrichment").encode(verdict)[HEADER_BYTES:]
    codec = Codec("MeteredEvent")
    assert golden.as_read(record | verdict) == codec.decode(codec.header + body + suffix)


@QUICK
@given(record=blocks())
def test_block_layout_is_standard(record: Any) -> None:
    """A block laid out by hand is read by plain Avro, with the whole schema."""
    source = BytesIO(golden.encode("Block", record))
    source.seek(HEADER_BYTES)
    found = fastavro.schemaless_reader(source, schema("Block"), None)
    assert (golden.as_read(record), b"") == (found, source.read())


@QUICK
@given(record=blocks())
def test_blocks_open(record: Any) -> None:
    """Any block is opened to what was put in, its events as their bytes."""
    block = open_block(golden.encode("Block", record))
    events = b"".join(
        Codec("MeteredEvent").encode(each)[HEADER_BYTES:] for each in record["events"]
    )
    expected = golden.as_read(record)
    assert (record["epoch"], record["first"], record["next"]) == (
        block.epoch,
        block.first,
        block.next,
    )
    assert expected["deltas"] == decode_deltas(block.deltas)
    assert expected["rejects"] == decode_rejects(block.rejects)
    assert (len(record["events"]), events) == (block.events.count, bytes(block.events.data))


@st.composite
def mutations(draw: st.DrawFn, examples: Sequence[Valid]) -> tuple[str, bytes]:
    """The bytes of an example with some of them changed, cut out or put in; the header stays."""
    example = draw(st.sampled_from(examples))
    data = bytearray(example.data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(HEADER_BYTES, len(data)))
        end = min(len(data), start + draw(st.integers(0, 3)))
        data[start:end] = draw(st.binary(max_size=12))
    return example.schema_name, bytes(data)


@settings(max_examples=600)
@given(mutated=mutations(GOLDEN))
def test_mutated_bytes(mutated: tuple[str, bytes]) -> None:
    """Whatever the bytes, they are a record or an InvalidRecord."""
    name, data = mutated
    try:
        record = Codec(name).decode(data)
    except InvalidRecord as rejected:
        assert rejected.reason == "undecodable"  # noqa: PT017 - both ends are right
    else:
        assert record is not None


@settings(max_examples=400)
@given(mutated=mutations(golden.valid("Block")))
def test_mutated_blocks(mutated: tuple[str, bytes]) -> None:
    """Whatever the bytes, they open as a block whose arrays can be told, or are rejected."""
    try:
        block = open_block(mutated[1])
        decoded = len(decode_deltas(block.deltas)) + len(decode_rejects(block.rejects))
    except InvalidRecord as rejected:
        assert rejected.reason == "undecodable"  # noqa: PT017 - both ends are right
    else:
        assert block.deltas.count + block.rejects.count == decoded


@given(number=LONGS, behind=st.binary(max_size=3))
def test_longs(number: int, behind: bytes) -> None:
    """A long is read back, and the position stands behind it."""
    data = encode_long(number)
    assert (number, len(data)) == decode_long(memoryview(data + behind), 0)


@given(number=LONGS)
def test_longs_are_standard(number: int) -> None:
    """A long is written as plain Avro writes it."""
    out = BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    assert out.getvalue() == encode_long(number)


@given(number=st.integers(2**63) | st.integers(max_value=-(2**63) - 1))
def test_longs_have_64_bits(number: int) -> None:
    """A larger number is not written."""
    with pytest.raises(ValueError, match="64 bits"):
        encode_long(number)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, -(2**200)])
def test_first_numbers_beyond(number: int) -> None:
    """The first numbers beyond 64 bits are not written."""
    with pytest.raises(ValueError, match="64 bits"):
        encode_long(number)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80", b"\xff" * 9, b"\xff" * 9 + b"\x02", b"\xff" * 9 + b"\x7f", b"\xff" * 20],
)
def test_longs_end(data: bytes) -> None:
    """A number that does not end, or has more than 64 bits, is rejected."""
    with pytest.raises(InvalidRecord):
        decode_long(memoryview(data), 0)


@pytest.mark.parametrize(
    ("members", "expected"),
    [([], "00"), ([b"a"], "010261" + "00"), ([b"a", b"bc"], "0306616263" + "00")],
)
def test_arrays(members: list[bytes], expected: str) -> None:
    """An array is one run: negative count, size in bytes, members, end."""
    assert expected == encode_array(members).hex()

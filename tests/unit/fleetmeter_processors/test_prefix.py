"""The generated decoder reads what fastavro reads, and refuses all that does not fit."""

from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetmeter_processors.prefix import PAYLOAD, Prefix, decode_event, decode_prefix, source_of
from fleetmeter_schemas.block import encode_long
from fleetmeter_schemas.codec import HEADER_BYTES
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.records import EndState, Kind
from meter_records import EVENT, ended, event, llm

FIELDS = [field["name"] for field in schema("Event")["fields"]]
LONGS = st.integers(-(2**63), 2**63 - 1)
INTS = st.integers(-(2**31), 2**31 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
PLAIN = {"string": TEXTS, "long": LONGS, "int": INTS}
OPTIONAL_TEXTS = st.none() | TEXTS
UPDATES = st.fixed_dictionaries(
    {
        "name": OPTIONAL_TEXTS,
        "user_id": OPTIONAL_TEXTS,
        "video": OPTIONAL_TEXTS,
        "tags_set": st.none() | st.lists(TEXTS, max_size=3),
        "tags_added": st.lists(TEXTS, max_size=3),
        "agents": st.dictionaries(TEXTS, TEXTS, max_size=3),
    }
)
ENDS = st.fixed_dictionaries(
    {
        "end_state": st.sampled_from([str(state) for state in EndState]),
        "end_state_said": TEXTS,
        "reason": TEXTS,
        "last_sequence": LONGS,
        "video": OPTIONAL_TEXTS,
    }
)
DETAILS = (
    st.none()
    | st.tuples(st.just("fleetmeter.SessionUpdate"), UPDATES)
    | st.tuples(st.just("fleetmeter.SessionEnd"), ENDS)
)


def values_of(kind: Any, name: str) -> st.SearchStrategy[Any]:
    """Values of one field."""
    match kind:
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from(symbols)
        case {"type": "fixed", "size": size}:
            return st.binary(min_size=size, max_size=size)
        case ["null", "long"]:
            return st.none() | LONGS
        case str():
            return PLAIN[kind]
        case _:
            assert name == "detail"
            return DETAILS


EVENTS = st.fixed_dictionaries(
    {field["name"]: values_of(field["type"], field["name"]) for field in schema("Event")["fields"]}
)


def by_fastavro(data: bytes) -> tuple[tuple[Any, ...], int]:
    """Prefix and end as fastavro reads them; a payload need not be UTF-8."""
    source = BytesIO(data)
    source.seek(HEADER_BYTES)
    record: Any = fastavro.schemaless_reader(
        source, EVENT.schema, None, handle_unicode_errors="surrogateescape"
    )
    return tuple(record[name] for name in Prefix._fields), source.tell()


def flat(prefix: Prefix) -> tuple[Any, ...]:
    """A prefix with its detail as fastavro gives it."""
    detail = prefix.detail
    return (*prefix[:-1], None if detail is None else detail.record)


def test_the_prefix_is_the_schema_without_its_payload() -> None:
    """Prefix has the fields of Event in their order, and the payload comes last."""
    assert FIELDS == [*Prefix._fields, *PAYLOAD]


def test_the_source_is_straight_line_text() -> None:
    """The generated source names each field in the schema's order."""
    source = source_of(schema("Event"))
    assert FIELDS == [line.strip()[2:] for line in source.splitlines() if "# " in line]


def test_a_type_without_a_template_is_our_mistake() -> None:
    """A new kind of field in the schema does not pass silently."""
    with pytest.raises(AssertionError, match="no template"):
        source_of({"fields": [{"name": "share", "type": "double"}]})


@given(EVENTS)
def test_valid_events_are_read_as_fastavro_reads_them(record: dict[str, Any]) -> None:
    """Whatever the codec writes is read equal, to its very end."""
    data = EVENT.encode(record)
    prefix, end = decode_prefix(data, HEADER_BYTES)
    assert by_fastavro(data) == (flat(prefix), end)
    assert prefix == decode_event(data, HEADER_BYTES)
    assert prefix.detail is None or prefix.detail.plain


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An event with a few bytes changed, cut out or put in."""
    data = bytearray(EVENT.encode(draw(EVENTS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(HEADER_BYTES, max(HEADER_BYTES, len(data) - 1)))
        size = draw(st.integers(0, 3))
        data[at : at + size] = draw(st.binary(max_size=4))
    return bytes(data)


@settings(max_examples=400)
@given(damaged() | st.binary(max_size=200).map(lambda tail: EVENT.header + tail))
def test_damaged_events_are_refused_or_read_alike(data: bytes) -> None:
    """Nothing but InvalidRecord comes out of damaged bytes, or what fastavro reads from them."""
    try:
        prefix = decode_event(data, HEADER_BYTES)
    except InvalidRecord:
        return
    assert by_fastavro(data) == (flat(prefix), len(data))


@given(EVENTS, st.integers(1, 40))
def test_no_proper_beginning_of_an_event_is_an_event(record: dict[str, Any], cut: int) -> None:
    """A body that stops short is refused, wherever it stops."""
    data = EVENT.encode(record)
    short = data[: max(HEADER_BYTES, len(data) - cut)]
    with pytest.raises(InvalidRecord, match="undecodable"):
        decode_event(short, HEADER_BYTES)


def test_bytes_behind_the_end_are_refused() -> None:
    """A body that goes on behind its end is refused."""
    with pytest.raises(InvalidRecord, match="1 bytes left over"):
        decode_event(EVENT.encode(event()) + b"\x00", HEADER_BYTES)


def replaced(record: dict[str, Any], old: bytes, new: bytes) -> bytes:
    """The event's bytes with one piece replaced."""
    data = EVENT.encode(record)
    assert data.count(old) == 1
    return data.replace(old, new)


MARK = "\x7fmark\x7f"
MARK_BYTES = encode_long(6) + MARK.encode()


@pytest.mark.parametrize(
    ("field", "piece", "why"),
    [
        ("event_id", b"\x0c\x7fm\xffrk\x7f", "not UTF-8"),
        ("event_id", encode_long(-6) + MARK.encode(), "negative length"),
        ("event_id", encode_long(2**40) + MARK.encode(), "not UTF-8"),
        ("event_id", b"\xff" * 10 + b"\x00" + MARK.encode(), "more than ten bytes"),
        ("event_id", b"\xfe" + b"\xff" * 8 + b"\x7f" + MARK.encode(), "more than 64 bits"),
        ("attributes", encode_long(-6) + MARK.encode(), "negative length"),
        ("attributes", encode_long(7) + MARK.encode(), "left over"),
        ("input", encode_long(2**62) + MARK.encode(), "past its end"),
    ],
)
def test_forged_texts_are_refused(field: str, piece: bytes, why: str) -> None:
    """A text's length that lies, in the prefix or in the payload, is refused."""
    data = replaced(event(**{field: MARK}), MARK_BYTES, piece)
    with pytest.raises(InvalidRecord, match=f"undecodable.*{why}"):
        decode_event(data, HEADER_BYTES)


def test_a_payload_need_not_be_text() -> None:
    """The payload is skipped by its lengths; nobody looks into it."""
    data = replaced(event(output=MARK), MARK_BYTES, b"\x0c\xff\xff\xff\xff\xff\xff")
    assert decode_event(data, HEADER_BYTES).event_id == "e1"


@pytest.mark.parametrize("index", [-1, 10, 2**40])
def test_an_unknown_symbol_is_refused(index: int) -> None:
    """An enum index that the schema does not have is refused."""
    before = encode_long(6) + MARK.encode() + encode_long(0)
    data = replaced(
        event(event_id=MARK, kind="tick"),
        before + encode_long(list(Kind).index(Kind.TICK)),
        before + encode_long(index),
    )
    with pytest.raises(InvalidRecord, match="no such symbol"):
        decode_event(data, HEADER_BYTES)


@pytest.mark.parametrize("revision", [2**31, -(2**31) - 1])
def test_an_int_has_32_bits(revision: int) -> None:
    """A number that does not fit its field's type is refused, as other readers refuse it."""
    before = encode_long(6) + MARK.encode()
    data = replaced(event(event_id=MARK), before + encode_long(0), before + encode_long(revision))
    with pytest.raises(InvalidRecord, match="32 bits"):
        decode_event(data, HEADER_BYTES)


@pytest.mark.parametrize("branch", [b"\x01", b"\x04", b"\x08", b"\x80\x00"])
def test_an_unknown_branch_is_refused(branch: bytes) -> None:
    """A union's branch that the schema does not have is refused."""
    data = replaced(llm(input_tokens=123456), b"\x02" + encode_long(123456), branch)
    with pytest.raises(InvalidRecord, match="undecodable"):
        decode_event(data, HEADER_BYTES)


def test_an_unknown_detail_is_refused() -> None:
    """A detail of a record that the schema does not have is refused."""
    data = replaced(ended(event_id=MARK, span_id="z"), b"\x02z\x04", b"\x02z\x08")
    with pytest.raises(InvalidRecord, match="no such branch"):
        decode_event(data, HEADER_BYTES)


def test_a_detail_written_in_sized_blocks_is_not_plain() -> None:
    """Arrays may be written with a size that some readers trust: such a detail is marked."""
    update = {"tags_added": [MARK]}
    record = event(
        kind="session_updated", detail=("fleetmeter.SessionUpdate", update), event_id="z"
    )
    sized = encode_long(-1) + encode_long(3) + MARK_BYTES
    data = replaced(record, encode_long(1) + MARK_BYTES, sized)
    detail = decode_event(data, HEADER_BYTES).detail
    assert detail is not None
    assert detail.record["tags_added"] == [MARK]
    assert not detail.plain

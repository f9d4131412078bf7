from copy import deepcopy
from io import BytesIO
from typing import Any

import fastavro
import pytest
from fastavro.schema import parse_schema

from fleetmeter_schemas import golden
from fleetmeter_schemas.codec import MARKER, Codec
from fleetmeter_schemas.definitions import Schema, fingerprint_of, schema
from fleetmeter_schemas.errors import InvalidRecord

RECORD = {
    "key_hash": bytes(16),
    "session_id": "s",
    "event_id": "e",
    "kind": "llm",
    "start_time_us": 1,
    "service_tier": "batch",
    "input_tokens": 3,
}


def changed(fields: list[Any], kinds: list[str], states: list[str]) -> Schema:
    """The event's schema with more fields behind the service tier, more kinds, more end states."""
    definition = {
        name: deepcopy(value)
        for name, value in schema("Event").items()
        if not name.startswith("__")
    }
    names = [field["name"] for field in definition["fields"]]
    place = names.index("service_tier") + 1
    definition["fields"][names.index("kind")]["type"]["symbols"] += kinds
    end = definition["fields"][names.index("detail")]["type"][2]
    end["fields"][0]["type"]["symbols"] += states
    definition["fields"][place:place] = fields
    parsed = parse_schema(definition)
    assert isinstance(parsed, dict)
    return parsed


REGION = {"name": "region", "doc": "Where it ran.", "type": "string", "default": "eu"}
SECOND = changed([REGION], ["retrieval"], ["Cancelled"])


def second_version(record: dict[str, Any]) -> bytes:
    """The bytes of a record as a writer of the second version writes them."""
    out = BytesIO()
    out.write(MARKER + fingerprint_of(SECOND))
    fastavro.schemaless_writer(out, SECOND, record)
    return out.getvalue()


@pytest.fixture
def old_reader() -> Codec:
    """Today's codec, told of the second version."""
    return Codec("Event", SECOND)


@pytest.fixture
def new_reader(monkeypatch: pytest.MonkeyPatch) -> Codec:
    """The codec of a package whose Event is the second version, told of today's."""
    monkeypatch.setattr("fleetmeter_schemas.codec.schema", lambda _name: SECOND)
    return Codec("Event", schema("Event"))


def complete(record: dict[str, Any]) -> Any:
    """The record with every field of today's schema."""
    return golden.as_read(golden.from_json(schema("Event"), record | {"key_hash": "00" * 16}))


def test_versions_differ() -> None:
    """The second version has a fingerprint of its own."""
    assert fingerprint_of(SECOND) != fingerprint_of(schema("Event"))


def test_old_reader_reads_new_record(old_reader: Codec) -> None:
    """An old reader reads a new record, without the field that it does not know."""
    assert complete(RECORD) == old_reader.decode(second_version(RECORD | {"region": "us"}))


def test_new_reader_reads_old_record(new_reader: Codec) -> None:
    """A new reader reads an old record, the new field at its default."""
    expected = complete(RECORD) | {"region": "eu"}
    assert expected == new_reader.decode(Codec("Event").encode(RECORD))


@pytest.mark.parametrize("example", golden.valid("Event"), ids=lambda example: example.name)
def test_both_ways(example: golden.Valid, old_reader: Codec) -> None:
    """Every example event, written by the second version, is the same to an old reader."""
    assert old_reader.decode(example.data) == old_reader.decode(second_version(example.record))


@pytest.mark.parametrize("example", golden.valid("Event"), ids=lambda example: example.name)
def test_new_reader_reads_examples(example: golden.Valid, new_reader: Codec) -> None:
    """Every example's golden bytes are readable to a new reader."""
    expected = golden.as_read(example.record) | {"region": "eu"}
    assert expected == new_reader.decode(example.data)


def test_new_reader_reads_its_own(new_reader: Codec) -> None:
    """A new reader reads what a new writer wrote."""
    record = RECORD | {"region": "us", "kind": "retrieval"}
    expected = complete(RECORD) | {"region": "us", "kind": "retrieval"}
    assert expected == new_reader.decode(new_reader.encode(record))


def test_new_kind_is_an_action(old_reader: Codec) -> None:
    """A kind that an old reader does not know is an action to it."""
    record = old_reader.decode(second_version(RECORD | {"kind": "retrieval"}))
    assert complete(RECORD | {"kind": "action"}) == record


def test_new_end_state_is_indeterminate(old_reader: Codec) -> None:
    """An end state that an old reader does not know is Indeterminate to it; the word survives."""
    said = {"end_state": "Cancelled", "end_state_said": "Cancelled"}
    record = RECORD | {"kind": "session_ended", "detail": ("fleetmeter.SessionEnd", said)}
    detail = old_reader.decode(second_version(record))["detail"]
    assert ("Indeterminate", "Cancelled") == (detail["end_state"], detail["end_state_said"])


def test_untold_reader_rejects() -> None:
    """A reader that was not told of a version rejects its records by their fingerprint."""
    with pytest.raises(InvalidRecord, match=fingerprint_of(SECOND).hex()) as rejected:
        Codec("Event").decode(second_version(RECORD))
    assert "unknown_fingerprint" == rejected.value.reason


def test_field_without_default_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new field without a default would break new readers of old records: this is seen here."""
    required = {"name": "region", "type": "string"}
    broken = changed([required], [], [])
    data = Codec("Event").encode(RECORD)
    monkeypatch.setattr("fleetmeter_schemas.codec.schema", lambda _name: broken)
    with pytest.raises(InvalidRecord, match="region") as rejected:
        Codec("Event", schema("Event")).decode(data)
    assert "undecodable" == rejected.value.reason

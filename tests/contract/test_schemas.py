import json
from collections.abc import Iterator
from dataclasses import fields as dataclass_fields
from enum import StrEnum
from pathlib import Path
from typing import Any, get_type_hints, is_typeddict

import pytest

import fleetmeter_schemas
from fleetmeter_schemas import definitions, golden, records
from fleetmeter_schemas.block import Block

AVSC = sorted((Path(fleetmeter_schemas.__file__).parent / "avro").glob("*.avsc"))
TYPED = {name: value for name, value in vars(records).items() if is_typeddict(value)}
ENUMS = {
    name: value
    for name, value in vars(records).items()
    if isinstance(value, type) and issubclass(value, StrEnum) and value is not StrEnum
}
# WriterRecord stands for a delta's and for a snapshot's writer.
TYPES_OF = {"Writer": "WriterRecord", "WriterDelta": "WriterRecord"}
PRIMITIVES = {"int": int, "long": int, "string": str, "bytes": bytes, "boolean": bool}


def parts(definition: Any) -> Iterator[dict[str, Any]]:
    """Every definition inside of a definition, itself included."""
    if isinstance(definition, dict):
        yield definition
        for value in definition.values():
            yield from parts(value)
    elif isinstance(definition, list):
        for value in definition:
            yield from parts(value)


def all_parts(kind: str) -> dict[str, dict[str, Any]]:
    """All definitions of a kind (record, enum, fixed) in the schema files, by name."""
    found = [part for path in AVSC for part in parts(json.loads(path.read_text(encoding="utf-8")))]
    return {part["name"]: part for part in found if part.get("type") == kind}


RECORDS = all_parts("record")


def python_type(definition: Any) -> Any:  # noqa: PLR0911 - one a type
    """The type annotation that stands for an Avro type."""
    match definition:
        case ["null", other]:
            return python_type(other) | None
        case {"type": "array", "items": items}:
            return list[python_type(items)]  # type: ignore[misc]
        case {"type": "map", "values": values}:
            return dict[str, python_type(values)]  # type: ignore[misc]
        case {"type": "enum"} | "fleetmeter.EndState":
            return str
        case "fleetmeter.KeyHash":
            return bytes
        case {"type": "record", "name": name}:
            return TYPED[TYPES_OF.get(name, name)]
        case str() if definition.startswith("fleetmeter."):
            return TYPED[definition.removeprefix("fleetmeter.")]
        case _:
            return PRIMITIVES[definition]


@pytest.mark.parametrize("path", AVSC, ids=lambda path: path.stem)
def test_file_name(path: Path) -> None:
    """A schema file is named after the record in it, in our namespace."""
    definition = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem == f"{definition['namespace']}.{definition['name']}"


@pytest.mark.parametrize("path", AVSC, ids=lambda path: path.stem)
def test_everything_is_documented(path: Path) -> None:
    """Every named type and every field tells what it is."""
    definition = json.loads(path.read_text(encoding="utf-8"))
    named = [part for part in parts(definition) if "name" in part]
    anonymous = [
        part["name"] for part in named if not part.get("doc") and part.get("type") != "enum"
    ]
    assert [] == anonymous


@pytest.mark.parametrize("path", AVSC, ids=lambda path: path.stem)
def test_no_floats(path: Path) -> None:
    """Nothing is a float: money and time are whole numbers."""
    text = path.read_text(encoding="utf-8")
    assert [] == [name for name in ("float", "double") if f'"{name}"' in text]


def test_enums_have_defaults() -> None:
    """Every enum has a default, so that a new symbol does not break an old reader."""
    found = {
        name: part.get("default") in part["symbols"] for name, part in all_parts("enum").items()
    }
    assert dict.fromkeys(ENUMS, True) == found


@pytest.mark.parametrize("name", sorted(ENUMS))
def test_str_enums(name: str) -> None:
    """A StrEnum has exactly the symbols of the schema's enum, in their order."""
    assert all_parts("enum")[name]["symbols"] == [str(member) for member in ENUMS[name]]


def test_every_record_has_a_type() -> None:
    """Every record is a TypedDict, and every TypedDict a record; a Block is opened, not decoded."""
    assert {TYPES_OF.get(name, name) for name in RECORDS} - {"Block"} == set(TYPED)


@pytest.mark.parametrize("name", sorted(set(RECORDS) - {"Block"}))
def test_typed_dicts(name: str) -> None:
    """A TypedDict has exactly the record's fields, in their order, with their types."""
    hints = get_type_hints(TYPED[TYPES_OF.get(name, name)])
    fields = {field["name"]: field["type"] for field in RECORDS[name]["fields"]}
    assert list(fields) == list(hints)
    # A union of records is written and read in two forms; the type lists both.
    compared = set(fields) - {"detail"}
    assert {each: python_type(fields[each]) for each in compared} == {
        each: hints[each] for each in compared
    }


def test_block_fields() -> None:
    """An opened block has exactly the record's fields, in their order."""
    expected = [field["name"] for field in RECORDS["Block"]["fields"]]
    assert expected == [field.name for field in dataclass_fields(Block)]


def test_metered_event() -> None:
    """A metered event is an event's fields followed by the verdict's: bytes can be appended."""
    expected = [
        field["name"] for name in ("Event", "Enrichment") for field in RECORDS[name]["fields"]
    ]
    found = [field["name"] for field in definitions.schema("MeteredEvent")["fields"]]
    assert expected == found
    assert len(set(expected)) == len(expected)


def test_payload_is_last() -> None:
    """An event's payload stands behind all that metering needs."""
    names = [field["name"] for field in RECORDS["Event"]["fields"]]
    assert ["input", "output", "logs", "attributes"] == names[-4:]


def test_number_names() -> None:
    """The numbers are listed once, in the schema's order."""
    expected = tuple(field["name"] for field in RECORDS["Numbers"]["fields"])
    assert expected == records.NUMBER_NAMES


def test_fingerprints_are_pinned() -> None:
    """A schema changes only together with its pinned fingerprint (fleetmeter_schemas.golden)."""
    assert golden.pinned_fingerprints() == golden.fingerprints()


def test_fingerprints_differ() -> None:
    """No two schemas share a fingerprint."""
    found = golden.fingerprints()
    assert len(found) == len(set(found.values()))


@pytest.mark.parametrize(
    ("definition", "expected"),
    [("int", "8f5c393f1ad57572"), ("null", "8a8f25cce724dd63"), ("boolean", "64f7d4a478fc429f")],
)
def test_known_fingerprints(definition: str, expected: str) -> None:
    """Fingerprints are those of the Avro specification's test vectors, little-endian."""
    assert expected == definitions.fingerprint_of(definition).hex()

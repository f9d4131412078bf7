"""The example records that ship with the contract, and its pinned fingerprints; judges nothing.

Their form is told in examples/README.md. Run as a program it writes bytes and fingerprints anew.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fleetmeter_schemas import definitions
from fleetmeter_schemas.block import encode_block
from fleetmeter_schemas.codec import HEADER_BYTES, Codec
from fleetmeter_schemas.definitions import Schema, fingerprint_of, schema

FOLDER = Path(__file__).parent / "examples"
FINGERPRINTS = FOLDER / "fingerprints.json"
NOT_ENCODABLE = "not_encodable"
_PREFIX = "fleetmeter."


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """A record, complete and in the form that is written, and its bytes with their header."""

    schema_name: str
    name: str
    why: str
    record: Any
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """Bytes that are rejected with a reason; or a record that is NOT_ENCODABLE, and no bytes."""

    schema_name: str
    name: str
    why: str
    reason: str
    record: Any
    data: bytes | None


def files() -> tuple[Path, ...]:
    """All example files: <schema>/valid/<name>.json and <schema>/invalid/<name>.json."""
    return tuple(sorted(path for path in FOLDER.rglob("*.json") if path != FINGERPRINTS))


def valid(schema_name: str) -> tuple[Valid, ...]:
    """The valid examples of a schema, by name."""
    return tuple(
        Valid(
            schema_name=schema_name,
            name=path.stem,
            why=content["why"],
            record=from_json(schema(schema_name), content["record"]),
            data=bytes.fromhex(content["bytes"]),
        )
        for path, content in _read(schema_name, "valid")
    )


def invalid(schema_name: str) -> tuple[Invalid, ...]:
    """The invalid examples of a schema, by name."""
    return tuple(_invalid(schema_name, *found) for found in _read(schema_name, "invalid"))


def pinned_fingerprints() -> dict[str, str]:
    """Fingerprints in hex, by schema, as they were when they were last written."""
    return cast("dict[str, str]", json.loads(FINGERPRINTS.read_text(encoding="utf-8")))


def fingerprints() -> dict[str, str]:
    """Fingerprints in hex, by schema, as they are."""
    return {name: fingerprint_of(schema(name)).hex() for name in definitions.names()}


def encode(schema_name: str, record: Any) -> bytes:
    """The record's bytes as our writers write them."""
    if schema_name != "Block":
        return Codec(schema_name).encode(record)
    numbers = {name: value for name, value in record.items() if not isinstance(value, list)}
    return encode_block(
        **numbers,
        deltas=_bodies("Delta", record["deltas"]),
        events=_bodies("MeteredEvent", record["events"]),
        rejects=_bodies("Reject", record["rejects"]),
    )


def from_json(definition: Schema | list[Any] | str, value: Any) -> Any:
    """The value as it is written: bytes from hex, unions as (name, record), defaults filled in."""
    match definition:
        case str() if definition.startswith(_PREFIX):
            return from_json(schema(definition.removeprefix(_PREFIX)), value)
        case "bytes" | {"type": "fixed"}:
            return bytes.fromhex(value)
        case list():
            return _from_union(definition, value)
        case {"type": "array", "items": items}:
            return [from_json(items, member) for member in value]
        case {"type": "record", "fields": list() as fields}:
            return _from_fields(fields, value)
        case _:
            return value


def as_read(value: Any) -> Any:
    """A written value as it is read back: a record of a union without its name."""
    match value:
        case (str(), dict() as record):
            return as_read(record)
        case list():
            return [as_read(member) for member in value]
        case dict():
            return {name: as_read(member) for name, member in value.items()}
        case _:
            return value


def write() -> None:
    """Write the bytes of all valid examples, and the fingerprints, anew."""
    for path in files():
        if path.parent.name == "valid":
            content = json.loads(path.read_text(encoding="utf-8"))
            name = path.parent.parent.name
            content["bytes"] = encode(name, from_json(schema(name), content["record"])).hex()
            _write(path, content)
    _write(FINGERPRINTS, fingerprints())


def _invalid(schema_name: str, path: Path, content: dict[str, Any]) -> Invalid:
    record, words = content.get("record"), content.get("bytes")
    return Invalid(
        schema_name=schema_name,
        name=path.stem,
        why=content["why"],
        reason=content["reason"],
        record=None if record is None else from_json(schema(schema_name), record),
        data=None if words is None else _bytes_of(schema_name, words),
    )


def _bytes_of(schema_name: str, words: str) -> bytes:
    return b"".join(_word(schema_name, word) for word in words.split())


def _word(schema_name: str, word: str) -> bytes:
    if word == "header":
        return Codec(schema_name).header
    if word.startswith("@"):
        path = FOLDER / schema_name / "valid" / f"{word[1:]}.json"
        return bytes.fromhex(json.loads(path.read_text(encoding="utf-8"))["bytes"])
    return bytes.fromhex(word)


def _from_union(branches: list[Any], value: Any) -> Any:
    if value is None:
        return None
    records = [branch for branch in branches if branch != "null"]
    if len(records) == 1:
        return from_json(records[0], value)
    [(name, record)] = value.items()
    return name, from_json(name, record)


def _from_fields(fields: list[Any], value: dict[str, Any]) -> dict[str, Any]:
    given = {field["name"]: field["default"] for field in fields if "default" in field} | value
    types = {field["name"]: field["type"] for field in fields}
    return {name: from_json(types.get(name, "null"), each) for name, each in given.items()}


def _bodies(schema_name: str, records: list[Any]) -> list[bytes]:
    return [Codec(schema_name).encode(record)[HEADER_BYTES:] for record in records]


def _read(schema_name: str, folder: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((FOLDER / schema_name / folder).glob("*.json")):
        yield path, json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()

"""Reads the Avro schemas of this package and puts composed ones together; encodes nothing."""

import json
from functools import cache
from importlib.resources import files
from typing import Any, cast

from fastavro.repository import AbstractSchemaRepository
from fastavro.schema import fingerprint, load_schema, parse_schema, to_parsing_canonical_form

Schema = dict[str, Any]


class _Package(AbstractSchemaRepository):
    """fastavro's view of the schema files: full name in, definition out."""

    def load(self, name: str) -> Any:
        if name == "fleetmeter.MeteredEvent":
            return metered_event_definition()
        path = files(__package__) / "avro" / f"{name}.avsc"
        return json.loads(path.read_text(encoding="utf-8"))


def metered_event_definition() -> Schema:
    """The event followed by the meter's verdict: one flat record, so bytes can be appended."""
    package = _Package()
    event = package.load("fleetmeter.Event")
    enrichment = package.load("fleetmeter.Enrichment")
    return {
        "type": "record",
        "name": "MeteredEvent",
        "namespace": "fleetmeter",
        "doc": "An accepted event: its own bytes, then the meter's verdict.",
        "fields": event["fields"] + enrichment["fields"],
    }


@cache
def schema(name: str) -> Schema:
    """The parsed schema of one record, such as `Event` or `Snapshot`, references resolved."""
    return cast("Schema", load_schema(f"fleetmeter.{name}", repo=_Package()))


@cache
def names() -> tuple[str, ...]:
    """Names of all schema files, and of the composed MeteredEvent."""
    folder = files(__package__) / "avro"
    found = {entry.name.split(".")[1] for entry in folder.iterdir() if entry.name.endswith(".avsc")}
    return tuple(sorted(found | {"MeteredEvent"}))


def fingerprint_of(definition: Schema | str) -> bytes:
    """CRC-64-AVRO of the canonical form, 8 bytes, little-endian as single-object encoding has it.

    Defaults and docs are not part of it (Avro specification, "Parsing Canonical Form").
    """
    canonical = to_parsing_canonical_form(parse_schema(definition))
    return bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))

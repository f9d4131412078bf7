import json
from pathlib import Path

import pytest

from fleetmeter_schemas import definitions, golden
from fleetmeter_schemas.block import decode_deltas, decode_rejects, open_block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.golden import Invalid, Valid
from fleetmeter_schemas.records import Kind

NAMES = definitions.names()
VALID = [example for name in NAMES for example in golden.valid(name)]
INVALID = [example for name in NAMES for example in golden.invalid(name)]
BYTES = [example for example in INVALID if example.data is not None]
RECORDS = [example for example in INVALID if example.data is None]


def title(example: Valid | Invalid) -> str:
    """How an example is called in the test's report."""
    return f"{example.schema_name}-{example.name}"


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_has_examples(name: str) -> None:
    """Every schema has examples that are valid, and such that are not."""
    assert (True, True) == (bool(golden.valid(name)), bool(golden.invalid(name)))


@pytest.mark.parametrize("path", golden.files(), ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_example_is_used(path: Path) -> None:
    """Every example belongs to a schema, tells what it shows, and has no unknown part."""
    name, folder, _ = path.relative_to(golden.FOLDER).parts
    keys = frozenset(json.loads(path.read_text(encoding="utf-8")))
    allowed = {
        "valid": {frozenset({"why", "record", "bytes"})},
        "invalid": {frozenset({"why", "reason", "bytes"}), frozenset({"why", "reason", "record"})},
    }
    assert (True, True) == (name in NAMES, keys in allowed[folder])


@pytest.mark.parametrize("example", VALID, ids=title)
def test_bytes_decode_to_the_record(example: Valid) -> None:
    """An example's golden bytes decode to its record."""
    assert golden.as_read(example.record) == Codec(example.schema_name).decode(example.data)


@pytest.mark.parametrize("example", VALID, ids=title)
def test_record_encodes_to_the_bytes(example: Valid) -> None:
    """An example's record encodes to its golden bytes."""
    assert example.data.hex() == golden.encode(example.schema_name, example.record).hex()


@pytest.mark.parametrize("example", BYTES, ids=title)
def test_bytes_are_rejected(example: Invalid) -> None:
    """Invalid bytes are rejected with the example's reason, and nothing else is raised."""
    assert example.data is not None
    read = open_block if example.schema_name == "Block" else Codec(example.schema_name).decode
    with pytest.raises(InvalidRecord) as rejected:
        read(example.data)
    assert example.reason == rejected.value.reason


@pytest.mark.parametrize("example", RECORDS, ids=title)
def test_record_is_refused(example: Invalid) -> None:
    """An invalid record raises when it is written; no bytes come of it."""
    assert golden.NOT_ENCODABLE == example.reason
    with pytest.raises((ValueError, TypeError)):
        golden.encode(example.schema_name, example.record)


def test_every_kind_has_an_example() -> None:
    """There is an example event of every kind."""
    assert set(Kind) == {example.record["kind"] for example in golden.valid("Event")}


@pytest.mark.parametrize("example", golden.valid("Block"), ids=title)
def test_block_opens(example: Valid) -> None:
    """A block's parts, opened, are the example's."""
    expected = golden.as_read(example.record)
    block = open_block(example.data)
    assert expected["deltas"] == decode_deltas(block.deltas)
    assert expected["rejects"] == decode_rejects(block.rejects)
    assert len(expected["events"]) == block.events.count
    numbers = ("epoch", "first", "next", "heard_ms", "log_time_ms", "duplicates")
    assert {name: expected[name] for name in numbers} == {
        name: getattr(block, name) for name in numbers
    }

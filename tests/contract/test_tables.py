import re
from pathlib import Path
from typing import Any

import pytest

import fleetmeter_schemas
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.tables import migrations

STEPS = migrations("acme")
STATEMENTS = [statement for step in STEPS for statement in step.statements]
FILES = sorted((Path(fleetmeter_schemas.__file__).parent / "tables").iterdir())
# What an event has and its row has not: hashes never leave the log, details are folded into
# sessions. `version` is made by the engine.
NOT_STORED = {"events": {"key_hash", "detail"}}
MADE = {"version"}
TABLES = {"events": "MeteredEvent", "sessions": "Snapshot", "dead_letters": "Reject"}


def created(table: str) -> str:
    """The statement that creates a table."""
    start = f"CREATE TABLE IF NOT EXISTS acme.{table}\n"
    [statement] = [each for each in STATEMENTS if each.startswith(start)]
    return statement


def columns(table: str) -> dict[str, str]:
    """A table's columns, those four spaces in, and their types, without line ends."""
    statement = created(table)
    body = statement[statement.index("(\n") + 2 : statement.index("\n)\n")]
    lines = re.split(r",\n {4}(?=\w)", body)
    return dict(" ".join(line.split()).split(" ", 1) for line in lines)


def fields(name: str) -> dict[str, Any]:
    """A record's fields and their Avro types."""
    return {field["name"]: field["type"] for field in schema(name)["fields"]}


def members(column_type: str) -> list[str]:
    """The names inside of a Tuple, or of an Array of Tuples."""
    return re.findall(r"(\w+) \w+(?:\(\w+\))?(?=,| ?\))", column_type)


def test_numbers_are_consecutive() -> None:
    """Migrations are numbered 1, 2, 3 … without a hole, one file each."""
    assert [f"{step.number:04}_{step.name}.sql" for step in STEPS] == [path.name for path in FILES]
    assert list(range(1, len(FILES) + 1)) == [step.number for step in STEPS]


def test_database_is_filled_in() -> None:
    """No statement has a placeholder left, an end of statement, or a comment line."""
    assert [] == [
        each for each in STATEMENTS if re.search(r"\{database\}|;|^--", each, re.MULTILINE)
    ]


def test_statements_are_whole() -> None:
    """A file's statements are run one by one: each creates one thing."""
    assert [1] * len(STATEMENTS) == [
        len(re.findall(r"^CREATE ", each, re.MULTILINE)) for each in STATEMENTS
    ]


@pytest.mark.parametrize("database", ["", "a-b", "a.b", "1a", "a;b", "größe"])
def test_bad_databases(database: str) -> None:
    """A name that would have to be quoted is refused."""
    with pytest.raises(ConfigError, match="database"):
        migrations(database)


@pytest.mark.parametrize(("table", "record"), TABLES.items())
def test_columns_are_fields(table: str, record: str) -> None:
    """A table has a column for every field of its record, by the same name, and no other."""
    assert set(fields(record)) - NOT_STORED.get(table, set()) == set(columns(table)) - MADE


@pytest.mark.parametrize(("table", "record"), TABLES.items())
def test_nullable_columns(table: str, record: str) -> None:
    """A column is nullable exactly where its field can be null."""
    expected = {name for name, avro in fields(record).items() if isinstance(avro, list)}
    found = {name for name, column in columns(table).items() if column.startswith("Nullable(")}
    assert expected - NOT_STORED.get(table, set()) == found


@pytest.mark.parametrize(("table", "record"), TABLES.items())
def test_times_are_times(table: str, record: str) -> None:
    """A point in time is a DateTime64 in UTC, with the precision that its name tells."""
    units = {"_us": "DateTime64(6, 'UTC')", "_ms": "DateTime64(3, 'UTC')"}
    points = [name for name in fields(record) if re.search(r"(time|at)_(us|ms)$", name)]
    found = {name: columns(table)[name] for name in points}
    assert {name: units[name[-3:]] for name in points} == {
        name: re.sub(r"^Nullable\((.*)\)$", r"\1", column) for name, column in found.items()
    }


def test_numbers_tuple() -> None:
    """A session's numbers have a place each, in the schema's order."""
    assert list(fields("Numbers")) == members(columns("sessions")["numbers"])


def test_writers_tuple() -> None:
    """A session's writers have a place for each of their fields, in the schema's order."""
    writer = fields("Snapshot")["writers"]["items"]
    expected = [field["name"] for field in writer["fields"]]
    assert expected == members(columns("sessions")["writers"])


@pytest.mark.parametrize(
    ("table", "engine", "order"),
    [
        (
            "events",
            "ReplacingMergeTree(version)",
            "(project_id, toStartOfHour(first_start_time_us), session_id, event_id)",
        ),
        ("sessions", "ReplacingMergeTree(next)", "(project_id, session_id, part)"),
        ("dead_letters", "ReplacingMergeTree", "(partition, offset)"),
    ],
)
def test_identity(table: str, engine: str, order: str) -> None:
    """A row's identity and version are functions of the record, never of its arrival."""
    found = dict(re.findall(r"^(ENGINE|ORDER BY)(?: =)? (.+)$", created(table), re.MULTILINE))
    assert {"ENGINE": engine, "ORDER BY": order} == found

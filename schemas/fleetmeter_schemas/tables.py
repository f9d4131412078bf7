"""The table definitions: numbered, forward-only migrations. Reads files, runs no statement."""

import re
from dataclasses import dataclass
from importlib.resources import files

from fleetmeter_schemas.errors import ConfigError

_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
MIGRATIONS_TABLE = "migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step: statements that are run once, in order, after all steps of lower number."""

    number: int
    name: str
    statements: tuple[str, ...]


def migrations(database: str) -> tuple[Migration, ...]:
    """All steps, in order, for a database of this name.

    Raises:
        ConfigError: The name is not an identifier.
    """
    if not database.isidentifier() or not database.isascii():
        raise ConfigError(f"database {database!r}: letters, digits and _ only")
    folder = files(__package__) / "tables"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    steps = tuple(_read(name, database) for name in found)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1)), found  # noqa: S101
    return steps


def _read(file_name: str, database: str) -> Migration:
    match = _FILE.fullmatch(file_name)
    assert match is not None, file_name  # noqa: S101
    text = (files(__package__) / "tables" / file_name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    parts = "\n".join(lines).replace("{database}", database).split(";\n")
    statements = tuple(part.strip().removesuffix(";") for part in parts if part.strip())
    return Migration(number=int(match["number"]), name=match["name"], statements=statements)

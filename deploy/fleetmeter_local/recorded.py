"""Reads files of recorded sessions (format: data/README.md); sends and prices nothing."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fleetmeter_schemas.errors import ConfigError

KINDS = ("llm", "tool", "action", "error")
END_STATES = ("Success", "Failure", "Indeterminate")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One line: a session, its events as they stand in the file."""

    line: int
    session: str
    end_state: str | None
    events: list[dict[str, Any]]


def demo_file() -> Path:
    """The recorded sessions that come with this package."""
    return Path(str(files("fleetmeter_local") / "data" / "recorded_sessions.jsonl.gz"))


def read(path: Path) -> Iterator[Recorded]:
    """The sessions of a file, gzipped or not, one after the other.

    Raises:
        ConfigError: The file cannot be read, or a line is not a recorded session.
    """
    try:
        with path.open("rb") as plain:
            source = gzip.GzipFile(fileobj=plain) if _is_gzip(path) else plain
            for line, text in enumerate(source, start=1):
                if text.strip():
                    yield _session(path, line, text)
    except (OSError, EOFError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as source:
        return source.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


def _session(path: Path, line: int, text: bytes) -> Recorded:
    try:
        found = json.loads(text)
        session = Recorded(
            line=line,
            session=str(found["session"]),
            end_state=found["end_state"],
            events=found["events"],
        )
        _check(session)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path}, line {line}: not a recorded session ({reason})") from error
    return session


def _check(session: Recorded) -> None:
    if session.end_state is not None and session.end_state not in END_STATES:
        raise ValueError(f"end_state {session.end_state!r}")
    for event in session.events:
        if event["kind"] not in KINDS:
            raise ValueError(f"kind {event['kind']!r}")
        if not isinstance(event["start_ms"], int):
            raise TypeError("start_ms is not a whole number")

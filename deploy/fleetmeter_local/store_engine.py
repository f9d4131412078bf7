"""The chDB engine behind plain functions: one connection a request; knows nothing of HTTP.

A connection costs 0.1 ms while another one holds the engine open, so none is ever reused: neither
settings nor the current database of one request can reach the next.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import chdb

from fleetmeter_local.store_request import (
    Context,
    Insert,
    from_descriptor,
    into_descriptor,
    quoted_name,
    quoted_text,
)

_CODE = re.compile(r"Code: (\d+)")
UNKNOWN_EXCEPTION = 1002
ABORTED = 236
_DIED = "shutting down due to a fatal error"
SYNTAX_ERROR = 62


class EngineError(Exception):
    """The engine refused or broke off a statement; `code` is ClickHouse's number."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        found = _CODE.search(text)
        self.code = int(found[1]) if found else UNKNOWN_EXCEPTION

    @property
    def engine_died(self) -> bool:
        """Whether the engine broke down inside: no later statement gets another answer."""
        return self.code == ABORTED and _DIED in str(self)


class Kind(Enum):
    """How a statement has to be run."""

    READ = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a statement did."""

    read_rows: int = 0
    written_rows: int = 0
    written_bytes: int = 0


class Engine:
    """The data folder, opened; only one process can do that at a time.

    The background pool is one thread: merges must not take both cores of a small machine.
    """

    def __init__(self, folder: Path) -> None:
        self._url = f"{folder}?background_pool_size=1"
        # Keeps the engine running between requests; used by no request.
        self._keeper = chdb.connect(self._url)

    def close(self) -> None:
        """Close the data folder."""
        self._keeper.close()

    @contextmanager
    def connection(self, context: Context, token: str) -> Iterator[Any]:
        """Open a connection for one statement, which `cancel(token)` can end."""
        connection = chdb.connect(self._url)
        try:
            with engine_errors():
                _prepare(connection, context, token)
            yield connection
        finally:
            connection.close()

    def cancel(self, token: str) -> bool:
        """End the statement that was given `token`; return whether it ran."""
        sql = f"KILL QUERY WHERE Settings['log_comment'] = {quoted_text(token)} ASYNC"
        with engine_errors(), chdb.connect(self._url) as connection:
            return bool(bytes(connection._conn.query(sql, "CSV").bytes()))  # noqa: SLF001


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what chDB raises into `EngineError`."""
    try:
        yield
    except RuntimeError as error:
        raise EngineError(str(error)) from error


def _prepare(connection: Any, context: Context, token: str) -> None:
    if context.database:
        connection._conn.query(f"USE {quoted_name(context.database)}", "Null")  # noqa: SLF001
    # In this order: after readonly nothing else can be set.
    settings = {"log_comment": token, **context.settings}
    for name in sorted(settings, key="readonly".__eq__):
        value = settings[name]
        connection._conn.query(f"SET {name} = {quoted_text(value)}", "Null")  # noqa: SLF001


def kind(connection: Any, sql: str) -> Kind:
    """Return how to run `sql`.

    Raises:
        EngineError: it is more than one statement.
    """
    with engine_errors():
        judged = connection._conn.classify_query(sql, "")  # noqa: SLF001
    if judged["statement_count"] > 1:
        raise EngineError(f"Code: {SYNTAX_ERROR}. DB::Exception: Multi-statements are not allowed")
    return Kind.READ if judged["query_class"].name == "READ_ONLY" else Kind.OTHER


def read(connection: Any, sql: str, context: Context, descriptor: int) -> Counts:
    """Run a reading statement; its result goes to `descriptor` in the format it asks for."""
    written = into_descriptor(sql, descriptor, context.format)
    with engine_errors():
        # Not connection.query: chDB's wrapper treats some format names in its own way.
        result = connection._conn.query(written, "Null", params=dict(context.parameters))  # noqa: SLF001
        return Counts(read_rows=result.storage_rows_read())


def execute(connection: Any, sql: str, context: Context) -> tuple[bytes, Counts]:
    """Run a statement that is no reading one; return what it prints, which is little."""
    with engine_errors():
        result = connection._conn.query(sql, context.format, params=dict(context.parameters))  # noqa: SLF001
        return bytes(result.bytes()), Counts(written_rows=result.rows_written())


def insert(connection: Any, into: Insert, context: Context, descriptor: int) -> Counts:
    """Insert the rows that come out of `descriptor` until its end."""
    sql = from_descriptor(into, descriptor)
    with engine_errors():
        result = connection._conn.query(sql, "Null", params=dict(context.parameters))  # noqa: SLF001
        return Counts(written_rows=result.rows_written(), written_bytes=result.bytes_written())

"""The one place that speaks to ClickHouse for the processors, and where its errors are mapped.

Sends statements and ready-made Avro files; knows nothing of topics or records.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn, Protocol

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error

from fleetmeter_processors.settings import StoreSettings
from fleetmeter_schemas.errors import ConfigError, InvalidRecord, Unavailable

UNLANDABLE = "unlandable"
INSERT_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        # A batch may hold events of any number of start months, each a partition.
        "max_partitions_per_insert_block": 0,
        # Merges drop what is there twice; doing it at the insert as well doubles its cost.
        "optimize_on_insert": 0,
        # A forged or damaged body must fail, not be read as something else.
        "input_format_allow_errors_num": 0,
        "async_insert": 0,
    }
)

# ClickHouse's error codes (src/Common/ErrorCodes.cpp) that say: these bytes can never be read.
_UNPARSABLE_CODES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        33,  # CANNOT_READ_ALL_DATA
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        117,  # INCORRECT_DATA
        128,  # TOO_LARGE_ARRAY_SIZE
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
    }
)
# What the Avro library throws has no code of its own.
_STD_EXCEPTION = 1001
_AVRO = "avro::"

# These say: nothing will help until somebody repairs the set-up.
_SETUP_CODES = frozenset(
    {
        8,  # THERE_IS_NO_COLUMN
        16,  # NO_SUCH_COLUMN_IN_TABLE
        60,  # UNKNOWN_TABLE
        81,  # UNKNOWN_DATABASE
        115,  # UNKNOWN_SETTING
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
    }
)


class Sink(Protocol):
    """Where the lander's files go."""

    def insert(self, table: str, container: bytes) -> None:
        """Insert one Avro object container file; returns when the rows are visible.

        Raises:
            Unavailable: Try the same bytes again later.
            InvalidRecord: `unlandable`: these bytes will always fail.
            ConfigError: Somebody must repair the set-up.
        """


class Store:
    """A connection to ClickHouse, or to what speaks its HTTP interface."""

    def __init__(self, settings: StoreSettings, timeout_seconds: float) -> None:
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._client: Client | None = None

    def command(self, statement: str) -> Any:
        """Run one statement, and return what it says; raises Unavailable or ConfigError."""
        try:
            return self._connected().command(statement)
        except ClickHouseError as error:
            self._fail(error)

    def numbers(self, statement: str) -> list[int]:
        """Return the first column of a query's answer; raises Unavailable or ConfigError."""
        try:
            rows = self._connected().query(statement).result_rows
        except ClickHouseError as error:
            self._fail(error)
        return [int(row[0]) for row in rows]

    def insert(self, table: str, container: bytes) -> None:
        """Insert one Avro object container file; see `Sink`."""
        try:
            self._connected().raw_insert(
                f"{self._settings.namespace}.{table}",
                insert_block=container,
                fmt="Avro",
                settings=dict(INSERT_SETTINGS),
            )
        except ClickHouseError as error:
            self._fail(error)

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> Client:
        if self._client is None:
            self._client = clickhouse_connect.get_client(
                dsn=self._settings.store_url,
                username=self._settings.store_user,
                password=self._settings.store_password.get_secret_value(),
                connect_timeout=5,
                send_receive_timeout=int(self._timeout_seconds),
                # Loopback and data centres are faster than a compressor; events are not sent twice.
                compress=False,
                query_retries=0,
                autogenerate_session_id=False,
                show_clickhouse_errors="scrub",
            )
        return self._client

    def _fail(self, error: ClickHouseError) -> NoReturn:
        self.close()
        raise mapped(error) from error


def mapped(error: ClickHouseError) -> Exception:
    """Return our error for ClickHouse's: what is not known to be final is tried again."""
    code = error.code if isinstance(error, Error) else None
    text = str(error).strip().split("\n")[0][:300]
    if code in _UNPARSABLE_CODES or (code == _STD_EXCEPTION and _AVRO in text):
        return InvalidRecord(UNLANDABLE, text)
    if code in _SETUP_CODES:
        return ConfigError(f"the store refuses: {text}")
    return Unavailable(f"the store: {text}")

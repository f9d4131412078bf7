import pytest
from clickhouse_connect.driver.exceptions import (
    ClickHouseError,
    DatabaseError,
    OperationalError,
    StreamFailureError,
)

from fleetmeter_processors.sink import mapped
from fleetmeter_schemas.errors import ConfigError, InvalidRecord, Unavailable

AVRO = "std::exception. Code: 1001, type: avro::Exception, e.what() = EOF reached"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("Error executing HTTP request"), Unavailable),
        (StreamFailureError("cut off"), Unavailable),
        (ClickHouseError("whatever"), Unavailable),
        (DatabaseError("TOO_MANY_PARTS", code=252), Unavailable),
        (DatabaseError("MEMORY_LIMIT_EXCEEDED", code=241), Unavailable),
        (DatabaseError("NOT_ENOUGH_SPACE", code=243), Unavailable),
        (DatabaseError("TABLE_IS_READ_ONLY", code=242), Unavailable),
        (DatabaseError("TIMEOUT_EXCEEDED", code=159), Unavailable),
        (DatabaseError("a code of tomorrow", code=99_999), Unavailable),
        (DatabaseError("std::bad_alloc", code=1001), Unavailable),
        (DatabaseError(AVRO, code=1001), InvalidRecord),
        (DatabaseError("INCORRECT_DATA", code=117), InvalidRecord),
        (DatabaseError("CANNOT_READ_ALL_DATA", code=33), InvalidRecord),
        (DatabaseError("UNKNOWN_TABLE", code=60), ConfigError),
        (DatabaseError("AUTHENTICATION_FAILED", code=516), ConfigError),
        (DatabaseError("THERE_IS_NO_COLUMN", code=8), ConfigError),
    ],
)
def test_the_store_s_error_decides_what_happens(
    error: ClickHouseError, expected: type[Exception]
) -> None:
    """Only what can never succeed is given up; everything unknown is tried again."""
    assert expected is type(mapped(error))

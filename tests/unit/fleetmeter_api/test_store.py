"""How the store's answers and errors are read, without a store."""

from io import BytesIO

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from structlog.testing import capture_logs
from urllib3.exceptions import ProtocolError

from api_fakes import numbers
from fleetmeter_api import store
from fleetmeter_api.keys import ProjectId, Tenant
from fleetmeter_api.landing import next_in
from fleetmeter_api.store import mapped
from fleetmeter_api.verify import differences
from fleetmeter_schemas.errors import Unavailable


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1_000])
def test_rows_are_whole_however_the_stream_is_cut(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    """Chunks end anywhere, rows do not."""
    monkeypatch.setattr(store, "CHUNK_BYTES", chunk_bytes)
    stream = BytesIO(b'{"a": 1}\n{"a": "two"}\n{"a": null}\n')
    rows = [row for batch in store._batches(stream) for row in batch]
    assert rows == [{"a": 1}, {"a": "two"}, {"a": None}]


def test_error_within_a_stream_is_unavailable() -> None:
    """The text of an error in place of a row breaks the stream off."""
    stream = BytesIO(b'{"a": 1}\nCode: 241. DB::Exception: Memory limit exceeded')
    with capture_logs(), pytest.raises(Unavailable):
        list(store._batches(stream))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("refused"), Unavailable),
        (ProtocolError("cut off"), Unavailable),
        (DatabaseError("memory", code=241), Unavailable),
        (DatabaseError("no such table", code=60), Unavailable),
        (DatabaseError("wrong password", code=516), Unavailable),
        (DatabaseError("syntax", code=62), AssertionError),
        (DatabaseError("no such column", code=47), AssertionError),
    ],
)
def test_errors_are_passing_unless_our_sql_is_wrong(
    error: DatabaseError, expected: type[Exception]
) -> None:
    """Only what says that the statement is wrong is a mistake of ours."""
    with capture_logs():
        assert type(mapped(error)) is expected


def test_reason_of_the_store_is_not_told() -> None:
    """What the store says may hold texts of statements: it is logged, not passed on."""
    with capture_logs() as logs:
        found = mapped(OperationalError("secret text"))
    assert "secret" not in str(found)
    assert logs[0]["error"] == "secret text"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [(None, -1), ("", -1), ('{"metered_offset": 1, "epoch": 0, "next": 7}', 7)],
)
def test_landed_position_is_read_from_the_commit(metadata: str | None, expected: int) -> None:
    """The raw position stands in the commit's metadata."""
    assert next_in(metadata) == expected


@pytest.mark.parametrize(
    ("row", "session_ids"),
    [
        ({"project_id": "q", "session_id": "s"}, None),
        ({"project_id": "q", "session_id": "s"}, ["s"]),
        ({"project_id": "p", "session_id": "t"}, ["s"]),
    ],
)
def test_a_row_that_was_not_asked_for_is_never_told(
    row: dict[str, str], session_ids: list[str] | None
) -> None:
    """Whatever the store answers: another project's or session's row is a mistake of ours."""
    tenant = Tenant(project_id=ProjectId("p"))
    right = {"project_id": "p", "session_id": "s"}
    assert store.own([right], tenant, session_ids) == [right]
    with pytest.raises(AssertionError):
        store.own([right, row], tenant, session_ids)


def test_corrections_that_are_no_integers_add_nothing() -> None:
    """What a writer puts into a correction cannot break the audit of his project."""
    given = {"events": -1, "errors": "x", "actions": None, "llm_calls": True, "other": 5}
    assert store._numbers(given) == numbers(events=-1)


def test_saturated_sums_agree() -> None:
    """A snapshot at the limit of 64 bits agrees with a sum beyond it."""
    held = numbers(cost_pico_usd=2**63 - 1, input_tokens=5)
    assert differences(held, numbers(cost_pico_usd=2**64, input_tokens=5)) == {}
    assert differences(held, numbers(cost_pico_usd=2**63 - 2, input_tokens=5)) == {
        "cost_pico_usd": {"snapshot": 2**63 - 1, "recomputed": 2**63 - 2}
    }

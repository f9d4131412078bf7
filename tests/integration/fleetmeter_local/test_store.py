import gzip
import io
import json
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import clickhouse_connect
import fastavro
import httpx
import lz4.frame  # type: ignore[import-untyped]
import psutil
import pytest
from backports import zstd
from clickhouse_connect.driver.exceptions import DatabaseError

ROW_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Row",
    "fields": [{"name": "id", "type": "long"}, {"name": "text", "type": "string"}],
}
SETTLED_SECONDS_MAX = 10.0


class Address(Protocol):
    """What the fixture `store` gives."""

    url: str
    user: str
    password: str


class Started(Protocol):
    """What the fixture `run_store` gives."""

    address: Address
    process: Any


RunStore = Callable[[Path], AbstractContextManager[Started]]


def connect(address: Address, **options: Any) -> Any:
    """Return an unmodified clickhouse-connect client."""
    parts = urlsplit(address.url)
    return clickhouse_connect.get_client(
        host=parts.hostname,
        port=parts.port,
        username=address.user,
        password=address.password,
        **options,
    )


@pytest.fixture
def client(store: Address) -> Iterator[Any]:
    """Give a client in a database of the test's own."""
    database = f"test_{uuid.uuid4().hex[:8]}"
    first = connect(store)
    first.command(f"CREATE DATABASE {database}")
    with connect(store, database=database) as client:
        yield client
    first.command(f"DROP DATABASE {database}")
    first.close()


def container(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as an Avro container file."""
    file = io.BytesIO()
    fastavro.writer(file, ROW_SCHEMA, rows)
    return file.getvalue()


def wait_for(condition: Callable[[], bool]) -> bool:
    """Return whether `condition` comes true within bounded time."""
    deadline = time.monotonic() + SETTLED_SECONDS_MAX
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_types_survive(client: Any) -> None:
    """Values of the types that our tables use come back as they were inserted."""
    client.command(
        "CREATE TABLE t (a UInt64, b String, c DateTime64(3, 'UTC'), d Nullable(Int64),"
        " e Map(String, String), f Array(LowCardinality(String)), g UUID, h Bool, i Int128)"
        " ENGINE = MergeTree ORDER BY a"
    )
    row = (
        2**64 - 1,
        "tab\t quote' back\\slash \N{SNOWMAN}\0",
        datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        None,
        {"k'": "v\\"},
        ["x", ""],
        uuid.UUID(int=7),
        True,
        -(2**100),
    )
    client.insert("t", [row], column_names=list("abcdefghi"))
    assert [row] == client.query("SELECT * FROM t", tz_mode="aware").result_rows


def test_an_insert_tells_how_much_it_wrote(client: Any) -> None:
    """The summary of an insert holds the number of rows."""
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    assert client.insert("t", [[n] for n in range(1000)]).written_rows == 1000


def test_parameters_are_values(client: Any) -> None:
    """Bound parameters arrive as the values they are, whatever characters they hold."""
    text = "a'b\\c\td\n"
    result = client.query(
        "SELECT {n:UInt32} + 1, {s:String}, {l:Array(String)}, {m:Nullable(String)}",
        parameters={"n": 41, "s": text, "l": [text, ""], "m": None},
    )
    assert result.result_rows == [(42, text, [text, ""], None)]


def test_parameters_too_long_for_an_address_arrive(client: Any) -> None:
    """A list of 20,000 session ids can be bound; the client sends it as a form."""
    ids = [uuid.uuid4().hex for _ in range(20_000)]
    result = client.query("SELECT length({ids:Array(String)})", parameters={"ids": ids})
    assert result.result_rows == [(20_000,)]


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        (None, bytes),
        ("lz4", lz4.frame.compress),
        ("zstd", zstd.compress),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
    ],
)
def test_a_container_file_lands(
    client: Any, encoding: str | None, compress: Callable[[bytes], bytes]
) -> None:
    """An Avro container file of some megabytes is inserted, compressed or not."""
    client.command("CREATE TABLE t (id Int64, text String) ENGINE = MergeTree ORDER BY id")
    body = container([{"id": n, "text": f"{n} " * 40} for n in range(20_000)])
    client.raw_insert("t", insert_block=compress(body), fmt="Avro", compression=encoding)
    counted = client.query("SELECT count(), sum(id), max(length(text)) FROM t").result_rows
    assert counted == [(20_000, 199_990_000, 240)]


def test_several_frames_in_one_body_are_read(client: Any) -> None:
    """A body may be many compressed frames, as the client sends one a block."""
    client.command("CREATE TABLE t (id Int64, text String) ENGINE = MergeTree ORDER BY id")
    body = container([{"id": n, "text": "x"} for n in range(1000)])
    halves = lz4.frame.compress(body[:500]) + lz4.frame.compress(body[500:])
    client.raw_insert("t", insert_block=halves, fmt="Avro", compression="lz4")
    assert client.command("SELECT count() FROM t") == 1000


@pytest.mark.parametrize("cut", [1, 100])
def test_a_broken_container_file_is_refused(client: Any, cut: int) -> None:
    """A container file that stops short is an error of the insert, never a silent part of it."""
    client.command("CREATE TABLE t (id Int64, text String) ENGINE = MergeTree ORDER BY id")
    body = container([{"id": n, "text": "x"} for n in range(1000)])
    with pytest.raises(DatabaseError):
        client.raw_insert("t", insert_block=body[:-cut], fmt="Avro")
    assert client.command("SELECT count() FROM t") == 0


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("(id Int64, text String, CONSTRAINT c CHECK id < 5) ENGINE = MergeTree ORDER BY id", 469),
        ("(id Int64, text String) ENGINE = MergeTree PARTITION BY id ORDER BY id", 252),
    ],
)
def test_what_the_table_refuses_is_not_answered(client: Any, table: str, code: int) -> None:
    """Rows that are read well and then not stored are an error, never an answer."""
    client.command(f"CREATE TABLE t {table}")
    body = container([{"id": n, "text": "x"} for n in range(1000)])
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("t", insert_block=body, fmt="Avro")
    assert (caught.value.code, client.command("SELECT count() FROM t")) == (code, 0)


def test_a_refusal_reaches_a_client_that_still_writes(client: Any) -> None:
    """An INSERT into a table that is not there is told so, however many rows it sends."""
    body = container([{"id": n, "text": "x" * 1000} for n in range(20_000)])
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("nowhere", insert_block=body, fmt="Avro")
    assert caught.value.code == 60


def test_settings_of_an_insert_are_kept(client: Any) -> None:
    """An INSERT may carry settings, in its text or in the request."""
    client.command("CREATE TABLE t (a UInt8, b UInt8) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("t", insert_block=b"1|2\n", fmt="CSV", settings={"format_csv_delimiter": "|"})
    client.raw_query("INSERT INTO t SETTINGS format_csv_delimiter = ';' FORMAT CSV\n3;4\n")
    assert client.query("SELECT sum(a), sum(b) FROM t").result_rows == [(4, 6)]


def test_half_an_insert_is_none(client: Any, store: Address) -> None:
    """A client that goes away in the middle of its rows has inserted none of them."""
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    for _ in range(5):
        parts = urlsplit(store.url)
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
            target = f"/?database={client.database}&query=INSERT+INTO+t+FORMAT+TSV"
            connection.sendall(
                (
                    f"POST {target} HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: {store.user}\r\n"
                    f"X-ClickHouse-Key: {store.password}\r\nContent-Length: 100\r\n\r\n1\n2\n34"
                ).encode()
            )
            time.sleep(0.1)
    assert wait_for(lambda: running_queries(client) == 1)
    assert client.command("SELECT count() FROM t") == 0


def test_rows_may_stand_in_the_statement(client: Any) -> None:
    """INSERT ... VALUES and INSERT ... SELECT work as everywhere."""
    client.command("CREATE TABLE t (`format x` Int64, b String) ENGINE = MergeTree ORDER BY b")
    client.command("INSERT INTO t VALUES (1, 'FORMAT Avro'), (2, 'b')")
    client.command("INSERT INTO t SELECT 3, 'c'")
    client.raw_insert("t", ["format x", "b"], b'{"format x": 4, "b": "d"}', fmt="JSONEachRow")
    assert client.command("SELECT sum(`format x`) FROM t") == 10


def test_an_error_has_its_code(client: Any) -> None:
    """What the engine refuses arrives with ClickHouse's code and text."""
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as caught:
        client.query("SELECT * FROM nowhere")
    assert caught.value.code == 60


def test_two_statements_are_refused(client: Any) -> None:
    """A text never runs as more than one statement."""
    with pytest.raises(DatabaseError, match="Multi-statements"):
        client.raw_query("SELECT 1; SELECT 2")


def test_an_error_behind_many_rows_is_not_the_end_of_the_result(client: Any) -> None:
    """A result that fails after it began to flow is an error, not a short result."""
    sql = "SELECT number, throwIf(number = 3000000) FROM numbers(4000000) SETTINGS max_threads = 1"
    with (
        pytest.raises(Exception, match=r"(?i)incomplete|broken|closed|stream"),
        client.query_row_block_stream(sql) as blocks,
    ):
        for _ in blocks:
            pass


def test_settings_do_not_outlive_their_request(client: Any) -> None:
    """A setting of one request is unknown to the next."""
    asked = "SELECT getSetting('max_block_size')"
    assert client.command(asked, settings={"max_block_size": 1234}) == 1234
    assert client.command(asked) != 1234


def test_an_unknown_setting_is_refused(store: Address) -> None:
    """A misspelt setting is an error, as with ClickHouse."""
    answer = httpx.post(
        store.url,
        params={"no_such_setting": "1"},
        content="SELECT 1",
        auth=(store.user, store.password),
    )
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (500, "115")


@pytest.mark.parametrize("auth", [None, ("fleetmeter", "wrong"), ("nobody", "")])
def test_no_password_no_answer(store: Address, auth: tuple[str, str] | None) -> None:
    """Without the right password nothing runs."""
    answer = httpx.post(store.url, content="SELECT 1", auth=auth)
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (403, "516")
    assert answer.text == "Code: 516. DB::Exception: Authentication failed\n"


def test_each_of_many_clients_gets_its_own_answer(store: Address) -> None:
    """Queries side by side do not read from each other's pipes."""

    def ask(number: int) -> list[str]:
        with httpx.Client(auth=(store.user, store.password), timeout=20) as client:
            texts = [f"{number}-{turn}" for turn in range(50)]
            answers = [
                client.post(store.url, content=f"SELECT '{text}' FORMAT TSV").text.strip()
                for text in texts
            ]
        return [text for text, answer in zip(texts, answers, strict=True) if text != answer]

    with ThreadPoolExecutor(12) as threads:
        wrong = list(threads.map(ask, range(12)))
    assert wrong == [[]] * 12


def test_a_million_rows_take_little_memory(tmp_path: Path, run_store: RunStore) -> None:
    """A long result flows through: the store does not grow with it, the rows are all there."""
    with run_store(tmp_path) as started, connect(started.address) as client:
        process = psutil.Process(started.process.pid)
        sql = "SELECT number, repeat('x', 300) FROM numbers({n:UInt64})"
        client.query(sql, parameters={"n": 1000})
        before = process.memory_info().rss
        rows, last, most = 0, -1, before
        with client.query_row_block_stream(sql, parameters={"n": 1_000_000}) as blocks:
            for block in blocks:
                rows, last = rows + len(block), block[-1][0]
                most = max(most, process.memory_info().rss)
    assert (rows, last) == (1_000_000, 999_999)
    assert most - before < 150_000_000


def test_who_goes_away_leaves_nothing_behind(tmp_path: Path, run_store: RunStore) -> None:
    """A client that leaves in the middle ends its query; no pipe, connection or thread stays."""
    with run_store(tmp_path) as started, connect(started.address) as client:
        process = psutil.Process(started.process.pid)
        counts = []
        for _ in range(2):
            for sql in (FLOWING, SILENT) * 10:
                leave_after_asking(started.address, sql)
            assert wait_for(lambda: running_queries(client) == 1)
            counts.append((pipes_and_sockets(process.pid), process.num_threads()))
    (pipes_before, threads_before), (pipes, threads) = counts
    # A leak would be 20 of each; the engine's own pool may still grow a little.
    assert pipes < pipes_before + 5
    assert threads < threads_before + 15


def pipes_and_sockets(pid: int) -> int:
    """Return how many pipe ends and sockets a process holds."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += str(link.readlink()).startswith(("pipe:", "socket:"))
    return count


FLOWING = "SELECT number FROM numbers(100000000000)"
SILENT = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 3"


def leave_after_asking(address: Address, sql: str) -> None:
    """Send a query, wait until it runs, and close the connection unread."""
    parts = urlsplit(address.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(
            (
                f"POST / HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: {address.user}\r\n"
                f"X-ClickHouse-Key: {address.password}\r\nContent-Length: {len(sql)}\r\n\r\n{sql}"
            ).encode()
        )
        time.sleep(0.1)


def running_queries(client: Any) -> int:
    """Return how many statements run, this one included."""
    return int(client.command("SELECT count() FROM system.processes"))


def test_what_was_answered_survives_a_kill(tmp_path: Path, run_store: RunStore) -> None:
    """Rows of every answered insert are there after kill -9 and a new start."""
    written = 0
    with run_store(tmp_path) as started, connect(started.address) as client:
        client.command("CREATE TABLE t (id Int64, text String) ENGINE = MergeTree ORDER BY id")
        for first in range(0, 2000, 100):
            rows = [{"id": n, "text": "x"} for n in range(first, first + 100)]
            client.raw_insert("t", insert_block=container(rows), fmt="Avro")
            written += len(rows)
        started.process.kill()
        started.process.wait()
    with run_store(tmp_path) as started, connect(started.address) as client:
        assert written == client.command("SELECT uniqExact(id) FROM t")


def test_sigterm_finishes_what_is_in_hand(tmp_path: Path, run_store: RunStore) -> None:
    """A query that runs when the store is told to stop still gets its whole result."""
    with run_store(tmp_path) as started, connect(started.address) as client:
        sql = "SELECT number, sleepEachRow(0.001) FROM numbers(3000) SETTINGS max_block_size = 100"
        with client.raw_stream(f"{sql} FORMAT JSONCompactEachRow") as result:
            started.process.terminate()
            lines = result.read().splitlines()
        assert (len(lines), json.loads(lines[-1])[0]) == (3000, 2999)
        assert started.process.wait(20) == 0


def test_one_folder_has_one_store(tmp_path: Path, run_store: RunStore) -> None:
    """A second store on the same folder ends at once and says why."""
    with (
        run_store(tmp_path),
        pytest.raises(pytest.fail.Exception, match=r"(?i)lock"),
        run_store(tmp_path),
    ):
        pass

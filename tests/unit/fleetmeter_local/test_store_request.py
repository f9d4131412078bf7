from base64 import b64encode

import pytest

from fleetmeter_local import store_request
from fleetmeter_local.store_request import Context, Insert


def test_parameters_are_sorted_into_what_they_are() -> None:
    """Bound values, engine settings and the interface's own words are told apart."""
    given = [
        ("database", "d"),
        ("query", "SELECT 1"),
        ("param_id", "7"),
        ("max_threads", "1"),
        ("session_id", "s"),
    ]
    expected = Context(
        database="d", settings={"max_threads": "1"}, parameters={"id": "7"}, format="TabSeparated"
    )
    assert expected == store_request.context(given)


@pytest.mark.parametrize("name", ["a b", "a=1, b", "", "1a"])
def test_a_name_that_is_no_setting_is_refused(name: str) -> None:
    """A setting's name goes into SQL, so it can only be a name."""
    with pytest.raises(ValueError, match="not a setting's name"):
        store_request.context([(name, "1")])


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            b"INSERT INTO t FORMAT Native\n\x01\x02",
            (Insert(into="INSERT INTO t", settings="", format="Native"), b"\x01\x02"),
        ),
        (
            b"insert into t format Avro",
            (Insert(into="insert into t", settings="", format="Avro"), b""),
        ),
        (
            (
                b'\n INSERT INTO `a b`.t (`format x`, "format y")'
                b" SETTINGS s='FORMAT z' FORMAT CSV\r\n1"
            ),
            (
                Insert(
                    into='INSERT INTO `a b`.t (`format x`, "format y")',
                    settings=" SETTINGS s='FORMAT z'",
                    format="CSV",
                ),
                b"1",
            ),
        ),
        (
            b"INSERT INTO t FORMAT Avro\nObj FORMAT x\n",
            (Insert(into="INSERT INTO t", settings="", format="Avro"), b"Obj FORMAT x\n"),
        ),
        (b"INSERT INTO t VALUES ('FORMAT x')", None),
        (b"INSERT INTO t SELECT 1", None),
        (b"SELECT 1 FORMAT Native", None),
    ],
)
def test_an_insert_is_split_from_its_rows(
    head: bytes, expected: tuple[Insert, bytes] | None
) -> None:
    """The statement ends at its FORMAT clause; every byte behind it is rows."""
    assert expected == store_request.split_insert(head)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT 1\nINTO OUTFILE '/dev/fd/7' APPEND FORMAT TSV"),
        ("SELECT 1;\n", "SELECT 1\nINTO OUTFILE '/dev/fd/7' APPEND FORMAT TSV"),
        (
            "SELECT 1 -- why\n FORMAT Native",
            "SELECT 1 -- why\n \nINTO OUTFILE '/dev/fd/7' APPEND FORMAT Native",
        ),
        (
            "SELECT 'FORMAT x' format JSON settings a = 1",
            "SELECT 'FORMAT x' \nINTO OUTFILE '/dev/fd/7' APPEND FORMAT JSON settings a = 1",
        ),
        ("SELECT 'FORMAT x'", "SELECT 'FORMAT x'\nINTO OUTFILE '/dev/fd/7' APPEND FORMAT TSV"),
    ],
)
def test_a_result_goes_to_the_descriptor(sql: str, expected: str) -> None:
    """The statement keeps its format and settings and writes to the descriptor."""
    assert expected == store_request.into_descriptor(sql, 7, "TSV")


def test_rows_come_from_the_descriptor() -> None:
    """The rewritten INSERT keeps its settings behind the source and its format at the end."""
    insert = Insert(into="INSERT INTO t (a)", settings=" SETTINGS x = 1", format="Avro")
    expected = "INSERT INTO t (a) FROM INFILE '/dev/fd/7' SETTINGS x = 1 FORMAT Avro"
    assert expected == store_request.from_descriptor(insert, 7)


def test_form_fields_are_read() -> None:
    """Text fields of a form come back as they were sent."""
    body = (
        b'--B\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 1\r\n'
        b'--B\r\nContent-Disposition: form-data; name="param_s"\r\n\r\nsn\xc3\xb6\r\n--B--\r\n'
    )
    fields = store_request.form_fields("multipart/form-data; boundary=B", body)
    assert fields == {"query": "SELECT 1", "param_s": "snö"}


def test_external_data_is_refused() -> None:
    """A file in a form is said to be unsupported, not ignored."""
    body = b'--B\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--B--\r\n'
    with pytest.raises(ValueError, match="external data"):
        store_request.form_fields("multipart/form-data; boundary=B", body)


@pytest.mark.parametrize(
    ("headers", "parameters", "expected"),
    [
        ({"authorization": "Basic " + b64encode(b"u:p:q").decode()}, {}, ("u", "p:q")),
        ({"authorization": "Basic !"}, {"user": "u", "password": "p"}, ("", "")),
        ({"x-clickhouse-user": "u", "x-clickhouse-key": "p"}, {}, ("u", "p")),
        ({}, {"user": "u", "password": "p"}, ("u", "p")),
        ({}, {}, ("", "")),
    ],
)
def test_credentials_are_found(
    headers: dict[str, str], parameters: dict[str, str], expected: tuple[str, str]
) -> None:
    """Every place that clients use is looked at; a broken header is no credential."""
    assert expected == store_request.credentials(headers, parameters)


def test_credentials_are_compared_as_pairs() -> None:
    """A part of the password cannot move into the user."""
    assert store_request.same(("u", "pé"), ("u", "pé"))
    assert not store_request.same(("up", ""), ("u", "p"))
    assert not store_request.same(("", ""), ("u", "p"))


def test_texts_and_names_are_quoted() -> None:
    """Nothing in a value can end its quotes."""
    assert store_request.quoted_text("a'b\\") == "'a\\'b\\\\'"
    assert store_request.quoted_name("a`b\\") == "`a\\`b\\\\`"

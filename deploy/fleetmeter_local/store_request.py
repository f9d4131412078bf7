"""Reads what a ClickHouse HTTP request asks for: statement, settings, parameters, credentials.

Pure: takes texts and bytes, runs nothing.
"""

import hmac
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy

DEFAULT_FORMAT = "TabSeparated"
HEAD_BYTES_MAX = 64 * 1024

# Parameters of the interface itself; every other one is a setting of the engine.
_INTERFACE = frozenset(
    {
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "user",
        "wait_end_of_query",
    }
)
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PARAMETER = "param_"

# Quoted names and texts are stepped over, so that a column called "format x" does not end the head.
_INSERT = re.compile(
    rb"""\s*(?P<into>INSERT\s+INTO\b(?:`[^`]*`|"[^"]*"|[^`"'])*?)
    (?P<settings>\s+SETTINGS\s(?:'(?:\\.|[^'\\])*'|[^'])*?)?
    \s+FORMAT\s+(?P<format>\w+)[ \t]*(?:;|\r?\n|\Z)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_STARTS_INSERT = re.compile(rb"\s*INSERT\b", re.IGNORECASE)
_FORMAT = re.compile(
    r"\bFORMAT\s+(?P<format>\w+)(?P<settings>\s+SETTINGS\s[^;]*)?[\s;]*\Z", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What surrounds a statement: database, engine settings, bound parameters, format."""

    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """The head of an INSERT whose rows follow as bytes in `format`."""

    into: str
    settings: str
    format: str


def context(parameters: Iterable[tuple[str, str]]) -> Context:
    """Return the surroundings that a request's parameters give.

    Raises:
        ValueError: a name cannot be a setting's.
    """
    given = dict(parameters)
    names = [n for n in given if n not in _INTERFACE and not n.startswith(_PARAMETER)]
    if bad := [name for name in names if not _SETTING.match(name)]:
        raise ValueError(f"{bad[0]!r} is not a setting's name")
    return Context(
        database=given.get("database", ""),
        settings={name: given[name] for name in names},
        parameters={
            n.removeprefix(_PARAMETER): v for n, v in given.items() if n.startswith(_PARAMETER)
        },
        format=given.get("default_format", DEFAULT_FORMAT),
    )


def starts_insert(head: bytes) -> bool:
    """Return whether a statement's first bytes say INSERT."""
    return _STARTS_INSERT.match(head) is not None


def split_insert(head: bytes) -> tuple[Insert, bytes] | None:
    """Return the INSERT that `head` starts with and the first bytes of its rows.

    None when no `FORMAT name` is seen: the statement carries its rows itself.
    """
    found = _INSERT.match(head[:HEAD_BYTES_MAX])
    if found is None:
        return None
    insert = Insert(
        into=found["into"].decode(),
        settings=(found["settings"] or b"").decode(),
        format=found["format"].decode(),
    )
    return insert, head[found.end() :]


def into_descriptor(sql: str, descriptor: int, default_format: str) -> str:
    """Return the reading statement `sql` rewritten to write its result to a file descriptor."""
    found = _FORMAT.search(sql)
    bare = sql[: found.start()] if found else sql.rstrip().rstrip(";")
    written = found["format"] if found else default_format
    settings = (found["settings"] or "") if found else ""
    # On a line of its own: the statement may end in a comment. APPEND: the descriptor exists.
    return f"{bare}\nINTO OUTFILE '/dev/fd/{descriptor}' APPEND FORMAT {written}{settings}"


def from_descriptor(insert: Insert, descriptor: int) -> str:
    """Return the INSERT rewritten to read its rows from a file descriptor."""
    source = f"FROM INFILE '/dev/fd/{descriptor}'"
    return f"{insert.into} {source}{insert.settings} FORMAT {insert.format}"


def result_format(sql: str, default_format: str) -> str:
    """Return the format in which a reading statement wants its result."""
    found = _FORMAT.search(sql)
    return found["format"] if found else default_format


def form_fields(content_type: str, body: bytes) -> dict[str, str]:
    """Return the text fields of a multipart form; long parameters come this way.

    Raises:
        ValueError: a part is a file (external data, which this store does not take).
    """
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    fields = {}
    for part in message_from_bytes(head + body, policy=policy.HTTP).iter_parts():
        if part.get_filename():
            raise ValueError("external data is not supported by the local store")
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        fields[str(name)] = payload.decode() if isinstance(payload, bytes) else ""
    return fields


def credentials(headers: Mapping[str, str], parameters: Mapping[str, str]) -> tuple[str, str]:
    """Return user and password wherever a client may put them; empty texts when it did not."""
    scheme, _, coded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = b64decode(coded, validate=True).decode().partition(":")
        except (Base64Error, UnicodeDecodeError):
            return "", ""
        return user, password
    if "x-clickhouse-user" in headers:
        return headers["x-clickhouse-user"], headers.get("x-clickhouse-key", "")
    return parameters.get("user", ""), parameters.get("password", "")


def same(given: tuple[str, str], wanted: tuple[str, str]) -> bool:
    """Return whether two credentials are equal, in a time that tells nothing."""
    one, other = ("\0".join(pair).encode() for pair in (given, wanted))
    return hmac.compare_digest(one, other)


def quoted_text(value: str) -> str:
    """Return `value` as a text literal of SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def quoted_name(value: str) -> str:
    """Return `value` as a quoted identifier of SQL."""
    escaped = value.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"

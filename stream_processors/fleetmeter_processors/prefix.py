"""Reads the metering prefix of an Event's body and skips its payload; judges nothing.

The decoder is generated from the Event schema, as straight-line source text that is compiled once
at import: it takes half the time of fastavro, which stays the reference that a property test holds
it against. It demands that the body ends exactly where its bytes end: a body that stopped
short or ran on would shift the rows of other tenants in a shared container file.
"""

from collections.abc import Callable, Mapping
from io import BytesIO
from textwrap import indent
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn, cast

import fastavro

from fleetmeter_schemas.codec import READ_ERRORS
from fleetmeter_schemas.definitions import Schema, schema
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.records import Kind

PAYLOAD: Final = ("input", "output", "logs", "attributes")
UNDECODABLE: Final = "undecodable"
INT_MAX: Final = 2**31 - 1


class Detail(NamedTuple):
    """What a lifecycle event or a correction says.

    `plain`: it is written the one way that our own encoder has. Avro allows others (arrays in
    blocks with a size, which a reader may trust or not).
    """

    name: str
    record: Mapping[str, Any]
    size_bytes: int
    plain: bool


class Prefix(NamedTuple):
    """The fields of an Event before its payload; docs and units: fleetmeter.Event.avsc."""

    key_hash: bytes
    session_id: str
    event_id: str
    revision: int
    kind: Kind
    writer_id: str
    sequence: int
    start_time_us: int
    end_time_us: int | None
    name: str
    provider: str
    model: str
    service_tier: str
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    reasoning_tokens: int | None
    reported_cost_pico_usd: int | None
    time_to_first_token_us: int | None
    error_type: str
    user_id: str
    conversation_id: str
    agent_id: str
    parent_id: str
    trace_id: str
    span_id: str
    detail: Detail | None


Decoder = Callable[[bytes, int], tuple[Prefix, int]]


def decode_event(data: bytes, position: int) -> Prefix:
    """The prefix of the Event whose body goes from a position to the very end of the bytes.

    Raises:
        InvalidRecord: `undecodable`.
    """
    prefix, end = decode_prefix(data, position)
    if end != len(data):
        raise InvalidRecord(UNDECODABLE, f"{len(data) - end} bytes left over")
    return prefix


def decode_prefix(data: bytes, position: int) -> tuple[Prefix, int]:
    """The prefix of the Event at a position, and the position behind its payload.

    That position may lie behind the end of the bytes: the caller knows where it must be.

    Raises:
        InvalidRecord: `undecodable`.
    """
    try:
        return _decode(data, position)
    except IndexError as error:
        raise InvalidRecord(UNDECODABLE, "it runs past its end") from error
    except UnicodeDecodeError as error:
        raise InvalidRecord(UNDECODABLE, f"text that is not UTF-8: {error.reason}") from error


def source_of(event: Schema) -> str:
    """The decoder's source text for an Event schema; the names it uses: `_compiled`."""
    fields = {field["name"]: field["type"] for field in event["fields"]}
    steps = [
        f"# {name}\n{_SKIP if name in PAYLOAD else _template(kind, name)}"
        for name, kind in fields.items()
    ]
    found = ", ".join(name for name in fields if name not in PAYLOAD)
    body = "\n".join([*steps, f"return new(Prefix, ({found})), at"])
    return "def decode(data, at):\n" + indent(body, "    ") + "\n"


# A zig-zag number: most have one byte or two.
_ZIGZAG = """\
{it} = data[at]
at += 1
if {it} > 127:
    if (byte := data[at]) < 128:
        {it} = {it} & 127 | byte << 7
        at += 1
    else:
        {it}, at = rest(data, at, {it})
"""
_NUMBER = _ZIGZAG.format(it="number")
_LENGTH = _ZIGZAG.format(it="size") + 'if size & 1:\n    refuse("a negative length")\n'
_SKIP = _LENGTH + "at += size >> 1\n"
_TEMPLATES: Final = MappingProxyType(
    {
        "fixed": "{name} = data[at:at + {size}]\nat += {size}\n",
        "string": _LENGTH
        + "if size:\n    start = at\n    at += size >> 1\n    {name} = data[start:at].decode()\n"
        'else:\n    {name} = ""\n',
        "long": _NUMBER + "{name} = (number >> 1) ^ -(number & 1)\n",
        "int": _NUMBER + "{name} = (number >> 1) ^ -(number & 1)\n"
        'if not -INT_MAX - 1 <= {name} <= INT_MAX:\n    refuse("more than 32 bits")\n',
        "enum": _NUMBER + 'if number & 1 or number >= 2 * {size}:\n    refuse("no such symbol")\n'
        "{name} = KINDS[number >> 1]\n",
        "optional": "branch = data[at]\nat += 1\nif branch == 2:\n"
        + indent(_NUMBER, "    ")
        + "    {name} = (number >> 1) ^ -(number & 1)\n"
        'elif branch:\n    refuse("no such branch")\nelse:\n    {name} = None\n',
        "detail": "branch = data[at]\nat += 1\nif branch:\n"
        "    {name}, at = read_detail(data, at, branch)\nelse:\n    {name} = None\n",
    }
)


def _template(kind: Any, name: str) -> str:
    match kind:
        case "string" | "long" | "int":
            return _TEMPLATES[kind].format(name=name)
        case {"type": "fixed", "size": size}:
            return _TEMPLATES["fixed"].format(name=name, size=size)
        case {"type": "enum", "symbols": symbols}:
            return _TEMPLATES["enum"].format(name=name, size=len(symbols))
        case ["null", "long"]:
            return _TEMPLATES["optional"].format(name=name)
        case ["null", *_] if name == "detail":
            return _TEMPLATES["detail"].format(name=name)
    raise AssertionError(f"{name}: no template for {kind}")


def _rest(data: bytes, at: int, first: int) -> tuple[int, int]:
    """The undone zig-zag number whose first byte says that more follow, and the position after."""
    number = first & 127
    for shift in range(7, 70, 7):
        byte = data[at]
        at += 1
        if byte < 128:  # noqa: PLR2004 - the last byte has no high bit
            number |= byte << shift
            if number >> 64:
                _refuse("a number of more than 64 bits")
            return number, at
        number |= (byte & 127) << shift
    raise InvalidRecord(UNDECODABLE, "a number of more than ten bytes")


def _refuse(why: str) -> NoReturn:
    raise InvalidRecord(UNDECODABLE, why)


_EVENT: Final = schema("Event")
_TYPES: Final = {field["name"]: field["type"] for field in _EVENT["fields"]}
_DETAILS: Final = tuple(
    (branch["name"], branch) if isinstance(branch, dict) else (branch, schema(branch.split(".")[1]))
    for branch in _TYPES["detail"][1:]
)


def _read_detail(data: bytes, at: int, branch: int) -> tuple[Detail, int]:
    if branch & 1 or branch > 2 * len(_DETAILS):
        _refuse("no such branch")
    name, definition = _DETAILS[(branch >> 1) - 1]
    source = BytesIO(data)
    source.seek(at)
    try:
        record = fastavro.schemaless_reader(source, definition, None)
    except READ_ERRORS as error:
        raise InvalidRecord(UNDECODABLE, f"detail: {error}") from error
    end = source.tell()
    again = BytesIO()
    fastavro.schemaless_writer(again, definition, record)
    plain = again.getvalue() == data[at:end]
    found = cast("Mapping[str, Any]", record)
    return Detail(name=name, record=found, size_bytes=end - at, plain=plain), end


def _compiled(event: Schema) -> Decoder:
    names: dict[str, Any] = {
        "Prefix": Prefix,
        "new": tuple.__new__,
        "rest": _rest,
        "refuse": _refuse,
        "read_detail": _read_detail,
        "KINDS": tuple(Kind(symbol) for symbol in _TYPES["kind"]["symbols"]),
        "INT_MAX": INT_MAX,
    }
    exec(compile(source_of(event), "<decoder of Event>", "exec"), names)  # noqa: S102 - our own text
    return cast("Decoder", names["decode"])


_decode: Final = _compiled(_EVENT)

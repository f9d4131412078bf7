"""Turns whatever a program hands over into valid, bounded text; never raises for it."""

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any

REPR_CHARS_MAX = 10_000
DEPTH_MAX = 60
LABEL_CHARS_MAX = 1_000
_UTF8_BYTES_PER_CHAR = 4
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def text_of(value: Any) -> str:
    """A payload as text: nothing for None, text as it is, all else as JSON text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return valid(value)
    return json_text(value)


def json_text(value: Any) -> str:
    """The value as JSON text; what JSON does not know is written as text inside it."""
    try:
        return valid(_encode(value))
    except Exception:  # noqa: BLE001 - foreign objects may raise anything
        return _slow_json_text(value)


def valid(text: str) -> str:
    """The text, with `?` for what cannot be written as UTF-8 (lone surrogates)."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return str(text)


def label(value: object, chars_max: int = LABEL_CHARS_MAX) -> str:
    """A short text for a name or an id: nothing for None, cut where it is too long."""
    if value is None:
        return ""
    return valid(value if type(value) is str else safe_str(value))[:chars_max]


def safe_str(value: object) -> str:
    """`str(value)`, or what can be said about an object that cannot even do that."""
    try:
        return str(value)[:REPR_CHARS_MAX]
    except Exception:  # noqa: BLE001 - foreign objects may raise anything
        return f"<{type(value).__name__}>"


def fit(texts: dict[str, str], bytes_max: int) -> dict[str, int]:
    """Cuts the texts, in place, so that together they have at most so many bytes.

    The longest are cut first. Returns the original sizes in bytes of those that were cut.
    """
    if sum(map(len, texts.values())) * _UTF8_BYTES_PER_CHAR <= bytes_max:
        return {}
    encoded = {name: text.encode() for name, text in texts.items()}
    left = bytes_max
    cut = {}
    by_size = sorted(encoded, key=lambda name: len(encoded[name]))
    for done, name in enumerate(by_size):
        share = left // (len(by_size) - done)
        data = encoded[name]
        if len(data) > share:
            cut[name] = len(data)
            data = data[:share]
            texts[name] = data.decode("utf-8", "ignore")
        left -= len(data)
    return cut


def _slow_json_text(value: Any) -> str:
    try:
        return valid(_encode(_plain(value, ())))
    except Exception:  # noqa: BLE001 - foreign objects may raise anything
        return valid(_encode(safe_repr(value)))


def safe_repr(value: object) -> str:
    """`repr(value)`, cut; or the type's name where that raises."""
    try:
        return repr(value)[:REPR_CHARS_MAX]
    except Exception:  # noqa: BLE001 - foreign objects may raise anything
        return f"<{type(value).__name__}>"


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    """The value in terms of JSON. `above`: identities of the containers around it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return valid(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray):
        return _bytes_text(bytes(value[:REPR_CHARS_MAX]))
    return _plain_container(value, above)


def _plain_container(value: Any, outside: tuple[int, ...]) -> Any:
    if id(value) in outside:
        return "<circular>"
    if len(outside) >= DEPTH_MAX:
        return "<too deep>"
    above = (*outside, id(value))
    if isinstance(value, Mapping):
        return {label(key): _plain(member, above) for key, member in value.items()}
    if isinstance(value, Sequence | AbstractSet):
        return [_plain(member, above) for member in value]
    return _plain_object(value, above)


def _plain_object(value: Any, above: tuple[int, ...]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name), above) for each in fields(value)}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return _plain(dump(), above)
    return safe_str(value)


def _bytes_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "base64:" + b64encode(data).decode()

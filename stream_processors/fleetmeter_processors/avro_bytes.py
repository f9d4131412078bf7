"""Avro's longs and texts as bytes, from tables: for the records that are written by hand.

fleetmeter_schemas.block.encode_long says the same in its plain form; a test holds the two together.
"""

from collections.abc import Iterable
from typing import Final

from fleetmeter_schemas.block import encode_long as plain_long

_TWO_BYTES: Final = 1 << 14
# The encodings of 0 … 16383 before zig-zag; and of 14 bits that more follow.
_LAST: Final = tuple(
    bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80, value >> 7))  # noqa: PLR2004
    for value in range(_TWO_BYTES)
)
_MORE: Final = tuple(bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(_TWO_BYTES))
NULL: Final = plain_long(0)
PRESENT: Final = plain_long(1)
NO_TEXT: Final = plain_long(0)


def encode_long(number: int) -> bytes:
    """Avro's zig-zag variable-length long. Bound: 64 bits signed."""
    value = (number << 1) ^ (number >> 63)
    if value < _TWO_BYTES:
        return _LAST[value]
    head = b""
    while value >= _TWO_BYTES:
        head += _MORE[value & 0x3FFF]
        value >>= 14
    return head + _LAST[value]


def encode_longs(numbers: Iterable[int]) -> bytes:
    """Longs, one after the other; most are small."""
    last = _LAST
    return b"".join(
        [
            last[number << 1] if 0 <= number < 8192 else encode_long(number)  # noqa: PLR2004
            for number in numbers
        ]
    )


def encode_optional(number: int | None) -> bytes:
    """A long in a union with null, null first."""
    return NULL if number is None else PRESENT + encode_long(number)


def encode_text(text: str) -> bytes:
    """A string."""
    if not text:
        return NO_TEXT
    data = text.encode()
    return encode_long(len(data)) + data

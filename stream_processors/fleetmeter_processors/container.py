"""Avro object container files around records that are encoded already; encodes no record.

Layout: the Avro 1.11 specification, "Object Container Files", without compression.
"""

import os
from collections.abc import Iterable

from fastavro.schema import to_parsing_canonical_form

from fleetmeter_schemas.block import encode_long
from fleetmeter_schemas.definitions import Schema

MAGIC = b"Obj\x01"
SYNC_BYTES = 16


def container(schema: Schema, runs: Iterable[tuple[int, bytes | memoryview]]) -> bytes:
    """Return the file of these runs; each is a count and so many records, one after the other.

    Every run is a block of the file. A reader goes on behind it where its size says, so what is
    wrong inside a run is never read into the next one.
    """
    # A new one for every file: a record cannot hold what it does not know.
    sync = os.urandom(SYNC_BYTES)
    parts: list[bytes | memoryview] = [_header(schema, sync)]
    for count, data in runs:
        parts += (encode_long(count), encode_long(len(data)), data, sync)
    return b"".join(parts)


def _header(schema: Schema, sync: bytes) -> bytes:
    canonical = to_parsing_canonical_form(schema).encode()
    entries = ((b"avro.schema", canonical), (b"avro.codec", b"null"))
    metadata = b"".join(_sized(name) + _sized(value) for name, value in entries)
    return MAGIC + encode_long(len(entries)) + metadata + encode_long(0) + sync


def _sized(data: bytes) -> bytes:
    return encode_long(len(data)) + data

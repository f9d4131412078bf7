"""Avro single-object encoding: C3 01, the schema's fingerprint, the body. Knows no topic."""

from io import BytesIO
from typing import Any

import fastavro
from fastavro.read import SchemaResolutionError

from fleetmeter_schemas.definitions import Schema, fingerprint_of, schema
from fleetmeter_schemas.errors import InvalidRecord

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
# What fastavro raises on bytes that no writer of the schema can have written, and on records
# of another schema that have no place in the reader's.
READ_ERRORS = (
    SchemaResolutionError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)


def read_record(source: BytesIO, writer: Schema, reader: Schema) -> Any:
    """One record's body, wherever it ends; raises InvalidRecord(`undecodable`)."""
    try:
        return fastavro.schemaless_reader(source, writer, reader)
    except READ_ERRORS as error:
        raise InvalidRecord("undecodable", f"{type(error).__name__}: {error}") from error


class Codec:
    """Writes one record type, and reads it from its own and from other known schemas.

    Args:
        name: The record, such as `Snapshot`.
        others: Further writer schemas that may be met, older and newer ones.
    """

    def __init__(self, name: str, *others: Schema) -> None:
        self.name = name
        self.schema = schema(name)
        self.header = MARKER + fingerprint_of(self.schema)
        self._writers = {MARKER + fingerprint_of(other): other for other in others}
        self._writers[self.header] = self.schema

    def encode(self, record: Any) -> bytes:
        """The record with its header.

        A float where a whole number belongs is cut, not refused: the types say what to give.

        Raises:
            ValueError: A field is missing or unknown, or a value is out of range.
            TypeError: A value is of another type.
        """
        out = BytesIO()
        out.write(self.header)
        try:
            fastavro.schemaless_writer(out, self.schema, record, strict_allow_default=True)
        except OverflowError as error:
            raise ValueError(f"{self.name}: a number of more than 64 bits") from error
        return out.getvalue()

    def decode(self, data: bytes) -> Any:
        """The record as this codec's own schema has it.

        Raises:
            InvalidRecord: `not_avro`, `unknown_fingerprint` or `undecodable`.
        """
        writer = self.writer_schema(data)
        source = BytesIO(data)
        source.seek(HEADER_BYTES)
        record = read_record(source, writer, self.schema)
        if source.tell() != len(data):
            raise InvalidRecord("undecodable", f"{len(data) - source.tell()} bytes left over")
        return record

    def writer_schema(self, data: bytes) -> Schema:
        """The schema that wrote these bytes, by their header; raises InvalidRecord."""
        header = data[:HEADER_BYTES]
        found = self._writers.get(header)
        if found is not None:
            return found
        if len(header) < HEADER_BYTES or not header.startswith(MARKER):
            raise InvalidRecord("not_avro", "no Avro single-object header")
        raise InvalidRecord("unknown_fingerprint", header[2:].hex())

    def knows(self, data: bytes) -> bool:
        """Whether the header is one of this codec's."""
        return data[:HEADER_BYTES] in self._writers

"""Judges one record of events.v1: an event of which project, or rejected for which reason.

Knows no price, no earlier event and no broker. Reasons and their meanings: docs/dead-letters.md.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from io import BytesIO
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, cast

import fastavro

from fleetmeter_processors.prefix import UNDECODABLE, Prefix, decode_event
from fleetmeter_schemas.codec import HEADER_BYTES, READ_ERRORS, Codec
from fleetmeter_schemas.definitions import Schema
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.identity import (
    ID_BYTES_MAX,
    canonical_session_id,
    checked_id,
    partition_of,
)
from fleetmeter_schemas.records import Kind
from fleetmeter_schemas.topics import EVENT_BYTES_MAX

DETAIL_BYTES_MAX: Final = 500_000
REVISION_MAX: Final = 65_535
TOKENS_MAX: Final = 1_000_000_000
COST_PICO_USD_MAX: Final = 100_000 * 10**12
TIME_US_MIN: Final = 946_684_800_000_000  # 2000-01-01
TIME_US_MAX: Final = 4_102_444_800_000_000  # 2100-01-01
SKEW_AHEAD_MS_MAX: Final = 5 * 60_000
SKEW_BEHIND_MS_MAX: Final = 24 * 3_600_000
PLACES_CACHED_MAX: Final = 50_000


class Reason(StrEnum):
    """Why a record was rejected."""

    NOT_AVRO = "not_avro"
    UNKNOWN_FINGERPRINT = "unknown_fingerprint"
    UNDECODABLE = "undecodable"
    TOO_LARGE = "too_large"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    SESSION_ID = "session_id"
    EVENT_ID = "event_id"
    WRITER_ID = "writer_id"
    REVISION = "revision"
    WRONG_KEY = "wrong_key"
    WRONG_PARTITION = "wrong_partition"
    WRONG_DETAIL = "wrong_detail"
    NEGATIVE_NUMBER = "negative_number"
    TOKENS_TOO_LARGE = "tokens_too_large"
    COST_TOO_LARGE = "cost_too_large"
    TIME_OUT_OF_RANGE = "time_out_of_range"


MEANINGS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.NOT_AVRO: "It does not begin with an Avro single-object header, or has no value.",
        Reason.UNKNOWN_FINGERPRINT: "It was written with a schema that this version does not know.",
        Reason.UNDECODABLE: "Its body is no Event, or does not end where its bytes end.",
        Reason.TOO_LARGE: "It is over 2 MB, or its detail is over 500 kB.",
        Reason.UNKNOWN_KEY: "Nobody has this API key; control.v1 was read to its end.",
        Reason.REVOKED_KEY: "The API key had been revoked when the broker took the record.",
        Reason.SESSION_ID: "The session id is empty, over 200 bytes, or not in canonical spelling.",
        Reason.EVENT_ID: "The event id is empty or over 200 bytes.",
        Reason.WRITER_ID: "The writer id is over 200 bytes.",
        Reason.REVISION: "The revision is over 65535.",
        Reason.WRONG_KEY: "The record's key is not its session id.",
        Reason.WRONG_PARTITION: "The record is not in its key's partition: its writer does not"
        " use the partitioner murmur2_random.",
        Reason.WRONG_DETAIL: "The detail does not belong to this kind of event.",
        Reason.NEGATIVE_NUMBER: "A token count, cost, duration, sequence or revision is negative.",
        Reason.TOKENS_TOO_LARGE: "A token count is over 1,000,000,000.",
        Reason.COST_TOO_LARGE: "The reported cost is over 100,000 USD.",
        Reason.TIME_OUT_OF_RANGE: "A start or end lies outside the years 2000 to 2099.",
    }
)


class Grant(NamedTuple):
    """What an API key stands for."""

    project_id: str
    idle_timeout_ms: int
    revoked_at_ms: int | None


class Keys(Protocol):
    """Who may write, as control.v1 says."""

    def find(self, key_hash: bytes) -> Grant | None:
        """What the key of this hash stands for, as far as control.v1 has been read."""

    def catch_up(self) -> None:
        """Read control.v1 to the end that it has now."""


class Raw(NamedTuple):
    """One record of events.v1 as it lies in the log."""

    offset: int
    log_time_ms: int
    key: bytes | None
    value: bytes | None


class Accepted(NamedTuple):
    """An event that counts, unless it was metered before. `body`: in the current schema."""

    prefix: Prefix
    body: bytes
    grant: Grant
    clock_skewed: bool


class Rejected(NamedTuple):
    """A record that does not count; `project_id` is empty where it is not known."""

    reason: str
    detail: str
    project_id: str


class Judge:
    """Judges the records of one partition.

    Args:
        partition: The partition of events.v1.
        partitions: How many there are.
        keys: Who may write.
        codec: Codec of Event, with the other schemas that writers may use.
    """

    def __init__(self, partition: int, partitions: int, keys: Keys, codec: Codec) -> None:
        self._partition = partition
        self._keys = keys
        self._codec = codec
        self._header = codec.header
        self._place = lru_cache(maxsize=PLACES_CACHED_MAX)(_Placing(partitions))
        self.rewritten = 0

    def judge(self, record: Raw) -> Accepted | Rejected | None:
        """The verdict on one record; None for a tick, which only moves time."""
        project_id = ""
        try:
            body, prefix = self._decoded(record.value)
            if prefix.kind is Kind.TICK:
                return None
            grant = self._granted(prefix.key_hash)
            project_id = grant.project_id
            _check_key(grant, record.log_time_ms)
            self._check_identity(prefix, record.key)
            _check_numbers(prefix)
            _check_times(prefix)
            _check_detail(prefix)
        except InvalidRecord as error:
            return Rejected(error.reason, error.detail, project_id)
        return Accepted(prefix, body, grant, _is_skewed(prefix, record.log_time_ms))

    def _granted(self, key_hash: bytes) -> Grant:
        grant = self._keys.find(key_hash)
        if grant is None:
            raise InvalidRecord(Reason.UNKNOWN_KEY)
        return grant

    def _decoded(self, value: bytes | None) -> tuple[bytes, Prefix]:
        if value is None:
            raise InvalidRecord(Reason.NOT_AVRO, "no value")
        if len(value) > EVENT_BYTES_MAX:
            raise InvalidRecord(Reason.TOO_LARGE, f"{len(value)} bytes")
        if value[:HEADER_BYTES] != self._header:
            value = self._rewritten(value, self._codec.writer_schema(value))
        prefix = decode_event(value, HEADER_BYTES)
        if prefix.detail is not None and not prefix.detail.plain:
            value = self._rewritten(value, self._codec.schema)
            prefix = decode_event(value, HEADER_BYTES)
        return value[HEADER_BYTES:], prefix

    def _rewritten(self, value: bytes, writer: Schema) -> bytes:
        """The same event as our own encoder writes it in the current schema: the slow path."""
        self.rewritten += 1
        source = BytesIO(value)
        source.seek(HEADER_BYTES)
        try:
            event = fastavro.schemaless_reader(
                source, writer, self._codec.schema, return_record_name=True
            )
            again = self._codec.encode(event)
        except READ_ERRORS as error:
            raise InvalidRecord(UNDECODABLE, f"{type(error).__name__}: {error}") from error
        if source.tell() != len(value):
            raise InvalidRecord(UNDECODABLE, f"{len(value) - source.tell()} bytes left over")
        return again

    def _check_identity(self, prefix: Prefix, key: bytes | None) -> None:
        expected_key, partition = self._place(prefix.session_id)
        if key != expected_key:
            raise InvalidRecord(Reason.WRONG_KEY)
        if partition != self._partition:
            raise InvalidRecord(Reason.WRONG_PARTITION, f"partition {partition} is the key's")
        # A quarter of the bound fits whatever its characters are.
        if not 0 < len(prefix.event_id) * 4 <= ID_BYTES_MAX and (
            prefix.event_id or prefix.kind is not Kind.HEARTBEAT
        ):
            checked_id(prefix.event_id, Reason.EVENT_ID)
        if len(prefix.writer_id) * 4 > ID_BYTES_MAX:
            checked_id(prefix.writer_id, Reason.WRITER_ID)
        if prefix.revision > REVISION_MAX:
            raise InvalidRecord(Reason.REVISION, str(prefix.revision))


class _Placing:
    """The key and the partition that a session id must have."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def __call__(self, session_id: str) -> tuple[bytes, int]:
        if canonical_session_id(session_id) != session_id:
            raise InvalidRecord(Reason.SESSION_ID, "a UUID is written lower-case and dashed")
        key = session_id.encode()
        return key, partition_of(key, self._partitions)


def _check_key(grant: Grant, log_time_ms: int) -> None:
    if grant.revoked_at_ms is not None and log_time_ms >= grant.revoked_at_ms:
        raise InvalidRecord(Reason.REVOKED_KEY)


def _check_numbers(prefix: Prefix) -> None:
    for count in cast("tuple[int | None, ...]", prefix[_TOKENS]):
        if count is not None and not 0 <= count <= TOKENS_MAX:
            reason = Reason.NEGATIVE_NUMBER if count < 0 else Reason.TOKENS_TOO_LARGE
            raise InvalidRecord(reason, f"a token count of {count}")
    cost = prefix.reported_cost_pico_usd
    if cost is not None and cost > COST_PICO_USD_MAX:
        raise InvalidRecord(Reason.COST_TOO_LARGE, f"{cost} pico-USD")
    if (
        prefix.sequence < 0
        or prefix.revision < 0
        or (cost is not None and cost < 0)
        or (prefix.time_to_first_token_us or 0) < 0
    ):
        raise InvalidRecord(
            Reason.NEGATIVE_NUMBER, "sequence, revision, reported cost or time to first token"
        )


_TOKENS: Final = slice(
    Prefix._fields.index("input_tokens"), Prefix._fields.index("reasoning_tokens") + 1
)


def _check_times(prefix: Prefix) -> None:
    start, end = prefix.start_time_us, prefix.end_time_us
    if not TIME_US_MIN <= start < TIME_US_MAX:
        raise InvalidRecord(Reason.TIME_OUT_OF_RANGE, f"start {start} µs")
    if end is not None and not TIME_US_MIN <= end < TIME_US_MAX:
        raise InvalidRecord(Reason.TIME_OUT_OF_RANGE, f"end {end} µs")


_OPTIONAL_UPDATE: Final = (None, "fleetmeter.SessionUpdate")
_DETAIL_OF: Final[Mapping[Kind, tuple[str | None, ...]]] = MappingProxyType(
    {
        Kind.SESSION_STARTED: _OPTIONAL_UPDATE,
        Kind.SESSION_UPDATED: _OPTIONAL_UPDATE,
        Kind.SESSION_ENDED: ("fleetmeter.SessionEnd",),
        Kind.CORRECTION: ("fleetmeter.Correction",),
    }
)
_NO_DETAIL: Final = (None,)


def _check_detail(prefix: Prefix) -> None:
    detail = prefix.detail
    name = None if detail is None else detail.name
    allowed = _DETAIL_OF.get(prefix.kind, _NO_DETAIL)
    if name not in allowed:
        raise InvalidRecord(Reason.WRONG_DETAIL, f"{prefix.kind} with {name}")
    if detail is None:
        return
    if detail.size_bytes > DETAIL_BYTES_MAX:
        raise InvalidRecord(Reason.TOO_LARGE, f"a detail of {detail.size_bytes} bytes")
    if detail.record.get("last_sequence", 0) < 0:
        raise InvalidRecord(Reason.NEGATIVE_NUMBER, "last_sequence")


def _is_skewed(prefix: Prefix, log_time_ms: int) -> bool:
    """Whether the latest time said is impossible or old for something just written."""
    start, end = prefix.start_time_us, prefix.end_time_us
    said_ms = (start if end is None or end < start else end) // 1000
    return not -SKEW_BEHIND_MS_MAX <= said_ms - log_time_ms <= SKEW_AHEAD_MS_MAX

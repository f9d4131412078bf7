"""Names and hashes that all services must agree on: sessions, keys, partitions. No I/O."""

import re
from hashlib import sha256
from uuid import UUID

from fleetmeter_schemas.errors import InvalidRecord

ID_BYTES_MAX = 200
KEY_HASH_BYTES = 16
NO_KEY = bytes(KEY_HASH_BYTES)
# In sessions.v1, beside the snapshots of its partition.
CHECKPOINT_KEY = b"checkpoint"
_HEX_32 = re.compile(r"[0-9a-fA-F]{32}")
_UUID = re.compile(r"\{?[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\}?")
_MASK = 0xFFFFFFFF


def canonical_session_id(text: str) -> str:
    """The one spelling of a session id.

    What parses as a UUID, 32 hex digits (a trace id) included, is lower-case and dashed;
    anything else stays as it is, 1 to 200 bytes of UTF-8.

    Raises:
        InvalidRecord: `session_id`, when empty, too long or not UTF-8.
    """
    if _UUID.fullmatch(text) or _HEX_32.fullmatch(text):
        return str(UUID(text))
    return checked_id(text, "session_id")


def checked_id(text: str, reason: str) -> str:
    """The id itself, when it has 1 to 200 bytes of UTF-8; raises InvalidRecord(reason) else."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRecord(reason, "not valid Unicode") from error
    if not 0 < size <= ID_BYTES_MAX:
        raise InvalidRecord(reason, f"{size} bytes; 1 to {ID_BYTES_MAX} are allowed")
    return text


def key_hash(api_key: str) -> bytes:
    """H(API key): 16 bytes. The canonical key is the lower-case dashed UUID.

    Raises:
        InvalidRecord: `api_key`, when it is not a UUID.
    """
    try:
        canonical = str(UUID(api_key.strip()))
    except ValueError as error:
        raise InvalidRecord("api_key", "an API key is a UUID") from error
    return short_hash(canonical.encode())


def short_hash(data: bytes) -> bytes:
    """First 16 bytes of SHA-256; over a key hash it gives what control.v1 holds."""
    return sha256(data).digest()[:KEY_HASH_BYTES]


def session_key(project_id: str, session_id: str) -> bytes:
    """What the keys of all snapshots of a session begin with, before their part."""
    return f"{project_id}/{session_id}".encode()


def snapshot_key(project_id: str, session_id: str, part: int) -> bytes:
    """Key of the snapshots of one part of a session in sessions.v1.

    Compaction keeps the last snapshot of each part: a part that is forgotten and one that
    follows it must not replace each other.
    """
    return b"%s/%d" % (session_key(project_id, session_id), part)


def split_snapshot_key(key: bytes) -> tuple[bytes, int]:
    """The session's key, and the part."""
    session, _, part = key.rpartition(b"/")
    return session, int(part)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key as Java's clients and `murmur2_random` choose it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, unsigned (org.apache.kafka.common.utils.Utils)."""
    multiplier = 0x5BD1E995
    length = len(data)
    value = (0x9747B28C ^ length) & _MASK
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * multiplier & _MASK
        word = (word ^ (word >> 24)) * multiplier & _MASK
        value = (value * multiplier & _MASK) ^ word
    if whole < length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * multiplier & _MASK
    value = (value ^ (value >> 13)) * multiplier & _MASK
    return value ^ (value >> 15)

"""Encoded records of metered.v1 and sessions.v1, as the lander meets them."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import fastavro

from fleetmeter_schemas.block import encode_block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.records import NUMBER_NAMES

BARRIER = Codec("Barrier").encode({"owner": "a meter"})
CHECKPOINT = Codec("Checkpoint")
SNAPSHOT = Codec("Snapshot")
START_US = 1_700_000_000_000_000


def event(offset: int, **fields: Any) -> bytes:
    """Return one encoded MeteredEvent."""
    record = {
        "key_hash": bytes(16),
        "session_id": f"session-{offset}",
        "event_id": f"event-{offset}",
        "start_time_us": START_US,
        "project_id": "p",
        "first_start_time_us": START_US,
        "cost_input_pico_usd": None,
        "cost_output_pico_usd": None,
        "cost_pico_usd": None,
        "computed_cost_pico_usd": None,
        "cost_status": "none",
        "price_id": "",
        "price_match": "",
        "clock_skewed": False,
        "heard_ms": 0,
        "partition": 0,
        "offset": offset,
        "log_time_ms": 5,
        "kind": "action",
    }
    return _encoded("MeteredEvent", record | fields)


def reject(offset: int, **fields: Any) -> bytes:
    """Return one encoded Reject."""
    record = {
        "partition": 0,
        "offset": offset,
        "log_time_ms": 5,
        "reason": "api_key",
        "detail": "unknown",
        "project_id": "",
        "key": b"key \xff",
        "value": b"value \x00\xff",
    }
    return _encoded("Reject", record | fields)


def snapshot(**fields: Any) -> bytes:
    """Return a session's snapshot, with its header."""
    record = {
        "project_id": "p",
        "session_id": "s",
        "part": 0,
        "partition": 0,
        "next": 1,
        "log_time_ms": 5,
        "state": "open",
        "revision": 1,
        "end_state": "Indeterminate",
        "end_state_said": "",
        "end_state_reason": "",
        "started_at_us": START_US,
        "ended_at_us": None,
        "last_event_at_us": START_US,
        "closed_at_ms": None,
        "closed_heard_ms": None,
        "heard_ms": 0,
        "idle_timeout_ms": 0,
        "name": "",
        "user_id": "",
        "conversation_id": "",
        "video": "",
        "tags": [],
        "agents": {},
        "numbers": dict.fromkeys(NUMBER_NAMES, 0),
        "late_events": 0,
        "complete": None,
        "flags": [],
        "writers": [],
    }
    return SNAPSHOT.encode(record | fields)


def block(
    *,
    epoch: int,
    first: int,
    following: int,
    events: Sequence[bytes] = (),
    rejects: Sequence[bytes] = (),
    log_time_ms: int = 5,
) -> bytes:
    """Return a block of the raw records [first, following)."""
    return encode_block(
        epoch=epoch,
        first=first,
        next=following,
        heard_ms=0,
        log_time_ms=log_time_ms,
        duplicates=0,
        deltas=(),
        events=events,
        rejects=rejects,
    )


def checkpoint(partition: int) -> bytes:
    """Return a checkpoint."""
    return CHECKPOINT.encode(
        {
            "partition": partition,
            "metered_offset": 0,
            "epoch": 0,
            "next": 0,
            "heard_ms": 0,
            "log_time_ms": 0,
        }
    )


def _encoded(name: str, record: dict[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, schema(name), record)
    return out.getvalue()

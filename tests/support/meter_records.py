"""Raw events, keys and readers of blocks for tests of the meter: plain ones, changed by keyword."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from fleetmeter_processors.enrichment import read_events
from fleetmeter_processors.judge import Grant, Raw
from fleetmeter_processors.prefix import Prefix
from fleetmeter_schemas.block import Block
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import key_hash
from fleetmeter_schemas.records import Enrichment

EVENT = Codec("Event")
API_KEY = str(UUID(int=7))
KEY_HASH = key_hash(API_KEY)
PROJECT = str(UUID(int=1))
GRANT = Grant(project_id=PROJECT, idle_timeout_ms=60_000, revoked_at_ms=None)
SESSION = str(UUID(int=3))
LOG_TIME_MS = 1_763_000_000_000
START_US = LOG_TIME_MS * 1000


def event(**values: Any) -> dict[str, Any]:
    """An action of SESSION with an event id of its own in each session."""
    base: dict[str, Any] = {
        "key_hash": KEY_HASH,
        "session_id": SESSION,
        "event_id": "e1",
        "kind": "action",
        "writer_id": "w",
        "sequence": 1,
        "start_time_us": START_US,
    }
    return base | values


def llm(**values: Any) -> dict[str, Any]:
    """A call of a model that has a price."""
    base: dict[str, Any] = {
        "kind": "llm",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1_000,
        "output_tokens": 100,
    }
    return event(**(base | values))


def ended(state: str = "Success", **values: Any) -> dict[str, Any]:
    """The end of a session."""
    said = {"end_state": state, "end_state_said": state, "last_sequence": 9}
    base: dict[str, Any] = {
        "kind": "session_ended",
        "event_id": "end",
        "detail": ("fleetmeter.SessionEnd", said),
    }
    return event(**(base | values))


def raw(offset: int, record: dict[str, Any], log_time_ms: int = LOG_TIME_MS, **values: Any) -> Raw:
    """The event as a record of the log, under its session's key."""
    key = values.get("key", record["session_id"].encode())
    return Raw(offset, log_time_ms, key, EVENT.encode(record))


class FakeKeys:
    """Keys that are known at once, and those that are found only after a catching up."""

    def __init__(
        self, known: dict[bytes, Grant] | None = None, later: dict[bytes, Grant] | None = None
    ) -> None:
        self.known = {KEY_HASH: GRANT} if known is None else known
        self.later = later or {}
        self.caught_up = 0

    def find(self, key_hash: bytes) -> Grant | None:
        """What is known of a key."""
        return self.known.get(key_hash)

    def catch_up(self) -> None:
        """Learn what was written later."""
        self.caught_up += 1
        self.known = self.known | self.later


def events_of(blocks: Iterable[Block]) -> list[tuple[Prefix, Enrichment]]:
    """All metered events of some blocks."""
    return [found for block in blocks for found in read_events(block.events)]

"""The records as Python types; field docs, units and defaults: the .avsc files beside this."""

from enum import StrEnum
from typing import TypedDict


class Kind(StrEnum):
    """What an event is."""

    ACTION = "action"
    LLM = "llm"
    TOOL = "tool"
    ERROR = "error"
    SESSION_STARTED = "session_started"
    SESSION_UPDATED = "session_updated"
    SESSION_ENDED = "session_ended"
    HEARTBEAT = "heartbeat"
    TICK = "tick"
    CORRECTION = "correction"


COUNTED_KINDS = frozenset({Kind.ACTION, Kind.LLM, Kind.TOOL, Kind.ERROR})
LIFECYCLE_KINDS = frozenset({Kind.SESSION_STARTED, Kind.SESSION_UPDATED, Kind.SESSION_ENDED})


class EndState(StrEnum):
    """How a session ended."""

    INDETERMINATE = "Indeterminate"
    SUCCESS = "Success"
    FAILURE = "Failure"


class SessionState(StrEnum):
    """Where a session stands."""

    OPEN = "open"
    TIMED_OUT = "timed_out"
    ENDED = "ended"


class CostStatus(StrEnum):
    """Where an event's cost comes from, or why it has none."""

    NONE = "none"
    PROVIDED = "provided"
    OVERRIDE = "override"
    PRICED = "priced"
    UNPRICED = "unpriced"
    NO_USAGE = "no_usage"
    INVALID_USAGE = "invalid_usage"
    AGGREGATE = "aggregate"


class Numbers(TypedDict):
    """Sums over unique events, or signed differences of them."""

    events: int
    llm_calls: int
    tool_calls: int
    actions: int
    errors: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_pico_usd: int
    cost_input_pico_usd: int
    cost_output_pico_usd: int
    unpriced_events: int
    invalid_usage_events: int
    skewed_events: int


NUMBER_NAMES = tuple(Numbers.__annotations__)
# A sum is held within these, an Avro long's.
LONG_MIN = -(2**63)
LONG_MAX = 2**63 - 1


class SessionUpdate(TypedDict):
    """What a session_started or session_updated says."""

    name: str | None
    user_id: str | None
    video: str | None
    tags_set: list[str] | None
    tags_added: list[str]
    agents: dict[str, str]


class SessionEnd(TypedDict):
    """What a session_ended says."""

    end_state: str
    end_state_said: str
    reason: str
    last_sequence: int
    video: str | None


class Correction(TypedDict):
    """Signed differences to a session's numbers."""

    numbers: Numbers
    who: str
    why: str


class Event(TypedDict, total=False):
    """One record about a session. Only the fields without a default must be given."""

    key_hash: bytes
    session_id: str
    event_id: str
    revision: int
    kind: str
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
    # In a union of records fastavro wants ("fleetmeter.SessionEnd", {...}) when writing.
    detail: tuple[str, SessionUpdate | SessionEnd | Correction] | None
    input: str
    output: str
    logs: str
    attributes: str


class Enrichment(TypedDict):
    """The meter's verdict on one event."""

    project_id: str
    first_start_time_us: int
    cost_input_pico_usd: int | None
    cost_output_pico_usd: int | None
    cost_pico_usd: int | None
    computed_cost_pico_usd: int | None
    cost_status: str
    price_id: str
    price_match: str
    clock_skewed: bool
    heard_ms: int
    partition: int
    offset: int
    log_time_ms: int


class WriterRecord(TypedDict):
    """One writer, in a delta or in a snapshot."""

    writer_id: str
    heard_ms: int
    heartbeat: bool
    announced: int
    ended: bool
    runs: list[int]


class Lifecycle(TypedDict):
    """The lifecycle event that ended a delta's run."""

    kind: str
    event_time_us: int
    writer_id: str
    # As in Event: written as (name, record), read as the record.
    detail: tuple[str, SessionUpdate | SessionEnd] | SessionUpdate | SessionEnd | None


class Delta(TypedDict):
    """What a run of one session's records in one block adds up to."""

    project_id: str
    session_id: str
    first_offset: int
    first_time_us: int | None
    last_time_us: int | None
    heard_ms: int
    log_time_ms: int
    idle_timeout_ms: int
    counted: int
    saturated: bool
    numbers: Numbers
    conversation_id: str
    user_id: str
    writers: list[WriterRecord]
    lifecycle: Lifecycle | None


class Reject(TypedDict):
    """A record that the meter did not accept."""

    partition: int
    offset: int
    log_time_ms: int
    reason: str
    detail: str
    project_id: str
    key: bytes
    value: bytes


class Barrier(TypedDict):
    """A meter takes a partition."""

    owner: str


class Snapshot(TypedDict):
    """A session after a block."""

    project_id: str
    session_id: str
    part: int
    partition: int
    next: int
    log_time_ms: int
    state: str
    revision: int
    end_state: str
    end_state_said: str
    end_state_reason: str
    started_at_us: int
    ended_at_us: int | None
    last_event_at_us: int
    closed_at_ms: int | None
    closed_heard_ms: int | None
    heard_ms: int
    idle_timeout_ms: int
    name: str
    user_id: str
    conversation_id: str
    video: str
    tags: list[str]
    agents: dict[str, str]
    numbers: Numbers
    late_events: int
    complete: bool | None
    flags: list[str]
    writers: list[WriterRecord]


class Checkpoint(TypedDict):
    """How far the snapshots of a partition have come."""

    partition: int
    metered_offset: int
    epoch: int
    next: int
    heard_ms: int
    log_time_ms: int


class Project(TypedDict):
    """A project and its settings."""

    project_id: str
    name: str
    idle_timeout_ms: int
    created_at_ms: int


class ApiKey(TypedDict):
    """An API key of a project."""

    key_hash_hash: bytes
    project_id: str
    hint: str
    created_at_ms: int
    revoked_at_ms: int | None


class Cluster(TypedDict):
    """What is fixed when the topics are created."""

    partitions: int
    created_at_ms: int

"""The shapes of the answers for the OpenAPI description, with examples; validates none of them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_SESSION_ID = "3f2c6a9e-8d10-4b57-9a34-5d1c0e7f2b88"
_PROJECT_ID = "b7a4e1d2-0c63-4f95-8e21-6a9d3c5b7f10"


class Problem(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs; the list is in the documentation.")
    message: str = Field(description="For people.")
    request_id: str = Field(description="Names this request in the logs.")


class Refusal(BaseModel):
    """The shape of all errors."""

    error: Problem

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": {
                    "code": "not_found",
                    "message": "There is no such session in this project.",
                    "request_id": "8c7e0d8a3f9b4c61a1f5f0b7f4f0c1de",
                }
            }
        }
    )


class Current(BaseModel):
    """How current an answer is."""

    caught_up: bool = Field(
        description="The answer contains all that was asked for: everything up to `after_offset`, "
        "and no newer snapshot is known to be on its way to the store."
    )
    as_of: str | None = Field(
        description="Log time up to which everything is contained, RFC 3339; null: not known yet."
    )
    lag_ms: int | None = Field(description="Now minus `as_of`, milliseconds.")


class Stats(Current):
    """The totals of a session, exact for the events that were metered by `as_of`."""

    session_id: str = Field(description="Canonical session id.")
    project_id: str = Field(description="The project that the API key belongs to.")
    state: Literal["open", "timed_out", "ended"] = Field(
        description="timed_out re-opens when an event comes."
    )
    end_state: str = Field(
        description="The word that a writer sent; Indeterminate while there is no verdict."
    )
    end_state_reason: str = Field(
        description="Said with the end, or idle_timeout, writer_lost, session_limit; else empty."
    )
    init_timestamp: str = Field(description="Start on the event clock, RFC 3339.")
    end_timestamp: str | None = Field(
        description="End on the event clock, RFC 3339; null while it runs."
    )
    duration_s: float = Field(description="From start to end, or to the last event so far.")
    events: int = Field(description="LLM calls, tool calls, actions and errors together.")
    llm_calls: int
    tool_calls: int
    actions: int
    errors: int
    prompt_tokens: int = Field(description="All input tokens, those from and to caches included.")
    completion_tokens: int = Field(description="All output tokens, reasoning included.")
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    total_tokens: int = Field(description="prompt_tokens + completion_tokens.")
    cost: str = Field(
        description="USD, exact: plain decimal text without exponent, trailing zeros cut, "
        "two decimals at least. Calls without a known price are not in it."
    )
    unpriced_events: int = Field(description="LLM calls for which no price is known.")
    late_events: int = Field(description="Events counted after the end.")
    complete: bool | None = Field(
        description="true: every record that a writer numbered is counted; false: some are "
        "missing; null: not known, as a writer has not announced its end."
    )
    flags: list[str] = Field(
        description="What to know about the numbers: start_missing, tags_truncated, "
        "agents_truncated, writers_truncated, runs_truncated, sums_saturated; "
        "older_parts_unknown: the store is away or far behind, and a part that was closed long "
        "ago may be missing."
    )
    tags: list[str]
    name: str
    user_id: str
    revision: int = Field(description="Raised by all that opens, closes or revises the session.")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "session_id": _SESSION_ID,
                "project_id": _PROJECT_ID,
                "state": "ended",
                "end_state": "Success",
                "end_state_reason": "",
                "init_timestamp": "2026-11-25T09:14:02.120000+00:00",
                "end_timestamp": "2026-11-25T09:21:40.003500+00:00",
                "duration_s": 457.8835,
                "events": 42,
                "llm_calls": 17,
                "tool_calls": 20,
                "actions": 4,
                "errors": 1,
                "prompt_tokens": 182_311,
                "completion_tokens": 9_120,
                "cache_read_tokens": 120_000,
                "cache_write_tokens": 14_200,
                "reasoning_tokens": 2_048,
                "total_tokens": 191_431,
                "cost": "0.4127385",
                "unpriced_events": 0,
                "late_events": 0,
                "complete": True,
                "flags": [],
                "tags": ["nightly"],
                "name": "invoice triage",
                "user_id": "",
                "revision": 2,
                "caught_up": True,
                "as_of": "2026-11-25T09:21:41.250000+00:00",
                "lag_ms": 310,
            }
        }
    )


class Exported(BaseModel):
    """A session with all its events; the lists are streamed."""

    session: dict[str, Any] = Field(
        description="Who and what it is. complete_export: the lists contain all that stats counts."
    )
    stats: Stats
    agents: list[dict[str, Any]] = Field(description="id and name.")
    actions: list[dict[str, Any]]
    llms: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    errors: list[dict[str, Any]]


class SessionList(Current):
    """Sessions of the project, the last started first."""

    sessions: list[Stats]


class Position(BaseModel):
    """Where in the log the two sides were compared."""

    partition: int = Field(description="Partition of events.v1.")
    next: int = Field(description="First raw offset not contained.")


class Verification(BaseModel):
    """A session's snapshot beside the sums over its unique events at the same position."""

    session_id: str
    agrees: bool | None = Field(description="null: could not be compared in time; see reason.")
    reason: str | None = Field(description="not_landed: the events are still on their way.")
    position: Position
    snapshot: dict[str, int] = Field(description="Numbers as the snapshot has them.")
    recomputed: dict[str, int] | None = Field(description="Numbers as the events add up.")
    differences: dict[str, dict[str, int]] = Field(
        description="The numbers that differ, each as snapshot and recomputed."
    )


class VerificationList(BaseModel):
    """Verifications of the project's sessions, in the order of their ids."""

    agrees: bool = Field(description="All of these sessions were compared and agree.")
    checked: int = Field(description="How many sessions this answer is about.")
    differing: list[str] = Field(description="Ids of those that differ.")
    undecided: list[str] = Field(description="Ids of those that could not be compared in time.")
    sessions: list[Verification]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` for the sessions behind these; null: there are none."
    )

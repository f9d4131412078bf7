"""The SQL that the api sends, values as named parameters only; sends nothing itself.

Rows come as JSON objects. Times are cast to microseconds or milliseconds since the Unix epoch,
and sums, which may leave 64 bits, to text: JSON readers do not agree on large numbers. Every row
names its project and session, so that the reader can hold it against what was asked.
"""

from typing import Final

from fleetmeter_schemas.records import COUNTED_KINDS, NUMBER_NAMES

_KINDS: Final = ", ".join(f"'{kind}'" for kind in sorted(COUNTED_KINDS))

PARTS: Final = """\
SELECT
    project_id, session_id, part, partition, next,
    toUnixTimestamp64Milli(log_time_ms) AS log_time,
    state, revision, end_state, end_state_said, end_state_reason,
    toUnixTimestamp64Micro(started_at_us) AS started_at,
    toUnixTimestamp64Micro(ended_at_us) AS ended_at,
    toUnixTimestamp64Micro(last_event_at_us) AS last_event_at,
    toUnixTimestamp64Milli(closed_at_ms) AS closed_at,
    closed_heard_ms, heard_ms, idle_timeout_ms,
    name, user_id, conversation_id, video, tags, agents, numbers, late_events, complete, flags
FROM sessions FINAL
WHERE project_id = {project_id:String} AND session_id IN {session_ids:Array(String)}"""

NEWEST: Final = """\
SELECT project_id, session_id
FROM sessions FINAL
WHERE project_id = {project_id:String}
GROUP BY project_id, session_id
ORDER BY min(started_at_us) DESC, session_id
LIMIT {limit:UInt32}"""

IDS_AFTER: Final = """\
SELECT DISTINCT project_id, session_id
FROM sessions
WHERE project_id = {project_id:String} AND session_id > {session_id:String}
ORDER BY session_id
LIMIT {limit:UInt32}"""

# Usage counts once: not in tools and agents, nor in calls whose parts are counted elsewhere.
_OF_CALLS: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "toInt128(ifNull(cache_write_5m_tokens, 0))"
    " + ifNull(cache_write_1h_tokens, 0)",
    "reasoning_tokens": "reasoning_tokens",
    "cost_pico_usd": "cost_pico_usd",
    "cost_input_pico_usd": "cost_input_pico_usd",
    "cost_output_pico_usd": "cost_output_pico_usd",
    "unpriced_events": "cost_status = 'unpriced'",
    "invalid_usage_events": "cost_status = 'invalid_usage'",
}
# What each number is the sum of, over the last revisions of unique events.
_SUMMANDS: Final = {
    "events": "1",
    "llm_calls": "kind = 'llm'",
    "tool_calls": "kind = 'tool'",
    "actions": "kind = 'action'",
    "errors": "kind = 'error'",
    **{
        name: f"if(kind = 'llm' AND cost_status != 'aggregate', {summand}, 0)"
        for name, summand in _OF_CALLS.items()
    },
    # A tool may have a cost too.
    "cost_pico_usd": "if(cost_status != 'aggregate', cost_pico_usd, 0)",
    "skewed_events": "clock_skewed",
}
assert tuple(_SUMMANDS) == NUMBER_NAMES  # noqa: S101 - the contract has another number

# The time span only serves to read few granules: it is part of the sort key.
# The version is compared here, not by FINAL, which would see revisions behind `next`.
_SUMS: Final = ",\n    ".join(
    f"toString(sum(toInt128(ifNull({summand}, 0)))) AS sum_{name}"
    for name, summand in _SUMMANDS.items()
)
RECOMPUTE: Final = """\
SELECT
    project_id, session_id,
    {sums}
FROM
(
    SELECT *
    FROM events
    WHERE project_id = {project_id:String}
        AND session_id IN {session_ids:Array(String)}
        AND first_start_time_us >= fromUnixTimestamp64Micro({from_us:Int64}, 'UTC')
        AND first_start_time_us <= fromUnixTimestamp64Micro({to_us:Int64}, 'UTC')
        AND offset < transform(session_id, {session_ids:Array(String)}, {nexts:Array(UInt64)},
            toUInt64(0))
    ORDER BY session_id, event_id, version DESC
    LIMIT 1 BY session_id, event_id
)
WHERE kind IN ({kinds})
GROUP BY project_id, session_id""".replace("{sums}", _SUMS).replace("{kinds}", _KINDS)

# A correction's own time says nothing about the session's: no span here.
CORRECTIONS: Final = """\
SELECT project_id, session_id, attributes
FROM events
WHERE project_id = {project_id:String}
    AND session_id IN {session_ids:Array(String)}
    AND kind = 'correction'
    AND offset < transform(session_id, {session_ids:Array(String)}, {nexts:Array(UInt64)},
        toUInt64(0))
ORDER BY session_id, event_id, version DESC
LIMIT 1 BY session_id, event_id"""

_OF_SESSION: Final = """\
FROM events FINAL
WHERE project_id = {project_id:String} AND session_id = {session_id:String}
    AND first_start_time_us >= fromUnixTimestamp64Micro({from_us:Int64}, 'UTC')
    AND first_start_time_us <= fromUnixTimestamp64Micro({to_us:Int64}, 'UTC')
    AND kind = {kind:String}"""

# FINAL hides the revision before `next` where there is one behind it: then that one is told.
EVENTS: Final = f"""\
SELECT
    project_id, event_id, session_id, revision, kind, name, provider, model, service_tier,
    toUnixTimestamp64Micro(start_time_us) AS start_us,
    toUnixTimestamp64Micro(end_time_us) AS end_us,
    input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    reasoning_tokens, time_to_first_token_us, cost_pico_usd, cost_status, price_id,
    error_type, user_id, conversation_id, agent_id, parent_id, trace_id, span_id,
    input, output, logs, attributes
{_OF_SESSION}
    AND (offset < {{next:UInt64}} OR revision > 0)
ORDER BY start_us, event_id"""

HOST_ENVIRONMENT: Final = f"""\
SELECT project_id, session_id, attributes
{_OF_SESSION}
    AND attributes LIKE '%"host_environment"%'
ORDER BY start_time_us, event_id
LIMIT 1"""

-- What people query: one row a session, one row an event; money in USD, times without units.
-- How a session ended is told by one of its parts, as the session machine would have had it, had it
-- not forgotten: the last verdict, else the first end without one, else whatever the last part says.
CREATE VIEW IF NOT EXISTS {database}.session_totals AS
WITH
    multiIf(
        parts.state != 'ended', (0, toInt128(part)),
        parts.end_state = 'Indeterminate', (1, -toInt128(part)),
        (2, toInt128(part))
    ) AS weight
SELECT
    project_id,
    session_id,
    argMax(parts.state, weight) AS state,
    argMax(parts.end_state, weight) AS end_state,
    argMax(parts.end_state_reason, weight) AS end_state_reason,
    min(started_at_us) AS started_at,
    argMax(tuple(ended_at_us), weight).1 AS ended_at,
    max(last_event_at_us) AS last_event_at,
    argMaxIf(parts.name, part, parts.name != '') AS name,
    argMaxIf(parts.user_id, part, parts.user_id != '') AS user_id,
    argMaxIf(parts.conversation_id, part, parts.conversation_id != '') AS conversation_id,
    arrayDistinct(arrayFlatten(arraySort(groupArray((part, parts.tags))).2)) AS tags,
    sum(toInt128(numbers.events)) AS events,
    sum(toInt128(numbers.llm_calls)) AS llm_calls,
    sum(toInt128(numbers.tool_calls)) AS tool_calls,
    sum(toInt128(numbers.actions)) AS actions,
    sum(toInt128(numbers.errors)) AS errors,
    sum(toInt128(numbers.input_tokens)) AS input_tokens,
    sum(toInt128(numbers.output_tokens)) AS output_tokens,
    sum(toInt128(numbers.cache_read_tokens)) AS cache_read_tokens,
    sum(toInt128(numbers.cache_write_tokens)) AS cache_write_tokens,
    sum(toInt128(numbers.reasoning_tokens)) AS reasoning_tokens,
    divideDecimal(toDecimal256(sum(toInt128(numbers.cost_pico_usd)), 0), toDecimal256(1000000000000, 0), 12) AS cost_usd,
    sum(toInt128(numbers.unpriced_events)) AS unpriced_events,
    sum(parts.revision) AS revision,
    max(log_time_ms) AS as_of
FROM {database}.sessions AS parts FINAL
GROUP BY project_id, session_id;

CREATE VIEW IF NOT EXISTS {database}.event_list AS
SELECT
    project_id,
    session_id,
    event_id,
    kind,
    start_time_us AS start_time,
    end_time_us AS end_time,
    name,
    provider,
    model,
    input_tokens,
    output_tokens,
    cache_read_tokens,
    ifNull(cache_write_5m_tokens, 0) + ifNull(cache_write_1h_tokens, 0) AS cache_write_tokens,
    reasoning_tokens,
    divideDecimal(toDecimal256(cost_pico_usd, 0), toDecimal256(1000000000000, 0), 12) AS cost_usd,
    cost_status,
    error_type,
    user_id,
    conversation_id,
    agent_id,
    parent_id,
    trace_id,
    span_id,
    input,
    output,
    logs,
    attributes,
    log_time_ms AS log_time
FROM {database}.events FINAL;

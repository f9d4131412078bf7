-- The last snapshot of every part of every session wins; a session's totals are sums over its parts.
CREATE TABLE IF NOT EXISTS {database}.sessions
(
    project_id String,
    session_id String,
    part UInt64,
    partition Int32,
    next UInt64,
    log_time_ms DateTime64(3, 'UTC'),
    state String,
    revision Int64,
    end_state String,
    end_state_said String,
    end_state_reason String,
    started_at_us DateTime64(6, 'UTC'),
    ended_at_us Nullable(DateTime64(6, 'UTC')),
    last_event_at_us DateTime64(6, 'UTC'),
    closed_at_ms Nullable(DateTime64(3, 'UTC')),
    closed_heard_ms Nullable(Int64),
    heard_ms Int64,
    idle_timeout_ms Int64,
    name String,
    user_id String,
    conversation_id String,
    video String,
    tags Array(String),
    agents Map(String, String),
    numbers Tuple(
        events Int64,
        llm_calls Int64,
        tool_calls Int64,
        actions Int64,
        errors Int64,
        input_tokens Int64,
        output_tokens Int64,
        cache_read_tokens Int64,
        cache_write_tokens Int64,
        reasoning_tokens Int64,
        cost_pico_usd Int64,
        cost_input_pico_usd Int64,
        cost_output_pico_usd Int64,
        unpriced_events Int64,
        invalid_usage_events Int64,
        skewed_events Int64
    ),
    late_events Int64,
    complete Nullable(Bool),
    flags Array(String),
    writers Array(Tuple(
        writer_id String,
        heard_ms Int64,
        heartbeat Bool,
        announced Int64,
        ended Bool,
        runs Array(Int64)
    ))
)
ENGINE = ReplacingMergeTree(next)
ORDER BY (project_id, session_id, part);

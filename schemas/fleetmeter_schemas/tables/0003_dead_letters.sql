-- Records that the meter rejected, with their bytes: for repair.
CREATE TABLE IF NOT EXISTS {database}.dead_letters
(
    partition Int32,
    offset UInt64,
    log_time_ms DateTime64(3, 'UTC'),
    reason String,
    detail String,
    project_id String,
    key String,
    value String
)
ENGINE = ReplacingMergeTree
ORDER BY (partition, offset);

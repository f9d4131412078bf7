"""The catalogue of all processors' metrics; measures nothing itself.

docs/metrics.md is held against this file by a test.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class LanderMetrics:
    """What the lander counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag_records = Gauge(
            "fleetmeter_lander_lag_records",
            "Records of the partition that are not in the tables yet.",
            ["topic", "partition"],
            registry=registry,
        )
        self.visible_seconds = Histogram(
            "fleetmeter_lander_event_to_visible_seconds",
            "Time from the broker's stamp on a block's last event to its row in the table.",
            registry=registry,
            buckets=(0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300, 1800),
        )
        self.inserts = Counter(
            "fleetmeter_lander_inserts_total",
            "Inserts that the store accepted.",
            ["table"],
            registry=registry,
        )
        self.rows = Counter(
            "fleetmeter_lander_rows_total",
            "Rows in them.",
            ["table"],
            registry=registry,
        )
        self.bytes = Counter(
            "fleetmeter_lander_bytes_total",
            "Bytes in them, before compression.",
            ["table"],
            registry=registry,
        )
        self.retries = Counter(
            "fleetmeter_lander_retries_total",
            "Inserts tried again because the store was away or busy.",
            ["table"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "fleetmeter_lander_dead_letters_total",
            "Rejected records landed, those included that only the store refused (unlandable).",
            ["reason"],
            registry=registry,
        )
        self.blocks_skipped = Counter(
            "fleetmeter_lander_blocks_skipped_total",
            "Blocks of metered.v1 that count for nothing: written by a meter that had lost the "
            "partition, or twice.",
            registry=registry,
        )


class SessionsMetrics:
    """What the sessions processor counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag_records = Gauge(
            "fleetmeter_sessions_lag_records",
            "Records of metered.v1 that the sessions do not contain yet.",
            ["partition"],
            registry=registry,
        )
        self.open_sessions = Gauge(
            "fleetmeter_sessions_open_sessions",
            "Sessions open now.",
            ["partition"],
            registry=registry,
        )
        self.closed = Counter(
            "fleetmeter_sessions_closed_total",
            "Sessions closed without a writer's word, by reason.",
            ["reason"],
            registry=registry,
        )
        self.records = Counter(
            "fleetmeter_sessions_records_total",
            "Records of metered.v1 by what became of them: barrier, accepted, skipped (written by "
            "a meter that had lost the partition, or twice), replayed (contained already).",
            ["verdict"],
            registry=registry,
        )
        self.snapshots = Counter(
            "fleetmeter_sessions_snapshots_total",
            "Snapshots and tombstones written to sessions.v1.",
            registry=registry,
        )
        self.transaction_seconds = Histogram(
            "fleetmeter_sessions_transaction_seconds",
            "Time from the first snapshot of a transaction to its commit.",
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
        )
        self.restore_seconds = Gauge(
            "fleetmeter_sessions_restore_seconds",
            "Time the last restore of the partition took.",
            ["partition"],
            registry=registry,
        )

    def forget(self, partition: str) -> None:
        """Drop what is said about a partition that is another process's now."""
        for gauge in (self.lag_records, self.open_sessions, self.restore_seconds):
            gauge.remove_by_labels({"partition": partition})


class MeterMetrics:
    """What the meter counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag_records = Gauge(
            "fleetmeter_meter_lag_records",
            "Records of events.v1 in the partition that are not metered yet.",
            ["partition"],
            registry=registry,
        )
        self.records = Counter(
            "fleetmeter_meter_records_total",
            "Records of events.v1 in accepted blocks, by what became of them: event, duplicate, "
            "rejected, time (heartbeats and ticks).",
            ["verdict"],
            registry=registry,
        )
        self.rejects = Counter(
            "fleetmeter_meter_rejects_total",
            "Rejected records, by reason; docs/dead-letters.md.",
            ["reason"],
            registry=registry,
        )
        self.blocks = Counter(
            "fleetmeter_meter_blocks_total",
            "Blocks written to metered.v1 that count.",
            registry=registry,
        )
        self.bytes = Counter(
            "fleetmeter_meter_bytes_total",
            "Bytes in them.",
            registry=registry,
        )
        self.fenced = Counter(
            "fleetmeter_meter_fenced_total",
            "Times that another meter was found to have taken a partition.",
            registry=registry,
        )
        self.rewritten = Counter(
            "fleetmeter_meter_rewritten_total",
            "Events that were encoded again, because another schema or another way of writing "
            "was used: the slow path.",
            registry=registry,
        )

    def forget(self, partition: str) -> None:
        """Drop what is said about a partition that is another process's now."""
        self.lag_records.remove_by_labels({"partition": partition})


CATALOGUE = (MeterMetrics, SessionsMetrics, LanderMetrics)

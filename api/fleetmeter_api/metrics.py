"""The catalogue of the api's metrics; measures nothing itself.

docs/metrics.md is held against this file by a test.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class RequestMetrics:
    """What the api counts about its requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "fleetmeter_api_requests_total",
            "Requests answered, by route and status code.",
            ["route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "fleetmeter_api_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            registry=registry,
            buckets=SECONDS,
        )
        self.lag_seconds = Histogram(
            "fleetmeter_api_answer_lag_seconds",
            "How old the answers about sessions were: now minus as_of.",
            registry=registry,
            buckets=(0.25, 0.5, 1, 2, 3, 5, 10, 15, 30, 60, 300, 1800),
        )


class StoreMetrics:
    """What the api counts about its queries."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.query_seconds = Histogram(
            "fleetmeter_api_store_query_seconds",
            "Time that a query, or a batch of a streamed one, took; waiting for a thread included.",
            ["query"],
            registry=registry,
            buckets=SECONDS,
        )
        self.failures = Counter(
            "fleetmeter_api_store_failures_total",
            "Queries that failed.",
            ["query"],
            registry=registry,
        )


class TailMetrics:
    """What the api tells about the end of sessions.v1 that it holds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sessions = Gauge(
            "fleetmeter_api_tail_sessions",
            "Recently changed sessions held in memory.",
            registry=registry,
        )
        self.bytes = Gauge(
            "fleetmeter_api_tail_bytes",
            "Bytes that their encoded snapshots take.",
            registry=registry,
        )
        self.records = Gauge(
            "fleetmeter_api_tail_records",
            "Records of sessions.v1 read since the start.",
            registry=registry,
        )
        self.undecodable = Gauge(
            "fleetmeter_api_tail_undecodable_records",
            "Those among them that could not be decoded.",
            registry=registry,
        )

    def follow(
        self,
        *,
        sessions: Callable[[], float],
        size_bytes: Callable[[], float],
        records: Callable[[], float],
        undecodable: Callable[[], float],
    ) -> None:
        """Ask for the values whenever they are wanted."""
        self.sessions.set_function(sessions)
        self.bytes.set_function(size_bytes)
        self.records.set_function(records)
        self.undecodable.set_function(undecodable)


CATALOGUE = (RequestMetrics, StoreMetrics, TailMetrics)

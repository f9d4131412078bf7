"""Lands metered.v1 and sessions.v1 in the tables; decodes no event and judges none.

`python -m fleetmeter_processors.lander`. Offsets are committed after the insert, so a crash
lands the same rows again, and their identity makes them one.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message, TopicPartition

from fleetmeter_processors import process
from fleetmeter_processors.batch import Batch
from fleetmeter_processors.group import SKIP, Group
from fleetmeter_processors.kafka import client_options, group_id, group_instance_id
from fleetmeter_processors.landing import Abandoned, Landing
from fleetmeter_processors.metrics import LanderMetrics
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.progress import Standing, metadata_of
from fleetmeter_processors.settings import LanderSettings
from fleetmeter_processors.sink import Store
from fleetmeter_processors.startup import await_cluster
from fleetmeter_processors.store_check import await_store
from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import HEADER_BYTES
from fleetmeter_schemas.errors import ConfigError, InvalidRecord
from fleetmeter_schemas.identity import CHECKPOINT_KEY
from fleetmeter_schemas.tiling import Gap, Verdict

POLL_SECONDS = 0.1
# At most so many blocks beyond a full batch.
RECORDS_MAX = 16
# A full batch waits so long for the running insert before its partitions are paused: pausing
# throws away what was fetched ahead.
PATIENCE_SECONDS = 1.0
# So many bytes gathered let a batch wait a millisecond longer for more.
REST_BYTES_PER_MS = 20_000
REVOKE_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A batch that is being inserted, and what may be committed after it."""

    done: Future[None]
    reached: tuple[tuple[Standing, TopicPartition], ...]


class Lander:
    """The loop: gather, insert in one thread, commit; polls all the while."""

    def __init__(
        self,
        *,
        group: Group,
        landing: Landing,
        settings: LanderSettings,
        metrics: LanderMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._landing = landing
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._metered = topics.METERED.full_name(settings.namespace)
        self._batch: Batch
        self._begun: float | None
        self._advanced: dict[Standing, None]
        self._gather()
        self._flight: Flight | None = None
        self._worker = ThreadPoolExecutor(1, "insert")
        group.before_revoke = self._before_revoke

    def step(self) -> None:
        """Take what is there, and insert and commit what is due."""
        messages = self._group.consume(RECORDS_MAX, POLL_SECONDS)
        for standing, message in messages:
            self._take(standing, message)
        self._settle(0.0)
        if self._flight is None and self._is_due(quiet=len(messages) < RECORDS_MAX):
            self._start()
        if self._flight is not None and self._is_full():
            self._settle(PATIENCE_SECONDS)
        self._group.hold(self._flight is not None and self._is_full())
        self._group.commit_pending()
        self._group.tell_lag()

    def finish(self) -> None:
        """Insert and commit what is in hand, unless the store is away; then stop."""
        self._landing.abandon()
        self._settle(None)
        self._start()
        self._settle(None)
        self._group.commit_pending()
        self._worker.shutdown()

    def give_up(self) -> None:
        """Stop without waiting for the store."""
        self._landing.abandon()
        self._worker.shutdown(wait=False)

    def _take(self, standing: Standing, message: Message) -> None:
        if self._begun is None:
            self._begun = self._clock()
        self._advanced[standing] = None
        try:
            if standing.topic == self._metered:
                self._take_metered(standing, message)
            else:
                self._take_session(standing, message)
        except Gap as gap:
            raise ConfigError(
                f"partition {standing.partition}: {gap}; what was between is lost to the tables."
                f" To go on without it, {SKIP}"
            ) from gap
        except InvalidRecord as error:
            raise ConfigError(
                f"{standing.topic}, partition {standing.partition}, offset {message.offset()}:"
                f" {error}; either a newer version or a stranger wrote it"
            ) from error

    def _take_metered(self, standing: Standing, message: Message) -> None:
        value = _required(message.value())
        opened, verdict = standing.take(_required(message.offset()), value)
        if opened is not None:
            self._batch.add_block(standing.partition, value[:HEADER_BYTES], opened)
        if verdict is Verdict.SKIPPED:
            self._metrics.blocks_skipped.inc()

    def _take_session(self, standing: Standing, message: Message) -> None:
        standing.next_offset = _required(message.offset()) + 1
        key, value = _required(message.key()), message.value()
        if key == CHECKPOINT_KEY:
            return
        if value is None:
            self._batch.add_tombstone(standing.partition, key)
            return
        self._batch.add_snapshot(standing.partition, key, value)

    def _is_full(self) -> bool:
        return self._batch.bytes >= self._settings.lander_batch_bytes_max

    def _is_due(self, *, quiet: bool) -> bool:
        if self._begun is None:
            return False
        age_ms = (self._clock() - self._begun) * 1000
        longest_ms = self._settings.lander_batch_wait_ms
        if quiet:
            # The more there is, the longer more of it is waited for: few large inserts cost less
            # than many small ones, above all in merges.
            rest_ms = self._batch.bytes // REST_BYTES_PER_MS
            longest_ms = min(longest_ms, self._settings.lander_batch_quiet_ms + rest_ms)
        return self._is_full() or age_ms >= longest_ms

    def _start(self) -> None:
        """Give the batch to the worker, and begin another one."""
        reached = tuple((standing, self._committable(standing)) for standing in self._advanced)
        done = self._worker.submit(self._land, self._batch)
        self._flight = Flight(done=done, reached=reached)
        self._gather()

    def _gather(self) -> None:
        """Begin a batch, with nothing in it."""
        self._batch, self._begun, self._advanced = Batch(), None, {}

    def _land(self, batch: Batch) -> None:
        self._landing.land(batch)
        now_ms = time.time() * 1000
        for log_time_ms in batch.log_times_ms:
            self._metrics.visible_seconds.observe(max(0.0, now_ms - log_time_ms) / 1000)

    def _settle(self, seconds: float | None) -> None:
        """Wait so long for the running insert, and commit what it landed."""
        if self._flight is None or not wait([self._flight.done], seconds).done:
            return
        flight, self._flight = self._flight, None
        try:
            flight.done.result()
        except Abandoned:
            # What was gathered behind it reaches further: committed, it would pass over these rows.
            self._gather()
            return
        self._group.commit(flight.reached)

    def _before_revoke(self) -> None:
        self._settle(REVOKE_SECONDS_MAX)

    def _committable(self, standing: Standing) -> TopicPartition:
        is_metered = standing.topic == self._metered
        metadata = metadata_of(standing.position) if is_metered else ""
        return TopicPartition(standing.topic, standing.partition, standing.next_offset, metadata)


def consumer_options(settings: LanderSettings) -> dict[str, Any]:
    """Return the options of the lander's consumer."""
    return client_options(settings) | {
        "group.id": group_id(settings, "lander"),
        "group.instance.id": group_instance_id(settings, "lander"),
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": settings.lander_member_timeout_ms,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        # A position that is no longer there means lost records: stop, never skip.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 50,
        "queued.max.messages.kbytes": 32_768,
        # Its default, a second, is what a full queue would then cost.
        "fetch.queue.backoff.ms": 10,
    }


def run(settings: LanderSettings, runtime: Runtime) -> None:
    """Land until asked to stop.

    Raises:
        ConfigError: Topics, tables or positions are not as they must be.
        Stopped: Asked to stop before the work began.
    """
    await_cluster(settings, runtime, (topics.METERED, topics.SESSIONS))
    await_store(settings, runtime)
    metrics = LanderMetrics(runtime.ops.registry)
    store = Store(settings, settings.lander_insert_timeout_ms / 1000)
    landing = Landing(
        sink=store,
        ops=runtime.ops,
        metrics=metrics,
        log=runtime.log,
        retry_seconds_max=settings.lander_retry_wait_ms_max / 1000,
    )
    group = Group(
        options=consumer_options(settings),
        metered=topics.METERED.full_name(settings.namespace),
        sessions=topics.SESSIONS.full_name(settings.namespace),
        runtime=runtime,
        lag=metrics.lag_records,
    )
    lander = Lander(group=group, landing=landing, settings=settings, metrics=metrics)
    try:
        while not runtime.stopping.is_set():
            lander.step()
        lander.finish()
    finally:
        lander.give_up()
        group.close()
        store.close()


def _required(value: Any) -> Any:
    """Return what every record of ours has; its lack is a stranger's work."""
    if value is None:
        raise InvalidRecord("not_avro", "a record without key or value")
    return value


if __name__ == "__main__":
    process.main("lander", LanderSettings, run)

"""The sessions process: a Faust agent that feeds metered.v1 to ledgers, one a partition.

The only file that imports faust. It holds no session and writes no record itself. What decides
where a partition is read from is its checkpoint in sessions.v1; the group's committed offsets
are merely told.
"""

import asyncio
import logging
import os
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, cast

import faust
import uvloop
from faust.tables.recovery import RebalanceAgain
from faust.transport.drivers.aiokafka import Consumer as AIOKafkaConsumer
from faust.types import TP

from fleetmeter_processors.foreign_logs import thin_out
from fleetmeter_processors.kafka import group_id, group_instance_id
from fleetmeter_processors.ledger import Ledger, MeteredRecord
from fleetmeter_processors.metrics import SessionsMetrics
from fleetmeter_processors.process import EXIT_CRASHED, Runtime, Stopped, collect_rarely, main
from fleetmeter_processors.settings import ProcessorSettings, SessionsSettings
from fleetmeter_processors.snapshot_log import Fenced, SnapshotLog
from fleetmeter_processors.startup import Cluster, await_cluster
from fleetmeter_schemas.errors import InvalidRecord, Unavailable
from fleetmeter_schemas.tiling import Gap
from fleetmeter_schemas.topics import METERED, SESSIONS

PROCESS: Final = "sessions"
BATCH_RECORDS_MAX: Final = 64
BATCH_WAIT_SECONDS: Final = 0.2
FETCH_SECONDS: Final = 0.1
WATCH_SECONDS: Final = 0.1
PROBE_SECONDS: Final = 5.0
STOP_SECONDS_MAX: Final = 5.0
# Faust can lose its way without an error (a dead agent, a rebalance that waits for ever). Twice
# the time that a rebalance may take.
STALL_SECONDS_MAX: Final = 120.0

Batch = dict[int, list[MeteredRecord]]


class Stalled(Exception):  # noqa: N818 - the field's word
    """Faust does not go on, and does not say why."""


class _App(faust.App):
    """Faust without its folders: there are no tables to keep in them."""

    async def on_first_start(self) -> None:
        """Make nothing."""


class _Consumer(AIOKafkaConsumer):
    """Faust's consumer without its pauses of a second.

    While a partition's buffer is full Faust waits that long for the others, or for none.
    """

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's name
        if self.flow_active and not self._get_active_partitions():
            await self.sleep(FETCH_SECONDS)
            return {}, set()
        return await super()._wait_next_records(min(timeout, FETCH_SECONDS))


class Worker:
    """The ledgers of the partitions that this process has, and the Faust app that feeds them."""

    def __init__(self, settings: SessionsSettings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._metrics = SessionsMetrics(runtime.ops.registry)
        self._topic = METERED.full_name(settings.namespace)
        self._ledgers: dict[int, Ledger] = {}
        self._generation = 0
        self._lock = asyncio.Lock()
        self._moved_at = time.monotonic()
        self._app = faust_app(settings)
        topic = self._app.topic(
            self._topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
        )
        self._app.agent(topic, name=PROCESS, concurrency=1)(self._take_batches)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        self._app.on_rebalance_complete.connect(self._on_rebalance_complete)

    async def work(self) -> None:
        """Work until asked to stop; the batch in hand is finished then."""
        self._app.loop = asyncio.get_running_loop()
        self._app.transport.Consumer = _Consumer  # type: ignore[misc] # its hook for this
        tasks = [asyncio.ensure_future(self._app.start()), asyncio.ensure_future(self._probe())]
        while not self._runtime.stopping.is_set():
            await asyncio.sleep(WATCH_SECONDS)
            for task in tasks:
                if task.done():
                    task.result()
            self._watch()
            await self._post_due()
        await self._lock.acquire()
        finishing = (asyncio.to_thread(ledger.finish) for ledger in self._ledgers.values())
        # What cannot be written now is done again after the next restore.
        await asyncio.gather(*finishing, return_exceptions=True)
        await self._tell_positions()

    async def _take_batches(self, stream: Any) -> None:
        async for events in stream.take_events(BATCH_RECORDS_MAX, within=BATCH_WAIT_SECONDS):
            # Faust acknowledges these events however the block ends: hence nothing but success
            # may end it.
            async with self._lock:
                with self._fatal():
                    await self._post(by_partition(events))
            self._moved_at = time.monotonic()

    async def _post_due(self) -> None:
        """Have written what has waited long enough: the next record may be long in coming."""
        if self._lock.locked():
            return
        due: Batch = {number: [] for number, ledger in self._ledgers.items() if ledger.is_due}
        if due:
            async with self._lock:
                with self._fatal():
                    await self._post(due)

    async def _post(self, batch: Batch) -> None:
        """Hand each partition's records to its ledger, in a thread: heartbeats must go on.

        One after the other: side by side they would only fight for the interpreter.
        """
        for partition, records in batch.items():
            ledger = self._ledgers.get(partition)
            if ledger is None:
                continue
            try:
                await asyncio.to_thread(ledger.post, records)
            except Fenced as fenced:
                await self._on_fenced(partition, fenced)

    async def _on_fenced(self, partition: int, fenced: Fenced) -> None:
        """Give up a partition that another process has taken; fail if it is ours all the same."""
        if await self._commit({partition: self._ledgers[partition].next_offset}):
            raise fenced
        self._runtime.ops.set_ready(False)
        self._runtime.log.warning("partition.lost", partition=partition)
        await self._close(partition)

    def _on_revoked(self, *_: Any, **__: Any) -> None:
        self._runtime.ops.set_ready(False)

    async def _on_rebalance_complete(self, *_: Any, **__: Any) -> None:
        """Fence, restore and seek: Faust's flow stands still, its own seek comes after this."""
        async with self._lock:
            with self._fatal():
                await self._settle()
        self._moved_at = time.monotonic()

    async def _settle(self) -> None:
        assigned = {tp.partition for tp in self._app.consumer.assignment()}
        generation = self._app.consumer_generation_id
        # Who missed a generation cannot know who had the partition meanwhile.
        unbroken = generation - self._generation in {0, 1}
        self._generation = generation
        for partition in set(self._ledgers) - (assigned if unbroken else set()):
            await self._close(partition)
        await asyncio.gather(*map(self._restore, assigned - set(self._ledgers)))
        if not await self._tell_positions() or generation != self._app.consumer_generation_id:
            raise RebalanceAgain
        self._runtime.ops.set_ready(True)
        self._runtime.log.info("partitions.assigned", partitions=sorted(assigned))

    async def _restore(self, partition: int) -> None:
        ledger = Ledger(
            partition=partition,
            log=SnapshotLog(self._settings, self._runtime, partition),
            snapshots_max=self._settings.sessions_transaction_snapshots_max,
            metrics=self._metrics,
        )
        await asyncio.to_thread(ledger.restore)
        self._ledgers[partition] = ledger

    async def _close(self, partition: int) -> None:
        await asyncio.to_thread(self._ledgers.pop(partition).close)

    async def _tell_positions(self) -> bool:
        """Commit where each ledger stands; False: the group has other plans already."""
        positions = {partition: one.next_offset for partition, one in self._ledgers.items()}
        return await self._commit(positions)

    async def _commit(self, offsets: Mapping[int, int]) -> bool:
        """Commit as a member of the group; False when no longer one of this generation."""
        if not offsets:
            return True
        named = {TP(self._topic, partition): offset for partition, offset in offsets.items()}
        consumer = cast("AIOKafkaConsumer", self._app.consumer)
        return await consumer._commit(named)  # noqa: SLF001 - there is no other way

    async def _probe(self) -> None:
        """Ask the brokers now and then: Faust tells nobody but the log that they are away."""
        cluster, ops = Cluster(self._settings), self._runtime.ops
        while True:
            try:
                await asyncio.to_thread(cluster.partition_counts)
            except Unavailable as error:
                if "kafka" not in ops.reasons:
                    self._runtime.log.warning("kafka.away", why=str(error))
                ops.set_unhealthy("kafka", str(error))
            else:
                ops.set_healthy("kafka")
            await asyncio.sleep(PROBE_SECONDS)

    def _watch(self) -> None:
        """Fail when Faust has crashed or stands still."""
        if self._app.crashed:
            raise self._app.crash_reason or Stalled("Faust crashed")
        behind = sum(map(self._lag, self._ledgers))
        if not behind or self._lock.locked():
            self._moved_at = time.monotonic()
        if time.monotonic() - self._moved_at > STALL_SECONDS_MAX:
            raise Stalled(f"{behind} records are waiting, and Faust hands out none")

    def _lag(self, partition: int) -> int:
        """Records of the partition that Faust knows of and its ledger has not taken."""
        end = self._app.monitor.tp_end_offsets.get(TP(self._topic, partition), 0)
        lag = max(0, end - self._ledgers[partition].next_offset)
        self._metrics.lag_records.labels(str(partition)).set(lag)
        return lag

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """End the process on any error: Faust would acknowledge what an agent raised on."""
        try:
            yield
        except RebalanceAgain:
            raise
        except Stopped:
            leave(self._runtime, 0)
        except (Gap, InvalidRecord, Fenced) as error:
            why = f"{type(error).__name__}: {error}"
            self._runtime.log.error("process.crashed", why=why)  # noqa: TRY400 - one line says it
            leave(self._runtime, EXIT_CRASHED)
        except BaseException:
            self._runtime.log.exception("process.crashed")
            leave(self._runtime, EXIT_CRASHED)


def by_partition(events: Sequence[Any]) -> Batch:
    """The records of Faust's events, in order, by partition."""
    batch: Batch = {}
    for event in events:
        message = event.message
        record = MeteredRecord(offset=message.offset, value=message.value)
        batch.setdefault(message.partition, []).append(record)
    return batch


def faust_app(settings: SessionsSettings) -> faust.App:
    """The app without agents: no tables, no web server, no topics of its own."""
    member_seconds = settings.sessions_member_timeout_ms / 1000
    return _App(
        group_id(settings, PROCESS),
        broker=[f"kafka://{address.strip()}" for address in settings.bootstrap_servers.split(",")],
        broker_credentials=credentials(settings),
        broker_session_timeout=member_seconds,
        broker_heartbeat_interval=member_seconds / 6,
        broker_rebalance_timeout=60.0,
        broker_request_timeout=max(40.0, 2 * member_seconds),
        broker_commit_interval=1.0,
        broker_max_poll_records=256,
        stream_buffer_maxsize=256,
        consumer_group_instance_id=group_instance_id(settings, PROCESS),
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4_000_000,
        processing_guarantee="at_least_once",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
    )


def credentials(settings: ProcessorSettings) -> Any:
    """Faust's credentials for the security settings; None: plaintext."""
    protocol = settings.kafka_security_protocol
    context = None
    if protocol in {"SSL", "SASL_SSL"}:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_location)
    if protocol in {"SASL_PLAINTEXT", "SASL_SSL"}:
        password = settings.kafka_sasl_password
        return faust.SASLCredentials(
            mechanism=settings.kafka_sasl_mechanism,
            username=settings.kafka_sasl_username,
            password=None if password is None else password.get_secret_value(),
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def leave(runtime: Runtime, status: int) -> NoReturn:
    """End the process at once.

    Faust's own way to stop waits until every message it has read is acknowledged, and for ever
    if one is not. What counts is committed in sessions.v1 by now.
    """
    if status == 0:
        runtime.log.info("process.stopped")
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


def run(settings: SessionsSettings, runtime: Runtime) -> None:
    """Keep the sessions of the partitions assigned, until asked to stop."""
    thin_out()
    collect_rarely()
    await_cluster(settings, runtime, (METERED, SESSIONS))
    threading.Thread(target=_watch_stop, args=(runtime,), name="stop", daemon=True).start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_work(settings, runtime))
        except Exception:
            runtime.log.exception("process.crashed")
            leave(runtime, EXIT_CRASHED)
        leave(runtime, 0)


async def _work(settings: SessionsSettings, runtime: Runtime) -> None:
    await Worker(settings, runtime).work()


def _watch_stop(runtime: Runtime) -> None:
    """Give up on the batch in hand when it takes too long: it was not acknowledged."""
    runtime.stopping.wait()
    time.sleep(STOP_SECONDS_MAX)
    runtime.log.warning("process.stop_abandoned")
    leave(runtime, 0)


if __name__ == "__main__":
    main(PROCESS, SessionsSettings, run)

"""The meter process: events.v1 in, metered.v1 out. Decides nothing that the pure parts decide.

`python -m fleetmeter_processors.meter`
"""

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fleetmeter_processors import process
from fleetmeter_processors.control import Control, KafkaControlLog
from fleetmeter_processors.hint import hint_text, read_hint
from fleetmeter_processors.judge import Judge
from fleetmeter_processors.kafka import client_options, group_id, group_instance_id
from fleetmeter_processors.meter_partition import MeterPartition, Phase
from fleetmeter_processors.metered_log import MeteredTopic, PartitionLog
from fleetmeter_processors.metering import BlockLimits, Metering, Sealed, cuts
from fleetmeter_processors.metrics import MeterMetrics
from fleetmeter_processors.pricing import Pricer
from fleetmeter_processors.process import Runtime, Stopped
from fleetmeter_processors.raw_log import CONSUMER_OPTIONS, by_partition, tick
from fleetmeter_processors.settings import MeterSettings
from fleetmeter_processors.startup import await_cluster, patiently
from fleetmeter_processors.tail import TailLimits
from fleetmeter_processors.window import WindowLimits
from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import ConfigError, InvalidRecord, Unavailable

NAME: Final = "meter"
RECORDS_MAX: Final = 10_000
# More would only hide how long a block takes.
IN_FLIGHT_MAX: Final = 4
TICK_SECONDS: Final = 1.0
COMMIT_SECONDS: Final = 5.0
RENEW_SECONDS: Final = 3_600.0
# Longer than a heartbeat: a fenced meter first learns whether the partition is still its own.
RETAKE_SECONDS: Final = 4.0
FINISH_SECONDS_MAX: Final = 10.0
ANSWER_SECONDS_MAX: Final = 30.0
# After these no record comes any more.
_FINAL: Final = (KafkaError._FATAL, KafkaError._AUTO_OFFSET_RESET)  # noqa: SLF001 - public names


@dataclass(slots=True)
class _Held:
    """One partition that is ours, and when things were last done for it (monotonic seconds)."""

    partition: MeterPartition
    log: PartitionLog
    heard_at: float
    claimed_at: float
    fenced_at: float | None = None
    committed_next: int = -1
    ticks_in_flight: int = 0


class Meter:
    """The loop around the partitions that the group gives us."""

    def __init__(self, settings: MeterSettings, runtime: Runtime, partitions: int) -> None:
        self._settings = settings
        self._runtime = runtime
        self._partitions = partitions
        self._events = topics.EVENTS.full_name(settings.namespace)
        self._owner = f"{settings.instance_id}-{uuid.uuid4()}"
        self._metrics = MeterMetrics(runtime.ops.registry)
        self._event_codec = Codec("Event")
        self._pricer = Pricer()
        self._block_limits = BlockLimits(raw_bytes_max=settings.meter_block_bytes_max)
        self._held: dict[int, _Held] = {}
        self._committed_at = time.monotonic()
        # Errors are told by us, not by librdkafka's own lines on stderr.
        options = client_options(settings) | {"log_level": 0}
        self._control_log = KafkaControlLog(topics.CONTROL.full_name(settings.namespace), options)
        self._control = Control(self._control_log, self._refused, self._patiently)
        self._metered = MeteredTopic(topics.METERED.full_name(settings.namespace), options)
        self._consumer = Consumer(
            options
            | CONSUMER_OPTIONS
            | {
                "error_cb": self._troubled,
                "group.id": group_id(settings, NAME),
                "group.instance.id": group_instance_id(settings, NAME),
            }
        )

    def run(self) -> None:
        """Meter until asked to stop; the batch in hand is finished."""
        self._control.catch_up()
        process.collect_rarely()
        self._consumer.subscribe(
            [self._events],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )
        try:
            while not self._runtime.stopping.is_set():
                self._control.refresh()
                wait_seconds = self._settings.meter_flush_wait_ms / 1000
                self._meter(self._consumer.consume(RECORDS_MAX, wait_seconds))
                self._serve(0.0)
                self._tend()
            self._release(list(self._held))
        finally:
            self._consumer.close()
            self._control_log.close()
            self._metered.close()

    def _meter(self, messages: Sequence[Message]) -> None:
        records_of, errors = by_partition(messages)
        for error in errors:
            self._troubled_topic(error)
        for number, records in records_of.items():
            held = self._held.get(number)
            if held is None:
                continue
            held.heard_at = time.monotonic()
            for cut in cuts(records, self._block_limits):
                self._await_room(held)
                if not held.partition.is_ready:
                    # Fenced, or just taken again: they are read again if the partition stays ours.
                    break
                held.partition.meter(cut)
        if records_of:
            self._runtime.ops.set_healthy("kafka")
            self._runtime.ops.set_healthy("events")

    def _await_room(self, held: _Held) -> None:
        """Wait until a block may be sent, or until it is known that none may."""
        self._serve(0.0)
        while held.partition.phase is Phase.TAKING or held.partition.in_flight >= IN_FLIGHT_MAX:
            self._serve(0.05)

    def _serve(self, seconds: float) -> None:
        """Tell the partitions where their records landed; end the process when none does."""
        self._metered.poll(seconds)
        for number, held in self._held.items():
            while held.log.landed:
                block = held.partition.delivered(held.log.landed.popleft())
                if block is not None:
                    self._count(block)
            if held.partition.phase is Phase.FENCED and held.fenced_at is None:
                self._fenced(number, held)
            self._watch(number, held.log.waited_seconds)

    def _watch(self, number: int, waited_seconds: float) -> None:
        """End the process when a report is overdue: the next one reads what is in the log."""
        if waited_seconds * 1000 > self._settings.meter_delivery_ms_max:
            raise Unavailable(f"metered.v1 partition {number}: a delivery report is overdue")
        if self._runtime.stopping.is_set() and waited_seconds > FINISH_SECONDS_MAX:
            raise Stopped

    def _tend(self) -> None:
        """What is due by the clock: ticks, renewals, another try, commits."""
        now = time.monotonic()
        for number, held in self._held.items():
            resume = held.partition.take_resume()
            if resume is not None:
                self._consumer.seek(TopicPartition(self._events, number, resume))
            if held.fenced_at is not None and now - held.fenced_at > RETAKE_SECONDS:
                held.fenced_at, held.claimed_at = None, now
                held.partition.take()
            if held.partition.phase is Phase.ACTIVE:
                if now - held.claimed_at > RENEW_SECONDS:
                    held.claimed_at = now
                    held.partition.renew()
                if now - held.heard_at > TICK_SECONDS and not held.ticks_in_flight:
                    self._tick(number, held)
        if now - self._committed_at > COMMIT_SECONDS:
            self._committed_at = now
            if offsets := self._hints(self._held):
                self._consumer.commit(offsets=offsets, asynchronous=True)
            self._measure_lag()
            self._probe()

    def _tick(self, number: int, held: _Held) -> None:
        """Append a tick to the raw log: the broker's stamp on it is what time it is."""
        value = tick(self._event_codec, time.time_ns() // 1000)

        def reported(error: KafkaError | None, _message: Message) -> None:
            held.ticks_in_flight -= 1
            if error is not None:
                self._runtime.log.warning("tick.failed", partition=number, why=error.str())

        held.ticks_in_flight += 1
        held.heard_at = time.monotonic()
        self._metered.producer.produce(self._events, value, partition=number, on_delivery=reported)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take the partitions, all at once, and go on where metered.v1 says."""
        taken = {}
        if partitions:
            for committed in consumer.committed(partitions, timeout=ANSWER_SECONDS_MAX):
                taken[committed.partition] = self._take(committed)
        self._held |= taken
        while any(held.partition.phase is Phase.TAKING for held in taken.values()):
            self._serve(0.05)
        consumer.incremental_assign(
            [self._start_of(number, held) for number, held in taken.items()]
        )
        self._runtime.ops.set_ready(True)

    def _take(self, committed: TopicPartition) -> _Held:
        number = committed.partition
        low, _ = self._watermarks(number)
        log = self._metered.partition(number)
        partition = MeterPartition(
            log=log,
            owner=self._owner,
            fresh=partial(self._fresh_books, number),
            start=read_hint(committed.metadata),
            raw_start=max(low, committed.offset),
            limits=TailLimits(),
        )
        now = time.monotonic()
        partition.take()
        return _Held(partition, log, heard_at=now, claimed_at=now)

    def _start_of(self, number: int, held: _Held) -> TopicPartition:
        resume = held.partition.take_resume()
        assert resume is not None, number  # noqa: S101 - it was taken, and nothing sent since
        low, high = self._watermarks(number)
        if resume > high:
            raise ConfigError(
                f"{self._events} partition {number} ends at {high}, but {resume} was metered:"
                " the topic was made anew; use another namespace"
            )
        if resume < low:
            self._runtime.log.error("records.lost", partition=number, first=resume, next=low)
        self._runtime.log.info(
            "partition.taken",
            partition=number,
            next=resume,
            metered_offset=held.partition.position.metered_offset,
        )
        return TopicPartition(self._events, number, max(resume, low))

    def _watermarks(self, number: int) -> tuple[int, int]:
        where = TopicPartition(self._events, number)
        return self._consumer.get_watermark_offsets(where, ANSWER_SECONDS_MAX, cached=False)

    def _fresh_books(self, number: int) -> Metering:
        judge = Judge(number, self._partitions, self._control, self._event_codec)
        return Metering(number, judge, self._control, self._pricer, WindowLimits())

    def _fenced(self, number: int, held: _Held) -> None:
        held.fenced_at = time.monotonic()
        self._metrics.fenced.inc()
        self._runtime.log.warning("partition.fenced", partition=number)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Give partitions up: what is on its way lands, nothing more is sent."""
        self._release([partition.partition for partition in partitions])
        consumer.incremental_unassign(partitions)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group went on without us: others may hold them already."""
        for partition in partitions:
            self._drop(partition.partition)

    def _release(self, numbers: Iterable[int]) -> None:
        leaving = {number: self._held[number] for number in numbers if number in self._held}
        until = time.monotonic() + FINISH_SECONDS_MAX
        while any(held.partition.in_flight for held in leaving.values()):
            if time.monotonic() > until:
                break
            self._serve(0.05)
        self._commit_last(self._hints(leaving))
        for number in leaving:
            self._drop(number)

    def _commit_last(self, offsets: list[TopicPartition]) -> None:
        try:
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._runtime.log.warning("commit.failed", why=error.args[0].str())

    def _drop(self, number: int) -> None:
        held = self._held.pop(number, None)
        if held is not None:
            held.partition.drop()
            self._metrics.forget(str(number))
            self._runtime.log.info("partition.released", partition=number)

    def _hints(self, of: dict[int, _Held]) -> list[TopicPartition]:
        """How far we are, for the group. Only a hint: metered.v1 knows."""
        offsets = []
        for number, held in of.items():
            done = held.partition.position.next
            if done > held.committed_next and held.partition.phase is Phase.ACTIVE:
                held.committed_next = done
                text = hint_text(held.partition.hint)
                offsets.append(TopicPartition(self._events, number, done, text))
        return offsets

    def _count(self, block: Sealed) -> None:
        count(self._metrics, block)
        self._runtime.ops.set_healthy("kafka")

    def _measure_lag(self) -> None:
        for number, held in self._held.items():
            where = TopicPartition(self._events, number)
            _, high = self._consumer.get_watermark_offsets(where, cached=True)
            if high >= 0:
                lag = max(0, high - held.partition.next)
                self._metrics.lag_records.labels(partition=str(number)).set(lag)

    def _probe(self) -> None:
        """A meter without a partition hears nothing; it asks whether the broker is back."""
        if not self._held and "kafka" in self._runtime.ops.reasons:
            with suppress(Unavailable):
                self._control_log.end()
                self._runtime.ops.set_healthy("kafka")

    def _patiently(self, ask: Callable[[], None]) -> None:
        patiently(self._runtime, "control", ask)

    def _refused(self, error: InvalidRecord) -> None:
        self._runtime.log.error("control.refused", reason=error.reason, detail=error.detail)

    def _troubled_topic(self, error: KafkaError) -> None:
        """The consumer tells of events.v1: some of it passes, of some it cannot go on."""
        # A fatal error comes here without its mark. One is met after an outage: a commit on its way
        # names the member as it was, and the broker takes us for two of the same instance id.
        if error.fatal() or error.code() in _FINAL:
            raise KafkaException(error)
        if "events" not in self._runtime.ops.reasons:
            self._runtime.log.warning("events.troubled", why=error.str())
        self._runtime.ops.set_unhealthy("events", error.str())

    def _troubled(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            if "kafka" not in self._runtime.ops.reasons:
                self._runtime.log.warning("kafka.away", why=error.str())
            self._runtime.ops.set_unhealthy("kafka", error.str())


def count(metrics: MeterMetrics, block: Sealed) -> None:
    """Count a block that was accepted."""
    metrics.blocks.inc()
    metrics.bytes.inc(len(block.data))
    rejected = len(block.rejects)
    quiet = block.records - block.events - block.duplicates - rejected
    metrics.records.labels(verdict="event").inc(block.events)
    metrics.records.labels(verdict="duplicate").inc(block.duplicates)
    metrics.records.labels(verdict="rejected").inc(rejected)
    metrics.records.labels(verdict="time").inc(quiet)
    metrics.rewritten.inc(block.rewritten)
    for reason in block.rejects:
        metrics.rejects.labels(reason=reason).inc()


def run(settings: MeterSettings, runtime: Runtime) -> None:
    """Check the cluster, then meter until asked to stop.

    Raises:
        ConfigError: Topics are missing or not as they must be.
    """
    needed = (topics.EVENTS, topics.METERED, topics.CONTROL)
    partitions = await_cluster(settings, runtime, needed)
    Meter(settings, runtime, partitions).run()


def main() -> NoReturn:
    """Run the process."""
    process.main(NAME, MeterSettings, run)


if __name__ == "__main__":
    main()

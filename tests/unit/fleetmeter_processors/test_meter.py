"""The small pure parts of the meter's edge."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from confluent_kafka import KafkaError, Message
from prometheus_client import CollectorRegistry

from fleetmeter_processors.hint import Hint, hint_text, read_hint
from fleetmeter_processors.judge import Judge, Raw
from fleetmeter_processors.meter import Meter, _Held, count
from fleetmeter_processors.meter_partition import Phase
from fleetmeter_processors.metering import BlockLimits, Sealed
from fleetmeter_processors.metrics import MeterMetrics
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.raw_log import by_partition, tick
from fleetmeter_processors.settings import MeterSettings
from fleetmeter_schemas.tiling import Position
from meter_records import EVENT, FakeKeys
from rival_meters import FakeLog, FakePort, deliver, meter_on

HINT = Hint(
    position=Position(metered_offset=7, epoch=5, next=90), heard_ms=3, log_time_ms=1_763_000_000_000
)


@pytest.mark.parametrize("hint", [HINT, Hint()])
def test_a_hint_is_read_as_it_was_written(hint: Hint) -> None:
    """What one meter commits is what the next one reads."""
    assert hint == read_hint(hint_text(hint))


@pytest.mark.parametrize("text", [None, "", "{}", "x", "[]", '"a"', '{"metered_offset": "y"}'])
def test_metadata_that_is_no_hint_is_none(text: str | None) -> None:
    """Whatever else stands in the commit's metadata, the log is read from its beginning."""
    assert Hint() == read_hint(text)


class FakeMessage:
    """A record, or an error, as the consumer gives it."""

    def __init__(self, partition: int, offset: int, error: KafkaError | None = None) -> None:
        self.partition: Callable[[], int] = lambda: partition
        self.offset: Callable[[], int] = lambda: offset
        self.error: Callable[[], KafkaError | None] = lambda: error
        self.key: Callable[[], bytes] = lambda: b"k"
        self.value: Callable[[], bytes] = lambda: b"v"
        self.timestamp: Callable[[], tuple[int, int]] = lambda: (2, 99)


def test_records_are_sorted_by_partition() -> None:
    """Each partition's records stay in order, and errors among them are told."""
    error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    given = [
        FakeMessage(1, 4),
        FakeMessage(0, 7),
        FakeMessage(1, 5),
        FakeMessage(0, 0, error),
    ]
    found, errors = by_partition(cast("list[Message]", given))
    expected = {
        1: [Raw(4, 99, b"k", b"v"), Raw(5, 99, b"k", b"v")],
        0: [Raw(7, 99, b"k", b"v")],
    }
    assert expected == found
    assert [error] == errors


def deliver_to(port: FakePort) -> None:
    """What is on its way reaches the log; the reports wait to be told."""
    while port.sent:
        port.land()


def test_a_partition_taken_back_is_not_fed_what_was_fetched_before() -> None:
    """Records that were passed over while another meter had it are read first, not lost."""
    log = FakeLog()
    rival_port, port = FakePort(log), FakePort(log)
    partition, rival = meter_on(port), meter_on(rival_port)
    for each, its_port in ((partition, port), (rival, rival_port)):
        each.take()
        deliver(each, its_port)
    partition.take_resume()
    meter = Meter.__new__(Meter)  # without its clients
    meter._runtime = Runtime(stopping=threading.Event(), ops=Ops(), log=structlog.get_logger())
    meter._settings = MeterSettings()
    meter._metrics = MeterMetrics(CollectorRegistry())
    meter._metered = cast("Any", SimpleNamespace(poll=lambda _seconds: deliver_to(port)))
    meter._block_limits = BlockLimits()
    own_log = cast("Any", SimpleNamespace(landed=port.landed, waited_seconds=0.0))
    meter._held = {0: _Held(partition, own_log, heard_at=0.0, claimed_at=0.0)}

    def consumed(*offsets: int) -> list[Message]:
        return [cast("Message", FakeMessage(0, offset)) for offset in offsets]

    meter._meter(consumed(0))
    meter._meter(consumed(1))
    assert partition.phase is Phase.FENCED
    partition.take()
    meter._meter(consumed(2))
    assert (partition.phase, partition.in_flight, partition.take_resume()) == (Phase.ACTIVE, 0, 0)
    meter._meter(consumed(0, 1, 2))
    deliver(partition, port)
    assert [(0, 3)] == [(block.first, block.next) for block in log.accepted()[0]]


def test_a_blocks_records_are_counted_by_verdict() -> None:
    """What was in a block adds up to its records."""
    registry = CollectorRegistry()
    values: dict[str, Any] = {"first": 0, "next": 9, "heard_ms": 0, "log_time_ms": 0, "epoch": 0}
    block = Sealed(
        data=b"12345",
        records=9,
        events=4,
        duplicates=2,
        rewritten=1,
        rejects=("not_avro", "not_avro"),
        **values,
    )
    count(MeterMetrics(registry), block)
    found = {
        verdict: registry.get_sample_value("fleetmeter_meter_records_total", {"verdict": verdict})
        for verdict in ("event", "duplicate", "rejected", "time")
    }
    assert found == {"event": 4, "duplicate": 2, "rejected": 2, "time": 1}
    reasons = registry.get_sample_value("fleetmeter_meter_rejects_total", {"reason": "not_avro"})
    assert reasons == 2


def test_a_tick_is_accepted_everywhere() -> None:
    """What the meter appends to the raw log is a tick to its own judge."""
    record = Raw(0, 99, None, tick(EVENT, 5))
    assert Judge(3, 4, FakeKeys({}), EVENT).judge(record) is None

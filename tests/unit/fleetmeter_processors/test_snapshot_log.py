"""What the writer of sessions.v1 makes of the producer's errors."""

import threading
from typing import Any, cast

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException

from fleetmeter_processors.ops import Ops
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.snapshot_log import Fenced, SnapshotLog


class FakeProducer:
    """A producer whose calls fail with the codes given, by method."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes

    def begin_transaction(self) -> None:
        """Begin."""
        self._call("begin")

    def produce(self, *_: Any) -> None:
        """Take a record."""
        self._call("produce")

    def commit_transaction(self, _seconds: float) -> None:
        """Commit."""
        self._call("commit")

    def purge(self) -> None:
        """Forget what is on its way."""

    def _call(self, name: str) -> None:
        if name in self.codes:
            raise KafkaException(KafkaError(self.codes[name]))


def log(**codes: int) -> SnapshotLog:
    """A log over such a producer."""
    made = SnapshotLog.__new__(SnapshotLog)  # without its client
    made._producer = cast("Any", FakeProducer(**codes))
    made._runtime = Runtime(stopping=threading.Event(), ops=Ops(), log=structlog.get_logger())
    made._topic, made._partition, made._component = "sessions.v1", 0, "sessions.v1/0"
    return made


@pytest.mark.parametrize(
    "codes",
    [
        {"begin": KafkaError._FENCED},
        {"produce": KafkaError._FATAL, "commit": KafkaError._FENCED},
        {"commit": KafkaError.PRODUCER_FENCED},
    ],
)
def test_a_writer_that_is_fenced_says_so_wherever_it_learns_it(codes: dict[str, int]) -> None:
    """Before, amid or after the records: the partition is another's, and the process lives."""
    with pytest.raises(Fenced):
        log(**codes).write([(b"key", b"value")])


def test_a_record_that_is_refused_is_raised() -> None:
    """What is wrong with a record itself is no fence."""
    with pytest.raises(KafkaException):
        log(produce=KafkaError.MSG_SIZE_TOO_LARGE).write([(b"key", b"value")])


def test_a_log_that_is_closed_is_no_trouble_any_more() -> None:
    """Health is not kept red by a partition that is another process's now."""
    made = log()
    made._runtime.ops.set_unhealthy(made._component, "away")
    made.close()
    assert made._runtime.ops.reasons == {}

"""What the meter makes of the errors that its consumer tells it."""

from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from fleetmeter_processors.meter import Meter


@pytest.mark.parametrize("code", [KafkaError._FATAL, KafkaError._AUTO_OFFSET_RESET])
def test_an_error_after_which_no_record_comes_ends_the_process(code: int) -> None:
    """A fatal error that the consumer hands out in a record's place is raised, not waited for."""
    error = KafkaError(code)
    assert not error.fatal()
    with pytest.raises(KafkaException):
        Meter._troubled_topic(cast("Any", None), error)

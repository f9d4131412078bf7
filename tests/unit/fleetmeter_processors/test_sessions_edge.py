"""What the sessions process makes of its settings, and what it relies on inside Faust."""

import asyncio
import inspect
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import faust
import pytest
import structlog
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types.enums import ProcessingGuarantee
from pydantic import SecretStr

from fleetmeter_processors import sessions
from fleetmeter_processors.ledger import MeteredRecord
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.sessions import by_partition, credentials, faust_app
from fleetmeter_processors.settings import SessionsSettings
from fleetmeter_schemas.errors import Unavailable


@dataclass(frozen=True)
class FaustMessage:
    """The part of Faust's message that is read."""

    partition: int
    offset: int
    value: bytes


def test_records_go_to_their_partitions_in_order() -> None:
    """A batch of several partitions falls apart into one in-order run each."""
    messages = [FaustMessage(1, 7, b"a"), FaustMessage(0, 3, b"b"), FaustMessage(1, 8, b"c")]
    events = [SimpleNamespace(message=message) for message in messages]
    assert by_partition(events) == {
        1: [MeteredRecord(7, b"a"), MeteredRecord(8, b"c")],
        0: [MeteredRecord(3, b"b")],
    }


def test_plaintext_needs_no_credentials() -> None:
    """Without security settings Faust connects as it is."""
    assert credentials(SessionsSettings()) is None


def test_sasl_settings_reach_faust() -> None:
    """User, password and mechanism are those of the settings, and TLS is checked."""
    settings = SessionsSettings(
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="sessions",
        kafka_sasl_password=SecretStr("secret"),
    )
    made = credentials(settings)
    assert isinstance(made, faust.SASLCredentials)
    assert (made.protocol.value, made.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (made.username, made.password) == ("sessions", "secret")
    assert made.ssl_context is not None
    assert made.ssl_context.check_hostname


def test_tls_alone_is_credentials_too() -> None:
    """SSL without a login gives Faust a context and nothing else."""
    made = credentials(SessionsSettings(kafka_security_protocol="SSL"))
    assert isinstance(made, faust.SSLCredentials)
    assert made.protocol.value == "SSL"


def test_the_app_keeps_to_itself() -> None:
    """No web server, no topics of its own, no discovery, at least once, a static member."""
    conf: Any = faust_app(SessionsSettings(namespace="n", instance_id="7")).conf
    assert (conf.web_enabled, conf.topic_allow_declare, conf.autodiscover) == (False, False, False)
    assert conf.topic_disable_leader
    assert str(conf.processing_guarantee) == str(ProcessingGuarantee.AT_LEAST_ONCE)
    assert (conf.id, conf.consumer_group_instance_id) == ("n.sessions", "n-sessions-7")


class Answered(Exception):  # noqa: N818 - it ends the test's loop
    """The brokers were asked often enough."""


class FakeCluster:
    """Brokers that are away, then back; notes what health said when it was asked."""

    def __init__(self, ops: Ops) -> None:
        self.ops = ops
        self.told: list[dict[str, str]] = []

    def partition_counts(self) -> dict[str, int]:
        """Fail at first."""
        self.told.append(self.ops.reasons)
        match len(self.told):
            case 1:
                raise Unavailable("gone")
            case 2:
                return {}
        raise Answered


def test_health_follows_the_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a record to take or write, health turns red while Kafka is away, and green again."""
    runtime = Runtime(stopping=threading.Event(), ops=Ops(), log=structlog.get_logger())
    cluster = FakeCluster(runtime.ops)
    monkeypatch.setattr(sessions, "Cluster", lambda _settings: cluster)
    monkeypatch.setattr(sessions, "PROBE_SECONDS", 0)
    worker = sessions.Worker.__new__(sessions.Worker)  # without its app
    worker._settings, worker._runtime = SessionsSettings(), runtime
    with pytest.raises(Answered):
        asyncio.run(worker._probe())
    assert [{}, {"kafka": "gone"}, {}] == cluster.told


@pytest.mark.parametrize("step", ["consumer.perform_seek()", "consumer.resume_flow()"])
def test_faust_restores_before_it_seeks_and_flows(step: str) -> None:
    """Without tables, on_rebalance_complete is awaited before Faust's own seek and flow."""
    source = inspect.getsource(Recovery._resume_streams)
    assert 0 < source.index("await app.on_rebalance_complete.send()") < source.index(step)


def test_faust_commits_what_it_is_told() -> None:
    """The commit that we borrow goes through the member, and says whether it was accepted."""
    source = inspect.getsource(AIOKafkaConsumerThread._commit)
    assert "await consumer.commit(" in source
    assert list(inspect.signature(Consumer._commit).parameters) == ["self", "offsets"]


def test_faust_waits_where_we_shorten_it() -> None:
    """The pauses of a second are in the method that we override."""
    source = inspect.getsource(Consumer._wait_next_records)
    assert "await self.sleep(1)" in source
    assert "timeout=timeout" in source


def test_faust_is_the_version_that_was_read() -> None:
    """Another version must be read anew before it is let in."""
    assert faust.__version__ == "0.15.3"

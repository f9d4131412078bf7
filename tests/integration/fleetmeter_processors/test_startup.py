import signal
from threading import Event

import pytest
import structlog
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported silently
    NewPartitions,
)
from pydantic import SecretStr

from fleetmeter_local.ports import free_ports
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import StoreSettings
from fleetmeter_processors.startup import await_cluster
from fleetmeter_processors.store_check import await_store
from fleetmeter_schemas import topics
from fleetmeter_schemas.errors import ConfigError
from lander_stack import Stack, wait_for


def runtime() -> Runtime:
    """Return a runtime without a process around it."""
    return Runtime(stopping=Event(), ops=Ops(), log=structlog.get_logger())


def settings(stack: Stack) -> StoreSettings:
    """Return the settings that the stack's environment gives."""
    return StoreSettings(
        namespace=stack.namespace,
        bootstrap_servers=stack.bootstrap_servers,
        store_url=stack.store_url,
        store_user=stack.store_user,
        store_password=SecretStr(stack.store_password),
    )


def test_a_migrated_cluster_passes(stack: Stack) -> None:
    """The answer is the partition count."""
    assert 2 == await_cluster(settings(stack), runtime(), topics.ALL)
    await_store(settings(stack), runtime())


def test_missing_topics_name_the_command_that_makes_them(unmigrated: Stack) -> None:
    """Nothing was migrated: the first topic missing is named."""
    expected = f"topic {unmigrated.namespace}.control.v1 does not exist: run `fleetmeter migrate`"
    with pytest.raises(ConfigError, match=expected):
        await_cluster(settings(unmigrated), runtime(), topics.ALL)


def test_missing_tables_name_the_command_that_makes_them(unmigrated: Stack) -> None:
    """Nothing was migrated: the steps missing are named."""
    expected = f"database {unmigrated.namespace} lacks migrations 1, 2, 3, 4: run `fleetmeter"
    with pytest.raises(ConfigError, match=expected):
        await_store(settings(unmigrated), runtime())


def test_another_clock_is_refused(stack: Stack) -> None:
    """Records that carry the writer's time would make sessions time out at random."""
    stack.set_setting("events.v1", "message.timestamp.type", "CreateTime")
    with pytest.raises(ConfigError, match=r"timestamp\.type=CreateTime, must be LogAppendTime"):
        await_cluster(settings(stack), runtime(), (topics.EVENTS,))


def test_a_topic_that_forgets_is_refused(stack: Stack) -> None:
    """Sessions live in a compacted topic."""
    stack.set_setting("sessions.v1", "cleanup.policy", "delete")
    with pytest.raises(ConfigError, match=r"cleanup\.policy=delete, must be compact"):
        await_cluster(settings(stack), runtime(), (topics.SESSIONS,))


def test_added_partitions_are_refused(stack: Stack) -> None:
    """A session's records would be in two partitions."""
    name = f"{stack.namespace}.metered.v1"
    (future,) = stack.admin.create_partitions([NewPartitions(name, 3)]).values()
    future.result(10)
    with pytest.raises(ConfigError, match="has 3 partitions, but 2 were fixed"):
        await_cluster(settings(stack), runtime(), (topics.METERED,))


def test_it_waits_for_brokers_that_are_away_and_can_be_stopped(unmigrated: Stack) -> None:
    """Health says what is awaited, the log says it once, and SIGTERM ends the wait with 0."""
    (nobody,) = free_ports(1)
    environment = {"FLEETMETER_BOOTSTRAP_SERVERS": f"127.0.0.1:{nobody}"}
    with unmigrated.started("lander", **environment) as lander:
        wait_for(lambda: lander.status("/health") == 503)
        lander.popen.send_signal(signal.SIGTERM)
        assert 0 == lander.exit_status()
        assert 1 == lander.log.read_text().count("dependency.awaited")

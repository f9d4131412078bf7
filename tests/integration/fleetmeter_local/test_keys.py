from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fleetmeter_local import keys
from fleetmeter_local.keys import ControlLog
from fleetmeter_schemas.errors import ConfigError


@pytest.fixture
def log(broker: str) -> ControlLog:
    """An empty control log of its own."""
    control = ControlLog(bootstrap_servers=broker, namespace=f"keys_{uuid4().hex}")
    admin = AdminClient({"bootstrap.servers": broker})
    made = admin.create_topics(
        [NewTopic(control.topic, num_partitions=1, config={"cleanup.policy": "compact"})]
    )
    made[control.topic].result(30)
    return control


def test_a_key_leads_to_its_project(log: ControlLog) -> None:
    """The key is found by its hash's hash; the log never holds the key itself."""
    made = keys.create(log, project="one", idle_timeout_ms=20_000)
    project = keys.read(log).project_of(made.api_key)
    assert (made.project_id, "one", 20_000) == (
        project["project_id"],
        project["name"],
        project["idle_timeout_ms"],
    )


def test_a_second_key_joins_the_project(log: ControlLog) -> None:
    """The same name is the same project; a timeout that is given becomes its own."""
    first = keys.create(log, project="one", idle_timeout_ms=None)
    second = keys.create(log, project="one", idle_timeout_ms=5_000)
    registry = keys.read(log)
    assert first.project_id == second.project_id
    assert 2 == len(registry.api_keys)
    assert 5_000 == registry.projects[first.project_id]["idle_timeout_ms"]


def test_a_revoked_key_is_kept_and_refused(log: ControlLog) -> None:
    """Revocation carries its time; the record stays, and a second one is refused."""
    made = keys.create(log, project="one", idle_timeout_ms=None)
    (found,) = keys.read(log).api_keys.values()
    keys.revoke(log, keys.short_id(found))
    registry = keys.read(log)
    assert registry.api_keys[found["key_hash_hash"]]["revoked_at_ms"] is not None
    with pytest.raises(ConfigError, match="revoked"):
        registry.project_of(made.api_key)
    with pytest.raises(ConfigError, match="revoked already"):
        keys.revoke(log, made.api_key)


def test_an_unknown_key_is_refused(log: ControlLog) -> None:
    """Nothing is revoked by guess."""
    keys.create(log, project="one", idle_timeout_ms=None)
    for name in (str(uuid4()), "0000000000", ""):
        with pytest.raises(ConfigError, match="no key by that name"):
            keys.revoke(log, name)

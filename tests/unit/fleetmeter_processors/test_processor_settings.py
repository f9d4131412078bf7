import re
from pathlib import Path

import pytest
from annotated_types import Ge, Le
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from fleetmeter_api import settings as api_settings
from fleetmeter_processors import settings
from fleetmeter_processors.kafka import client_options, group_id, group_instance_id
from fleetmeter_processors.settings import LanderSettings, MigrateSettings, ProcessorSettings

DOCS = Path(__file__).parents[3] / "docs"


def bounds(field: FieldInfo) -> str:
    """Return what a value may be, for people."""
    least = [item.ge for item in field.metadata if isinstance(item, Ge)]
    most = [item.le for item in field.metadata if isinstance(item, Le)]
    if least and most:
        return f"{least[0]} to {most[0]}"
    text = str(field.annotation)
    return ", ".join(re.findall(r"'([^']+)'", text)) if "Literal" in text else "text"


def default(field: FieldInfo) -> str:
    """Return a field's default, for people."""
    value = field.default
    shown = value.get_secret_value() if isinstance(value, SecretStr) else value
    return "" if shown in (None, "") else f"`{shown}`"


def rows() -> set[str]:
    """Return the line of docs/settings.md for every variable of every program, from the code."""
    return {
        f"| `{settings.ENVIRONMENT_PREFIX}{name.upper()}` | {default(field)} |"
        f" {bounds(field)} | {field.description} |"
        for each in (*settings.ALL, *api_settings.ALL)
        for name, field in each.model_fields.items()
    }


def test_every_setting_is_documented_as_it_is() -> None:
    """docs/settings.md has a line for each variable: default, bounds and the code's own words."""
    lines = (DOCS / "settings.md").read_text().splitlines()
    assert [] == [row for row in rows() if row not in lines]
    ours = re.compile(r"\| `FLEETMETER_")
    assert [] == [line for line in lines if ours.match(line) and line not in rows()]


def test_every_settings_class_is_in_the_list_that_the_page_is_held_against() -> None:
    """A class that is forgotten in the list would stay undocumented."""
    classes = {
        found
        for found in vars(settings).values()
        if isinstance(found, type) and issubclass(found, ProcessorSettings)
    }
    assert classes == set(settings.ALL)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is the field's name behind the prefix."""
    monkeypatch.setenv("FLEETMETER_NAMESPACE", "other")
    monkeypatch.setenv("FLEETMETER_LANDER_BATCH_BYTES_MAX", "2000")
    read = LanderSettings()
    assert ("other", 2000) == (read.namespace, read.lander_batch_bytes_max)


@pytest.mark.parametrize("namespace", ["", "a b", "a.b", "ü", "x" * 61])
def test_a_namespace_that_cannot_name_a_database_is_refused(namespace: str) -> None:
    """Topics and the database share it."""
    with pytest.raises(ValidationError):
        ProcessorSettings(namespace=namespace)


def test_secrets_do_not_show() -> None:
    """Neither the settings' text nor an error about them tells a password."""
    kept = LanderSettings(
        store_password=SecretStr("geheim"), kafka_sasl_password=SecretStr("geheim")
    )
    assert "geheim" not in repr(kept)
    with pytest.raises(ValidationError) as caught:
        LanderSettings.model_validate({"ops_port": "geheim"})
    assert "geheim" not in str(caught.value)


def test_a_plain_cluster_needs_no_security_options() -> None:
    """What is not set is not given to librdkafka."""
    assert client_options(ProcessorSettings()) == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "PLAINTEXT",
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2_000,
    }


def test_a_secured_cluster_gets_them_all() -> None:
    """User, password and certificates reach librdkafka under its own names."""
    options = client_options(
        ProcessorSettings(
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="SCRAM-SHA-512",
            kafka_sasl_username="meter",
            kafka_sasl_password=SecretStr("geheim"),
            kafka_ssl_ca_location="ca.pem",
        )
    )
    expected = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "meter",
        "sasl.password": "geheim",
        "ssl.ca.location": "ca.pem",
    }
    assert expected == {name: options[name] for name in expected}


def test_groups_and_members_carry_the_namespace() -> None:
    """Two namespaces on one cluster do not meet."""
    one = MigrateSettings(namespace="a", instance_id="7")
    assert ("a.lander", "a-lander-7") == (
        group_id(one, "lander"),
        group_instance_id(one, "lander"),
    )

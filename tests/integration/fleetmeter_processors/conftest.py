"""A migrated namespace for tests of processors on the real broker and store."""

import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from fleetmeter_processors import migrate
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import MigrateSettings
from lander_stack import Stack


@pytest.fixture
def unmigrated(broker: str, store: Any, tmp_path: Path) -> Stack:
    """Give a namespace of the test's own, without topics and tables."""
    return Stack(
        bootstrap_servers=broker,
        store_url=store.url,
        store_user=store.user,
        store_password=store.password,
        folder=tmp_path,
    )


@pytest.fixture
def stack(unmigrated: Stack) -> Stack:
    """Give a migrated namespace of the test's own, with two partitions."""
    settings = MigrateSettings(
        namespace=unmigrated.namespace,
        bootstrap_servers=unmigrated.bootstrap_servers,
        store_url=unmigrated.store_url,
        store_user=unmigrated.store_user,
        store_password=SecretStr(unmigrated.store_password),
        partitions=2,
    )
    runtime = Runtime(stopping=threading.Event(), ops=Ops(), log=structlog.get_logger())
    migrate.run(settings, runtime)
    return unmigrated

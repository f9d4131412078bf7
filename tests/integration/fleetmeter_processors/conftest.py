"""A migrated namespace for tests of processors on the real broker and store."""

from pathlib import Path
from typing import Any

import pytest

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
    done = unmigrated.run("migrate", FLEETMETER_PARTITIONS="2")
    assert done.returncode == 0, done.stderr
    return unmigrated

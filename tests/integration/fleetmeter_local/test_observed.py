from typing import Any
from uuid import uuid4

import httpx

from fleetmeter_local.observed import StoreReader, Visible
from fleetmeter_schemas.tables import migrations


def test_many_sessions_can_be_asked_for(store: Any) -> None:
    """A query that names thousands of sessions is longer than the engine takes by itself."""
    headers = {"X-ClickHouse-User": store.user, "X-ClickHouse-Key": store.password}
    ask = httpx.Client(base_url=store.url, headers=headers, trust_env=False)
    with ask:
        assert ask.post("/", content="CREATE DATABASE observed").is_success
        for statement in (each for step in migrations("observed") for each in step.statements):
            assert ask.post("/", content=statement).is_success
    reader = StoreReader(url=store.url, headers=headers, database="observed", project_id="p")
    try:
        found = reader.visible([str(uuid4()) for _ in range(5_000)])
    finally:
        reader.close()
    assert Visible(events=0, counted=0, open=0, sessions=0) == found

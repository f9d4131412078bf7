"""The api's real readers where no broker answers."""

import asyncio
import socket

import httpx
import pytest
from structlog.testing import capture_logs

from fleetmeter_api.app import create_app, real_ports
from fleetmeter_api.settings import ApiSettings
from fleetmeter_schemas.errors import Unavailable


@pytest.fixture
def nowhere() -> ApiSettings:
    """Settings that lead to ports where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return ApiSettings(bootstrap_servers=f"127.0.0.1:{port}", store_url=f"http://127.0.0.1:{port}")


def test_it_starts_and_says_what_is_away(nowhere: ApiSettings) -> None:
    """Without Kafka and store the api starts, is healthy, is not ready, and refuses nobody."""
    app = create_app(nowhere, real_ports(nowhere, lambda: 0))

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://api") as client,
        ):
            health = await client.get("/health")
            ready = await client.get("/ready")
            key = {"X-Agentops-Api-Key": "11111111-1111-4111-8111-111111111111"}
            stats = await client.get("/v2/sessions/s/stats", headers=key)
        codes = [answer.status_code for answer in (health, ready, stats)]
        assert codes == [200, 503, 503]
        assert set(ready.json()["reasons"]) == {"keys", "sessions", "store"}

    with capture_logs():
        asyncio.run(work())


def test_catching_up_without_a_broker_is_unavailable(nowhere: ApiSettings) -> None:
    """Who waits for the end of a topic is told in time that nobody knows it."""
    ports = real_ports(nowhere, lambda: 0)
    follower = ports.readers["keys"]

    async def work() -> None:
        with pytest.raises(Unavailable):
            await follower.catch_up(0.1)  # type: ignore[attr-defined]

    with capture_logs():
        for part in ports.parts:
            part.start()
        try:
            asyncio.run(work())
        finally:
            for part in reversed(ports.parts):
                part.stop()

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import Counter

from fleetmeter_processors.ops import Ops


@pytest.fixture
def ops() -> Iterator[Ops]:
    """Give what is served on a free port."""
    served = Ops()
    served.start("127.0.0.1", 0)
    yield served
    served.stop()


def get(ops: Ops, path: str) -> httpx.Response:
    """Return the answer."""
    return httpx.get(f"http://127.0.0.1:{ops.port}{path}")


def test_healthy_but_not_ready_at_first(ops: Ops) -> None:
    """A process that has only begun does no work yet."""
    assert (200, 503) == (get(ops, "/health").status_code, get(ops, "/ready").status_code)


def test_ready_once_told_so(ops: Ops) -> None:
    """Readiness is the process's own word."""
    ops.set_ready(ready=True)
    answer = get(ops, "/ready")
    assert (200, {"ok": True, "ready": True, "reasons": {}}) == (
        answer.status_code,
        answer.json(),
    )


def test_a_failing_component_turns_both_red_with_its_reason(ops: Ops) -> None:
    """And both are green again when it works again."""
    ops.set_ready(ready=True)
    ops.set_unhealthy("store", "away")
    red = [get(ops, path) for path in ("/health", "/ready")]
    assert [503, 503] == [answer.status_code for answer in red]
    assert {"store": "away"} == red[0].json()["reasons"]
    ops.set_healthy("store")
    assert [200, 200] == [get(ops, path).status_code for path in ("/health", "/ready")]


def test_metrics_are_those_of_its_own_registry(ops: Ops) -> None:
    """What a process registers there is what a scrape sees."""
    Counter("apples_total", "Apples.", registry=ops.registry).inc(3)
    assert "apples_total 3.0" in get(ops, "/metrics").text


def test_any_other_path_is_not_found(ops: Ops) -> None:
    """Nothing else is served."""
    assert 404 == get(ops, "/").status_code

"""The routes for those who run it: /health, /ready, /metrics. They need no key and tell no data."""

from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from fleetmeter_api.errors import json_response
from fleetmeter_api.ports import Pulse, Store
from fleetmeter_schemas.errors import Unavailable

NOT_READY: Final = 503
router = APIRouter(tags=["operation"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What tells how the process is doing: its background readers by name, and the store."""

    readers: dict[str, Pulse]
    store: Store
    registry: CollectorRegistry


def _vitals(request: Request) -> Vitals:
    found: Vitals = request.app.state.vitals
    return found


@router.get("/health", summary="Whether the process is alive")
async def get_health(request: Request) -> Response:
    """200 while all background readers run; 503 with reasons: restart it."""
    readers = _vitals(request).readers
    return _verdict({name: "stopped" for name, reader in readers.items() if not reader.is_alive})


@router.get("/ready", summary="Whether it can answer")
async def get_ready(request: Request) -> Response:
    """200 when keys and sessions are being followed and the store answers; 503 with reasons."""
    vitals = _vitals(request)
    reasons = {name: why for name, reader in vitals.readers.items() if (why := _why_not(reader))}
    try:
        await vitals.store.ping()
    except Unavailable as error:
        reasons["store"] = str(error)
    return _verdict(reasons)


@router.get("/metrics", summary="Measurements for Prometheus")
async def get_metrics(request: Request) -> Response:
    """The catalogue is in docs/metrics.md."""
    return Response(generate_latest(_vitals(request).registry), media_type=CONTENT_TYPE_LATEST)


def _why_not(reader: Pulse) -> str | None:
    if not reader.is_alive:
        return "stopped"
    if not reader.has_caught_up:
        return "not at the end of its topic yet"
    return None if reader.is_connected else "no broker answers"


def _verdict(reasons: dict[str, Any]) -> Response:
    return json_response(
        {"ok": not reasons, "reasons": reasons}, status=NOT_READY if reasons else 200
    )

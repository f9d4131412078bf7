"""The routes that answer with an API key: they read parameters, ask, and shape; nothing more.

Intake (`/v2/create_*`, `/v1/traces`), live views and SQL get routers of their own beside this.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from fleetmeter_api import models
from fleetmeter_api.errors import NotFound, Unauthorized, json_response
from fleetmeter_api.export import Exporter, ExportResponse
from fleetmeter_api.keys import Tenant
from fleetmeter_api.lookup import Found, Lookup, Wish
from fleetmeter_api.metrics import RequestMetrics
from fleetmeter_api.ports import Keys, Store
from fleetmeter_api.sessions import AsOf, stats
from fleetmeter_api.verify import Auditor
from fleetmeter_schemas.errors import InvalidRecord
from fleetmeter_schemas.identity import canonical_session_id

WAIT_MS_DEFAULT: Final = 5_000
WAIT_MS_MAX: Final = 10_000
LIST_MAX: Final = 1_000
VERIFY_MAX: Final = 10_000
_DESCRIPTIONS: Final[dict[int | str, str]] = {
    400: "A parameter is not what it should be.",
    401: "The API key is missing or not valid.",
    404: "There is no such session in the project.",
    503: "A part of the service is away; Retry-After tells when to ask again.",
    "default": "All other errors.",
}
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": models.Refusal, "description": description}
    for status, description in _DESCRIPTIONS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the routes ask."""

    keys: Keys
    lookup: Lookup
    exporter: Exporter
    auditor: Auditor
    store: Store
    metrics: RequestMetrics


def services_of(request: Request) -> Services:
    """The services that create_app wired."""
    found: Services = request.app.state.services
    return found


Wired = Annotated[Services, Depends(services_of)]


async def tenant_of(
    services: Wired,
    api_key: Annotated[
        str | None,
        Header(alias="X-Agentops-Api-Key", description="An API key of the project, a UUID."),
    ] = None,
) -> Tenant:
    """Who asks; raises Unauthorized."""
    tenant = await services.keys.tenant(api_key) if api_key else None
    if tenant is None:
        raise Unauthorized
    return tenant


def wish_of(
    after_offset: Annotated[
        int | None,
        Query(
            ge=0,
            le=2**63 - 1,
            description="Read your writes: offset in events.v1, in the session's partition, that "
            "the answer must contain.",
        ),
    ] = None,
    wait_ms: Annotated[
        int, Query(ge=0, le=WAIT_MS_MAX, description="Longest wait for that, milliseconds.")
    ] = WAIT_MS_DEFAULT,
) -> Wish:
    """What the answer must contain. Without an offset nobody waits."""
    return Wish(after_offset=after_offset, wait_ms=0 if after_offset is None else wait_ms)


Asking = Annotated[Tenant, Depends(tenant_of)]
Wished = Annotated[Wish, Depends(wish_of)]
WaitMs = Annotated[
    int,
    Query(ge=0, le=WAIT_MS_MAX, description="Longest wait for the tables, milliseconds."),
]

router = APIRouter(responses=_REFUSALS)


@router.get(
    "/v2/sessions/{session_id:path}/stats",
    tags=["sessions"],
    summary="Totals of a session",
    responses={200: {"model": models.Stats}},
)
async def get_stats(session_id: str, tenant: Asking, wish: Wished, services: Wired) -> Response:
    """Live sessions are answered from memory, all others from the store."""
    found = await _found(services, tenant, session_id, wish)
    return json_response(stats(found.session, found.as_of))


@router.get(
    "/v2/sessions/{session_id:path}/export",
    tags=["sessions"],
    summary="A session with all its events",
    responses={200: {"model": models.Exported}},
)
async def get_export(
    session_id: str,
    tenant: Asking,
    wish: Wished,
    services: Wired,
    landing_wait_ms: WaitMs = WAIT_MS_DEFAULT,
) -> Response:
    """Streamed. A connection that breaks off in the middle is an incomplete export."""
    services.exporter.reserve()
    found = await _found(services, tenant, session_id, wish)
    export = await services.exporter.prepare(tenant, found, landing_wait_ms / 1000)
    return ExportResponse(services.exporter.stream(export))


@router.get(
    "/v1/sessions",
    tags=["sessions"],
    summary="The newest sessions",
    responses={200: {"model": models.SessionList}},
)
async def get_sessions(
    tenant: Asking,
    services: Wired,
    limit: Annotated[int, Query(ge=1, le=LIST_MAX, description="How many.")] = 50,
) -> Response:
    """Sessions of the project by their start, the last one first; of those that have landed."""
    as_of = await services.lookup.as_of_stored()
    session_ids = await services.store.newest(tenant, limit)
    found = await services.lookup.find_all(tenant, session_ids)
    listed = [_listed(one) for one in found]
    return json_response({"sessions": listed, **as_of.as_fields()})


@router.get(
    "/v1/sessions/{session_id:path}/verify",
    tags=["audit"],
    summary="Compare a session with its events",
    responses={200: {"model": models.Verification}},
)
async def get_verification(
    session_id: str, tenant: Asking, services: Wired, wait_ms: WaitMs = WAIT_MS_DEFAULT
) -> Response:
    """The snapshot's numbers beside the sums over the unique events, at the same position."""
    verdict = await services.auditor.verify(tenant, _canonical(session_id), wait_ms / 1000)
    if verdict is None:
        raise NotFound
    return json_response(verdict.as_json())


@router.get(
    "/v1/verify",
    tags=["audit"],
    summary="Compare the project's sessions with their events",
    responses={200: {"model": models.VerificationList}},
)
async def get_verifications(
    tenant: Asking,
    services: Wired,
    limit: Annotated[int, Query(ge=1, le=VERIFY_MAX, description="How many.")] = 1_000,
    cursor: Annotated[
        str, Query(max_length=1_000, description="`next_cursor` of the answer before.")
    ] = "",
    wait_ms: WaitMs = WAIT_MS_DEFAULT,
) -> Response:
    """In the order of session ids."""
    page = await services.auditor.verify_page(tenant, cursor, limit, wait_ms / 1000)
    verdicts = page.verdicts
    return json_response(
        {
            "agrees": all(verdict.agrees for verdict in verdicts),
            "checked": len(verdicts),
            "differing": [one.session_id for one in verdicts if one.agrees is False],
            "undecided": [one.session_id for one in verdicts if one.agrees is None],
            "sessions": [verdict.as_json() for verdict in verdicts],
            "next_cursor": page.next_cursor,
        }
    )


async def _found(services: Services, tenant: Tenant, session_id: str, wish: Wish) -> Found:
    found = await services.lookup.find(tenant, _canonical(session_id), wish)
    if found is None:
        raise NotFound
    _measure(services.metrics, found.as_of)
    return found


def _canonical(session_id: str) -> str:
    """The one spelling of a session id; what can be none names no session."""
    try:
        return canonical_session_id(session_id)
    except InvalidRecord as error:
        raise NotFound from error


def _listed(found: Found) -> dict[str, Any]:
    """Stats with the canonical end state: the word that was sent belongs to /v2 only."""
    return stats(found.session, found.as_of) | {"end_state": found.session["end_state"]}


def _measure(metrics: RequestMetrics, as_of: AsOf) -> None:
    if as_of.lag_ms is not None:
        metrics.lag_seconds.observe(as_of.lag_ms / 1000)

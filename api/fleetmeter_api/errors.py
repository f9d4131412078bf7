"""How the api says no: one table of status codes, one shape for all errors; decides nothing.

The shape: {"error": {"code", "message", "request_id"}}. Messages name nothing that the request
did not, so that foreign sessions cannot be told from absent ones.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from fleetmeter_schemas.errors import Overloaded, Unavailable

REQUEST_ID_HEADER: Final = "X-Request-Id"
RETRY_SECONDS: Final = "2"

log = structlog.get_logger()


class Code(StrEnum):
    """What went wrong, for programs."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"


STATUS: Final[Mapping[Code, int]] = MappingProxyType(
    {
        Code.INVALID_REQUEST: 400,
        Code.UNAUTHORIZED: 401,
        Code.NOT_FOUND: 404,
        Code.METHOD_NOT_ALLOWED: 405,
        Code.INTERNAL: 500,
        Code.UNAVAILABLE: 503,
        Code.OVERLOADED: 503,
    }
)
_CODES: Final = {status: code for code, status in STATUS.items() if code is not Code.OVERLOADED}


class Unauthorized(Exception):  # noqa: N818 - the field's word
    """The API key is missing, unknown or revoked: which of them is not told."""


class NotFound(Exception):  # noqa: N818 - the field's word
    """There is no such session in the project that the key belongs to."""


def request_id_of(request: Request) -> str:
    """The id that the middleware gave to this request."""
    found: str = request.scope.get("fleetmeter_request_id", "")
    return found


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(
        orjson.dumps(content),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/json",
    )


def error_response(
    request: Request, code: Code, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The one shape of all errors."""
    request_id = request_id_of(request)
    error = {"code": code, "message": message, "request_id": request_id}
    named = {**(headers or {}), REQUEST_ID_HEADER: request_id}
    return json_response({"error": error}, STATUS[code], named)


def overloaded(request: Request, _error: Exception | None = None) -> Response:
    """The answer when we are full."""
    message = "Too many requests of this kind are under way; try again soon."
    return error_response(request, Code.OVERLOADED, message, {"Retry-After": RETRY_SECONDS})


def install(app: FastAPI) -> None:
    """Have every error of the app answered in the one shape."""
    app.add_exception_handler(Unauthorized, _unauthorized)
    app.add_exception_handler(NotFound, _not_found)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(Overloaded, overloaded)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)


def _unauthorized(request: Request, _error: Exception) -> Response:
    message = "The header X-Agentops-Api-Key must hold a valid API key."
    return error_response(request, Code.UNAUTHORIZED, message)


def _not_found(request: Request, _error: Exception) -> Response:
    return error_response(request, Code.NOT_FOUND, "There is no such session in this project.")


def _unavailable(request: Request, error: Exception) -> Response:
    log.warning("request.unavailable", error=str(error), request_id=request_id_of(request))
    message = "A part of the service is away; try again soon."
    return error_response(request, Code.UNAVAILABLE, message, {"Retry-After": RETRY_SECONDS})


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - installed for it
    wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return error_response(request, Code.INVALID_REQUEST, "; ".join(wrong))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - installed for it
    code = _CODES.get(error.status_code, Code.INVALID_REQUEST)
    message = {
        Code.NOT_FOUND: "There is no such route.",
        Code.METHOD_NOT_ALLOWED: "The route does not take this method.",
    }.get(code, str(error.detail))
    return error_response(request, code, message, error.headers)


def _internal(request: Request, error: Exception) -> Response:
    log.error("request.crashed", request_id=request_id_of(request), exc_info=error)
    return error_response(request, Code.INTERNAL, "A mistake of ours; it has been logged.")

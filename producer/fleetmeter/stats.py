"""Asks the api for a session's cost. Knows nothing of Kafka; every failure is Unavailable."""

import json
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from fleetmeter_schemas.errors import Unavailable

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ANSWER_BYTES_MAX = 10_000_000
_PAUSE_S = 0.2
# A session that was just written may be unknown (404) to an api that has not caught up.
_NOT_YET = frozenset({404, 503})


class Stats(Protocol):
    """Where costs come from."""

    def cost(self, session_id: str, after_offset: int | None) -> str:
        """US dollars as decimal text, everything up to the offset included; or Unavailable."""


class ApiStats:
    """The api's `GET /v2/sessions/{id}/stats`. Safe to use from several threads.

    Args:
        api_url: Base URL.
        api_key: The project's key; sent to this host only, redirects are refused.
        timeout_ms: Longest wait for an answer that is up to date.
    """

    def __init__(self, api_url: str, api_key: str, timeout_ms: int) -> None:
        self._api_url = api_url
        self._api_key = api_key
        self._timeout_s = timeout_ms / 1000

    def cost(self, session_id: str, after_offset: int | None) -> str:
        """Asks until the answer contains the offset; raises Unavailable when time is over."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return self._cost_now(session_id, after_offset, deadline)
            except _NotYet as error:
                if time.monotonic() + _PAUSE_S >= deadline:
                    raise Unavailable(str(error)) from error
            time.sleep(_PAUSE_S)

    def _cost_now(self, session_id: str, after_offset: int | None, deadline: float) -> str:
        answer = self._get(session_id, after_offset, deadline)
        if not answer.get("caught_up", True):
            raise _NotYet(f"the totals are not up to date yet: {_cost_of(answer)} so far")
        return _cost_of(answer)

    def _get(self, session_id: str, after_offset: int | None, deadline: float) -> dict[str, Any]:
        url = stats_url(self._api_url, session_id)
        if after_offset is not None:
            url += f"?after_offset={after_offset}"
        request = Request(url, headers={"X-Agentops-Api-Key": self._api_key})  # noqa: S310 - checked
        timeout_s = max(0.1, deadline - time.monotonic())
        try:
            with _opener(url)(request, timeout=timeout_s) as response:
                answer = json.loads(response.read(_ANSWER_BYTES_MAX))
        except HTTPError as error:
            with error:
                kind = _NotYet if error.code in _NOT_YET else Unavailable
                raise kind(f"the api answered {error.code}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise Unavailable(f"the api at {self._api_url}: {error}") from error
        if not isinstance(answer, dict):
            raise Unavailable("the api answered something else than stats")
        return answer


class _NotYet(Exception):  # noqa: N818 - no error, but a reason to ask again
    """What was written has not arrived at the api."""


class _NoRedirects(HTTPRedirectHandler):
    """Follows none: the key must not travel to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuses, so that the redirect is reported as an HTTP error."""
        return


def stats_url(api_url: str, session_id: str) -> str:
    """Where a session's stats are."""
    return f"{api_url}/v2/sessions/{quote(session_id, safe='')}/stats"


def _opener(url: str) -> Callable[..., Any]:
    direct = [ProxyHandler({})] if urlsplit(url).hostname in _LOOPBACK else []
    return build_opener(_NoRedirects, *direct).open


def _cost_of(answer: dict[str, Any]) -> str:
    cost = answer.get("cost")
    if isinstance(cost, str):
        return cost
    raise Unavailable(f"the api gave no cost: {cost!r}")

"""What the api and the store say about sessions; reads only, expects nothing."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx
import orjson

from fleetmeter_local.recompute import TOKENS, Totals, empty
from fleetmeter_local.store_request import quoted_text
from fleetmeter_schemas.errors import ConfigError, Unavailable

PICO = Decimal(10) ** 12
REQUESTS_MAX = 8
SECONDS_MAX = 30.0
# Queries name each session; the engine's own bound, 256 kB, would end them at 1,600.
QUERY_BYTES_MAX = 16_000_000
_COUNTS = {"llm": "llm_calls", "tool": "tool_calls", "action": "actions", "error": "errors"}
_STATS = {
    "input": "prompt_tokens",
    "output": "completion_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}
_OF_EVENTS = """\
SELECT session_id, kind, count() AS events,
    sum(toInt128(ifNull(input_tokens, 0))) AS input,
    sum(toInt128(ifNull(output_tokens, 0))) AS output,
    sum(toInt128(ifNull(cache_read_tokens, 0))) AS cache_read,
    sum(toInt128(ifNull(cache_write_5m_tokens, 0) + ifNull(cache_write_1h_tokens, 0)))
        AS cache_write,
    sum(toInt128(ifNull(reasoning_tokens, 0))) AS reasoning,
    sum(toInt128(ifNull(cost_pico_usd, 0))) AS cost,
    countIf(kind = 'llm' AND cost_pico_usd IS NULL) AS unpriced
FROM {database}.events FINAL
WHERE {sessions} AND kind IN ('llm', 'tool', 'action', 'error')
GROUP BY session_id, kind"""
_OF_SESSIONS = """\
SELECT session_id, argMax(state, part) AS state, argMax(end_state, part) AS end_state,
    argMax(end_state_reason, part) AS reason,
    sum(toInt128(numbers.llm_calls)) AS llm, sum(toInt128(numbers.tool_calls)) AS tool,
    sum(toInt128(numbers.actions)) AS action, sum(toInt128(numbers.errors)) AS error,
    sum(toInt128(numbers.input_tokens)) AS input, sum(toInt128(numbers.output_tokens)) AS output,
    sum(toInt128(numbers.cache_read_tokens)) AS cache_read,
    sum(toInt128(numbers.cache_write_tokens)) AS cache_write,
    sum(toInt128(numbers.reasoning_tokens)) AS reasoning,
    sum(toInt128(numbers.cost_pico_usd)) AS cost,
    sum(toInt128(numbers.unpriced_events)) AS unpriced
FROM {database}.sessions FINAL
WHERE {sessions}
GROUP BY session_id"""
_BY_MODEL = """\
SELECT model, count() AS calls, sum(toInt128(ifNull(input_tokens, 0))) AS input,
    sum(toInt128(ifNull(output_tokens, 0))) AS output,
    sum(toInt128(ifNull(cost_pico_usd, 0))) AS cost,
    countIf(cost_pico_usd IS NULL) AS unpriced
FROM {database}.events FINAL
WHERE {sessions} AND kind = 'llm'
GROUP BY model ORDER BY cost DESC, model"""
_VISIBLE = """\
SELECT (SELECT count() FROM {database}.events FINAL
        WHERE {sessions} AND kind IN ('llm', 'tool', 'action', 'error')) AS events,
    (SELECT sum(toInt128(numbers.events)) FROM {database}.sessions FINAL WHERE {sessions})
        AS counted,
    (SELECT countIf(state = 'open') FROM
        (SELECT argMax(state, part) AS state FROM {database}.sessions FINAL
         WHERE {sessions} GROUP BY session_id)) AS open,
    (SELECT uniqExact(session_id) FROM {database}.sessions FINAL WHERE {sessions}) AS sessions"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a session ended, or `open`, with the reason."""

    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """How much of a set of sessions has come to the tables."""

    events: int
    counted: int
    open: int
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What one model did and cost."""

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    unpriced: int


class StoreReader:
    """The sums of one project's sessions, by SQL over the tables."""

    def __init__(
        self, *, url: str, headers: dict[str, str], database: str, project_id: str
    ) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers=headers,
            params={"max_query_size": QUERY_BYTES_MAX},
            timeout=SECONDS_MAX,
            trust_env=False,
        )
        self._database = database
        self._project_id = project_id

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def visible(self, session_ids: Sequence[str]) -> Visible:
        """How much has come to the tables."""
        (row,) = self._rows(_VISIBLE, session_ids)
        return Visible(**{name: int(value or 0) for name, value in row.items()})

    def events(self, session_ids: Sequence[str]) -> dict[str, Totals]:
        """The sums over the events table."""
        found: dict[str, Totals] = {}
        for row in self._rows(_OF_EVENTS, session_ids):
            totals = found.setdefault(row["session_id"], empty())
            totals.add(_totals(row, {row["kind"]: int(row["events"])}))
        return found

    def sessions(self, session_ids: Sequence[str]) -> dict[str, tuple[Totals, Ended]]:
        """The sums over the sessions table, and how each session ended."""
        return {
            row["session_id"]: (
                _totals(row, {kind: int(row[kind]) for kind in _COUNTS}),
                Ended(
                    state="open" if row["state"] == "open" else row["end_state"],
                    reason=row["reason"],
                ),
            )
            for row in self._rows(_OF_SESSIONS, session_ids)
        }

    def by_model(self, session_ids: Sequence[str]) -> list[ModelCost]:
        """What each model cost, the dearest first."""
        return [
            ModelCost(
                model=row["model"],
                calls=int(row["calls"]),
                input_tokens=int(row["input"]),
                output_tokens=int(row["output"]),
                cost_usd=Decimal(int(row["cost"])) / PICO,
                unpriced=int(row["unpriced"]),
            )
            for row in self._rows(_BY_MODEL, session_ids)
        ]

    def _rows(self, sql: str, session_ids: Sequence[str]) -> list[dict[str, Any]]:
        listed = ", ".join(quoted_text(each) for each in session_ids)
        sessions = f"project_id = {quoted_text(self._project_id)} AND session_id IN ({listed})"
        query = sql.replace("{database}", self._database).replace("{sessions}", sessions)
        try:
            answer = self._client.post("/", content=f"{query} FORMAT JSONEachRow")
        except httpx.TransportError as error:
            raise Unavailable(f"the store does not answer: {error}") from error
        if answer.is_error:
            raise Unavailable(f"the store answers {answer.status_code}: {answer.text[:300]}")
        return [orjson.loads(line) for line in answer.content.splitlines()]


def _totals(row: dict[str, Any], events: dict[str, int]) -> Totals:
    totals = empty()
    totals.events.update(events)
    totals.tokens.update({name: int(row[name]) for name in TOKENS})
    totals.cost_usd = Decimal(int(row["cost"])) / PICO
    totals.unpriced_events = int(row["unpriced"])
    return totals


class ApiReader:
    """The stats of sessions and other answers of the api, for one API key."""

    def __init__(self, *, url: str, api_key: str) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"X-Agentops-Api-Key": api_key},
            timeout=SECONDS_MAX,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def stats(self, session_ids: Iterable[str]) -> dict[str, Totals]:
        """The stats of each session that the api knows."""
        with ThreadPoolExecutor(REQUESTS_MAX) as pool:
            found = zip(session_ids, pool.map(self._stats, session_ids), strict=True)
            return {session_id: totals for session_id, totals in found if totals is not None}

    def _stats(self, session_id: str) -> Totals | None:
        answer = self._get(f"/v2/sessions/{session_id}/stats")
        return None if answer is None else stats_totals(answer)

    def get(self, path: str, **query: str | int) -> Any:
        """The answer to a request; raises ConfigError when there is no such thing."""
        answer = self._get(path, **query)
        if answer is None:
            raise ConfigError("the api does not know it: is it the right project's key?")
        return answer

    def _get(self, path: str, **query: str | int) -> Any:
        try:
            answer = self._client.get(path, params=query)
        except httpx.TransportError as error:
            raise Unavailable(f"the api does not answer: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigError("the api refuses the API key")
        if answer.is_error:
            raise Unavailable(f"the api answers {answer.status_code}: {answer.text[:300]}")
        return orjson.loads(answer.content)


def stats_totals(stats: dict[str, Any]) -> Totals:
    """The sums in an answer of `/v2/sessions/{id}/stats`."""
    totals = empty()
    totals.events.update({kind: int(stats[name]) for kind, name in _COUNTS.items()})
    totals.tokens.update({name: int(stats[key]) for name, key in _STATS.items()})
    try:
        totals.cost_usd = Decimal(str(stats["cost"]))
    except InvalidOperation as error:
        raise Unavailable(f"the api says the cost is {stats['cost']!r}") from error
    totals.unpriced_events = int(stats["unpriced_events"])
    return totals

"""What runs in a stack, how far behind it is, and what is wrong with it; changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from fleetmeter_local import lag, readiness, services, supervisor
from fleetmeter_local import stack as stacks
from fleetmeter_local.lag import Lag
from fleetmeter_local.stack import Stack
from fleetmeter_local.supervisor import ProgramStatus
from fleetmeter_schemas.errors import Unavailable

_OPEN = """\
SELECT countIf(state = 'open') FROM
(SELECT argMax(state, part) AS state FROM {database}.sessions FINAL
 GROUP BY project_id, session_id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process; `why` says what it lacks, empty when it is ready."""

    name: str
    state: str
    pid: int | None
    port: int
    uptime_seconds: int
    restarts: int
    why: str

    @property
    def is_ready(self) -> bool:
        """Whether it does its work."""
        return not self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A stack now; without processes when it does not run. None: nobody could tell."""

    stack: Stack
    processes: list[ProcessStatus] = field(default_factory=list)
    lags: list[Lag] | None = None
    open_sessions: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether its processes were started."""
        return bool(self.processes)

    @property
    def is_ready(self) -> bool:
        """Whether all of it does its work."""
        return self.is_running and all(each.is_ready for each in self.processes)


def examine(stack: Stack) -> Status:
    """Ask everybody how it goes.

    Raises:
        Unavailable: The supervisor runs and does not answer.
    """
    found = sorted(supervisor.status(stack.data_dir), key=lambda each: services.order(each.name))
    if not found:
        return Status(stack=stack)
    with ThreadPoolExecutor(len(found)) as pool:
        processes = list(pool.map(lambda each: _process(stack, each), found))
    is_ready = {each.name: each.is_ready for each in processes}
    return Status(
        stack=stack,
        processes=processes,
        lags=_lags(stack) if is_ready["kafka"] else None,
        open_sessions=_open_sessions(stack) if is_ready["store"] else None,
    )


def _process(stack: Stack, found: ProgramStatus) -> ProcessStatus:
    why = readiness.why_not_ready(stack, found.name) if found.pid else "is not running"
    return ProcessStatus(
        name=found.name,
        state=found.state,
        pid=found.pid,
        port=getattr(stack.ports, found.name),
        uptime_seconds=found.uptime_seconds,
        restarts=found.restarts,
        why=why or "",
    )


def _lags(stack: Stack) -> list[Lag] | None:
    try:
        return lag.lags(stack.control)
    except Unavailable:
        return None


def _open_sessions(stack: Stack) -> int | None:
    try:
        answer = httpx.post(
            stack.store_url,
            content=_OPEN.replace("{database}", stack.namespace),
            headers=stacks.store_headers(stack),
            timeout=readiness.SECONDS_MAX,
            trust_env=False,
        )
    except httpx.TransportError:
        return None
    return int(answer.text) if answer.is_success else None


def as_json(now: Status) -> dict[str, Any]:
    """The status for programs."""
    lags = None if now.lags is None else [asdict(each) | {"lag": each.records} for each in now.lags]
    return {
        "data_dir": str(now.stack.data_dir),
        "running": now.is_running,
        "ready": now.is_ready,
        "namespace": now.stack.namespace,
        "bootstrap_servers": now.stack.bootstrap_servers,
        "store_url": now.stack.store_url,
        "api_url": now.stack.api_url,
        "processes": [asdict(each) | {"ready": each.is_ready} for each in now.processes],
        "lags": lags,
        "open_sessions": now.open_sessions,
    }

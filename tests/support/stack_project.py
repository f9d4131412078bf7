"""A project of a test's own on a running stack: writes with the SDK, reads api and tables."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson

from fleetmeter import Client, Config
from fleetmeter_local import keys
from fleetmeter_local import stack as stacks
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.identity import partition_of
from fleetmeter_schemas.topics import PARTITIONS_DEFAULT

WAIT_SECONDS_MAX = 40.0
RUN_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project and a key of it."""

    stack: Stack
    project_id: str
    api_key: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a program that writes there: that, and nothing else of ours."""
        own = {n: v for n, v in os.environ.items() if not n.startswith("FLEETMETER_")}
        return own | stacks.sdk_environment(self.stack, self.api_key)

    @contextmanager
    def client(self, **options: Any) -> Iterator[Client]:
        """A writer within this process; silent unless it records."""
        given: dict[str, Any] = {"crash_handlers": False, "heartbeat_interval_ms": 0} | options
        client = Client(Config.from_environment(self.environment, **given))
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def program(
        self, source: str, folder: Path, **variables: str
    ) -> Iterator[subprocess.Popen[str]]:
        """A writer in a process of its own; what is left of it dies with the block."""
        path = folder / f"program_{uuid4().hex}.py"
        path.write_text(textwrap.dedent(source))
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(path)],
            env=self.environment | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, source: str, folder: Path, **variables: str) -> str:
        """Run a program to its end, which must be a good one without complaints; its stdout."""
        with self.program(source, folder, **variables) as process:
            out, err = process.communicate(timeout=RUN_SECONDS_MAX)
        assert (0, "") == (process.returncode, err)
        return out

    def get(self, path: str, **query: str | int) -> httpx.Response:
        """The api's answer, whatever it is."""
        return httpx.get(
            f"{self.stack.api_url}{path}",
            params=query,
            headers={"X-Agentops-Api-Key": self.api_key},
            timeout=20,
            trust_env=False,
        )

    def stats(self, session_id: str, **query: int) -> dict[str, Any]:
        """The stats of a session; empty where the api knows none."""
        answer = self.get(f"/v2/sessions/{session_id}/stats", **query)
        assert answer.status_code in {200, 404}, answer.text
        return dict(answer.json()) if answer.status_code == 200 else {}

    def listed(self, count: int) -> list[dict[str, Any]]:
        """The project's sessions, as the api lists them, as soon as so many have all landed."""
        sessions: list[dict[str, Any]] = []

        def look() -> bool:
            sessions[:] = self.get("/v1/sessions").json()["sessions"]
            return len(sessions) == count

        wait_until(look, sessions)
        return sessions

    def export(self, session_id: str) -> dict[str, Any]:
        """A session with all its events."""
        answer = self.get(f"/v2/sessions/{session_id}/export")
        assert (200, True) == (answer.status_code, answer.json()["session"]["complete_export"])
        return dict(answer.json())

    def agrees(self, session_id: str) -> bool:
        """Whether the session equals the recomputation from its events."""
        answer = self.get(f"/v1/sessions/{session_id}/verify", wait_ms=10_000)
        return bool(answer.json()["agrees"])

    def rows(self, sql: str, **parameters: str) -> list[dict[str, Any]]:
        """The rows of a statement on the tables; `{name:Type}` in it is a parameter."""
        answer = httpx.post(
            self.stack.store_url,
            params={"database": self.stack.namespace}
            | {f"param_{name}": value for name, value in parameters.items()},
            content=f"{sql} FORMAT JSONEachRow",
            headers=stacks.store_headers(self.stack),
            timeout=20,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return [orjson.loads(line) for line in answer.content.splitlines()]

    def await_rows(self, wanted: list[dict[str, Any]], sql: str, **parameters: str) -> None:
        """Wait until a statement gives these rows: snapshots land a little later."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = self.rows(sql, **parameters)
            return found == wanted

        wait_until(look, found)

    def eventually(
        self,
        session_id: str,
        is_so: Callable[[dict[str, Any]], bool],
        seconds_max: float = WAIT_SECONDS_MAX,
    ) -> dict[str, Any]:
        """The session's stats as soon as `is_so`; fails after the limit."""
        found: dict[str, Any] = {}

        def look() -> bool:
            found.clear()
            found.update(self.stats(session_id))
            return bool(found) and is_so(found)

        wait_until(look, found, seconds_max)
        return found


def new_project(stack: Stack, idle_timeout_ms: int | None = None) -> Project:
    """A project that nobody else uses."""
    made = keys.create(stack.control, project=uuid4().hex, idle_timeout_ms=idle_timeout_ms)
    return Project(stack=stack, project_id=made.project_id, api_key=made.api_key)


def wait_until(
    is_so: Callable[[], bool], told: object = "", seconds_max: float = WAIT_SECONDS_MAX
) -> None:
    """Wait until `is_so`; fails with `told` after the limit."""
    deadline = time.monotonic() + seconds_max
    while not is_so():
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def session_id_beside(session_id: str) -> str:
    """Another session id of the same partition."""
    wanted = partition_of(session_id.encode(), PARTITIONS_DEFAULT)
    while True:
        other = str(uuid4())
        if partition_of(other.encode(), PARTITIONS_DEFAULT) == wanted:
            return other

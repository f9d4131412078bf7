"""One writer process of a replay: sends its share of the sessions through the SDK.

`python -m fleetmeter_local.replay_writer FILE --run UUID --writer I --writers N`, with the SDK's
FLEETMETER_… variables. Tells on stdout, a JSON object a line, how many events are acknowledged.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from fleetmeter import Client, Config, Session
from fleetmeter_local import recorded, replay_plan
from fleetmeter_local.recorded import Recorded
from fleetmeter_local.replay_events import event_of
from fleetmeter_local.replay_plan import Step
from fleetmeter_schemas.errors import ConfigError

EXIT_CONFIG = 2
# The SDK drops what its queue cannot hold, and a replay may not lose anything: it waits instead.
PENDING_MAX = 5_000
CHECK_EVERY = 500
FLUSH_MS = 1_000
TELL_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Writer:
    """The sessions that are under way and how far they came."""

    client: Client
    names: dict[str, Recorded]
    sessions: dict[str, Session] = field(default_factory=dict)
    sent: int = 0
    told_at: float = 0.0

    def send(self, step: Step) -> None:
        """Send one step; the session is started by its first one."""
        session = self.sessions.get(step.session_id) or self._start(step)
        if step.event is not None:
            session.record(event_of(step.event, step.event_id))
            self.sent += 1
        elif step.end_state is not None:
            at = datetime.fromtimestamp(step.at_ms / 1000, UTC) if step.at_ms else None
            session.end_session(step.end_state, end_timestamp=at)
        if self.sent % CHECK_EVERY == 0:
            self.keep_up(PENDING_MAX)

    def _start(self, step: Step) -> Session:
        session = self.client.start_session(
            tags=["replay"],
            inherited_session_id=step.session_id,
            name=self.names[step.session_id].session,
            init_timestamp=step.at_ms / 1000 if step.at_ms else None,
        )
        self.sessions[step.session_id] = session
        return session

    def keep_up(self, pending_max: int) -> None:
        """Wait until so few events are pending; raises ConfigError when any was dropped."""
        result = self.client.flush(0)
        while result.pending > pending_max and not result.dropped:
            self.tell(result.pending)
            result = self.client.flush(FLUSH_MS)
        if result.dropped:
            raise ConfigError(f"events were dropped: {dict(result.dropped_by_reason)}")
        self.tell(result.pending)

    def tell(self, pending: int) -> None:
        """Tell now and then how many events are acknowledged."""
        now = time.monotonic()
        if now - self.told_at >= TELL_SECONDS:
            self.told_at = now
            _say(acknowledged=max(self.sent - pending, 0), done=False)

    def finish(self) -> None:
        """Wait for all acknowledgements; what has not ended is left to its timeout."""
        self.keep_up(0)
        self.client.close()
        _say(acknowledged=self.sent, done=True)


def _say(*, acknowledged: int, done: bool) -> None:
    sys.stdout.write(json.dumps({"acknowledged": acknowledged, "done": done}) + "\n")
    sys.stdout.flush()


def paced(
    steps: Iterator[Step], origin_ms: int, since: float, speed: float
) -> Iterator[Step | None]:
    """The steps when they are due; None while there is nothing to do yet.

    `origin_ms` of the recording is `since` (Unix seconds): a writer that begins again catches up.
    """
    for step in steps:
        due = since + (step.at_ms - origin_ms) / 1000 / speed
        while (left := due - time.time()) > 0:
            yield None
            time.sleep(min(left, TELL_SECONDS))
        yield step


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fleetmeter_local.replay_writer", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--run", type=UUID, required=True)
    parser.add_argument("--writer", type=int, required=True)
    parser.add_argument("--writers", type=int, required=True)
    parser.add_argument("--speed", type=float)
    parser.add_argument("--since", type=float, default=time.time())
    return parser.parse_args()


def _config() -> Config:
    return Config.from_environment(
        os.environ,
        api_url="",  # nobody here waits for a cost
        crash_handlers=False,  # an interrupted replay abandons its sessions
        env_data_opt_out=True,  # they did not happen on this machine
        heartbeat_interval_ms=0,  # recorded agents are as silent as they were
    )


def run(given: argparse.Namespace) -> None:
    """Send this writer's share; raises ConfigError."""
    everything = list(recorded.read(given.file))
    mine = replay_plan.share(everything, given.writer, given.writers)
    names = {replay_plan.session_id(given.run, session): session for session in mine}
    writer = Writer(client=Client(_config()), names=names)
    steps: Iterator[Step | None] = replay_plan.steps(given.run, mine)
    if given.speed is not None:
        starts = [each.events[0]["start_ms"] for each in everything if each.events]
        plain = replay_plan.steps(given.run, mine)
        steps = paced(plain, min(starts, default=0), given.since, given.speed)
    for step in steps:
        if step is None:
            writer.keep_up(PENDING_MAX)
        else:
            writer.send(step)
    writer.finish()


def main() -> None:
    """Send, or say in one line on stderr why not."""
    try:
        run(_arguments())
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_CONFIG)
    except BrokenPipeError:
        os._exit(1)  # whoever started this is gone, and nobody will compare


if __name__ == "__main__":
    main()

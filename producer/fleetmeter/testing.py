"""For the tests of programs that use fleetmeter: captures what they record, without Kafka.

    with fleetmeter.testing.capture() as captured:
        run_my_agent()
    assert captured.events[0]["name"] == "search"

Measures nothing and prices nothing: costs are None inside.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from fleetmeter import default
from fleetmeter.config import Config
from fleetmeter.encoding import decode
from fleetmeter.ports import Ports
from fleetmeter.transport import Accounts, Delivery, Dropped
from fleetmeter_schemas.records import COUNTED_KINDS, Event, Kind
from fleetmeter_schemas.topics import EVENT_BYTES_MAX

API_KEY: Final = "00000000-0000-4000-8000-000000000000"


class Captured:
    """What was recorded, as it would have been written; field docs: fleetmeter.Event.avsc."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    @property
    def records(self) -> list[Event]:
        """All records in order, those that steer sessions included."""
        return [decode(value) for value in self.values]

    @property
    def events(self) -> list[Event]:
        """The records of kind llm, tool, action and error."""
        return [record for record in self.records if record["kind"] in COUNTED_KINDS]

    @property
    def end_states(self) -> dict[str, str]:
        """The end states, canonical, by session id; open sessions are missing."""
        ends: dict[str, str] = {}
        for record in self.records:
            if record["kind"] == Kind.SESSION_ENDED:
                detail: Any = record["detail"]
                ends[record["session_id"]] = detail["end_state"]
        return ends


class CapturingTransport:
    """Keeps records in memory and counts them as delivered."""

    def __init__(self, captured: Captured, accounts: Accounts) -> None:
        self._captured = captured
        self._accounts = accounts

    def start(self) -> None:
        """Nothing to do."""

    def send(self, key: bytes, value: bytes, delivery: Delivery) -> Dropped | None:  # noqa: ARG002
        """Keeps the record."""
        if len(value) > EVENT_BYTES_MAX:
            return Dropped.TOO_LARGE
        with self._accounts.lock:
            delivery.offset = len(self._captured.values)
            self._captured.values.append(value)
            self._accounts.delivered += 1
        return None

    def send_reserved(self, key: bytes, value: bytes, delivery: Delivery) -> Dropped | None:
        """Keeps the record."""
        return self.send(key, value, delivery)

    def flush(self, done: Callable[[], bool], timeout_ms: int) -> None:
        """Nothing is ever pending."""

    def close(self, timeout_ms: int) -> None:
        """Nothing to let go."""

    def forked(self, accounts: Accounts) -> Self:
        """The child's records stay in the child's memory."""
        return type(self)(self._captured, accounts)


@contextmanager
def capture(**options: str) -> Iterator[Captured]:
    """Inside, `fleetmeter.init` and all else write into the result instead of Kafka.

    Environment variables do not count inside, and nothing that was initialised before is touched.

    Args:
        options: Variables to set, without prefix, such as `tags="a,b"`.
    """
    captured = Captured()
    ports = captured_ports(captured, **options)
    state = default.STATE
    before = (state.ports, state.client, state.initial)
    state.ports, state.client, state.initial = ports, None, None
    try:
        yield captured
    finally:
        default.close()
        state.ports, state.client, state.initial = before


def captured_ports(captured: Captured, **options: str) -> Ports:
    """An outside for `Client(ports=…)` that writes there."""
    environ = {
        "FLEETMETER_API_KEY": API_KEY,
        "FLEETMETER_BOOTSTRAP_SERVERS": "captured:9092",
        "FLEETMETER_CRASH_HANDLERS": "false",
        **{f"FLEETMETER_{name.upper()}": value for name, value in options.items()},
    }

    def transport(
        config: Config,  # noqa: ARG001 - every way to the log gets these three
        accounts: Accounts,
        on_idle: Callable[[], None],  # noqa: ARG001
    ) -> CapturingTransport:
        return CapturingTransport(captured, accounts)

    return Ports(environ=environ, transport=transport, stats=lambda _: None)

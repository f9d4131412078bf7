"""One session as a program sees it: record, tag, end. How records travel is the client's part."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

from fleetmeter import current, lifecycle
from fleetmeter.analytics import analytics
from fleetmeter.config import Tags, tag_list
from fleetmeter.events import Event, Timestamp, new_id, now
from fleetmeter.mapping import event_record, kind_of, time_us, without_payload
from fleetmeter.payload import label, safe_str
from fleetmeter.stream import Stream
from fleetmeter.transport import Dropped
from fleetmeter_schemas.records import Event as EventRecord
from fleetmeter_schemas.records import Kind, SessionUpdate

if TYPE_CHECKING:
    from fleetmeter.client import Client

_NOT_ENDED: Final = ""


class Session:
    """A session of this process; made by `init`, `start_session` and `Client.start_session`.

    As a context manager (sync or async) it is the current session inside, and ends as Success,
    or as Failure where an exception leaves. Leaving the block waits for nothing.
    """

    def __init__(
        self,
        client: "Client",
        session_id: str,
        *,
        conversation_id: str = "",
        user_id: str = "",
        init_timestamp: Timestamp = None,
    ) -> None:
        self.session_id = session_id
        self.init_time_us = now_us() if init_timestamp is None else time_us(init_timestamp)
        self.end_state = _NOT_ENDED
        self.end_state_reason: str | None = None
        self._client = client
        self._key = session_id.encode()
        self._lock = RLock()
        self._stream = client.stream(session_id)
        self._home = client.process_token
        self._counts: Counter[Kind] = Counter()
        self._end_time_us: int | None = None
        self._cost: str | None = None
        self._last_sent = time.monotonic()
        self._agents: set[str] = set()
        self._tokens: list[Token[Session | None]] = []
        self._constant: EventRecord = {
            "key_hash": client.key_hash,
            "session_id": session_id,
            "user_id": label(user_id),
            "conversation_id": label(conversation_id),
        }

    def __repr__(self) -> str:
        return f"<Session {self.session_id} {self.end_state or 'open'}>"

    @property
    def is_open(self) -> bool:
        """Whether this process has not ended it."""
        return self.end_state == _NOT_ENDED

    @property
    def is_inherited(self) -> bool:
        """Whether it came from the parent by a fork: then its end is the parent's affair."""
        return self._home is not self._client.process_token

    def record(self, event: Event) -> None:
        """Writes an event. Never blocks, never raises; what is lost is told by `flush()`.

        Sets `end_timestamp` where it is missing. Recorded after the end it counts as late.
        """
        try:
            self._record(event)
        except Exception as error:  # noqa: BLE001 - must not take its host down
            self._client.lost(Dropped.NOT_WRITTEN, error)

    def end_session(
        self,
        end_state: str = "Indeterminate",
        end_state_reason: str | None = None,
        video: str | None = None,
        *,
        end_timestamp: Timestamp = None,
    ) -> str | None:
        """Ends the session, waits for delivery, and returns what it cost.

        Args:
            end_state: Success, Failure (or Fail), Indeterminate.
            end_state_reason: Why.
            video: URL of a recording.
            end_timestamp: When, if not now.

        Returns:
            US dollars as decimal text, everything recorded here included. None without an api,
            or when it cannot tell (see the log). Ending again changes nothing and returns the
            same.

        Raises:
            ValueError: Another end state, or a time that is none.
        """
        if self.conclude(end_state, end_state_reason, video, end_timestamp):
            self._cost = self._client.settled_cost(self.session_id, self.stream().delivery)
        return self._cost

    async def aend_session(
        self,
        end_state: str = "Indeterminate",
        end_state_reason: str | None = None,
        video: str | None = None,
        *,
        end_timestamp: Timestamp = None,
    ) -> str | None:
        """`end_session` for async code: the waiting is done in a thread."""
        # Imported here: who awaits this has paid for asyncio already, others need not.
        from asyncio import to_thread  # noqa: PLC0415

        return await to_thread(
            self.end_session,
            end_state,
            end_state_reason,
            video,
            end_timestamp=end_timestamp,
        )

    def get_analytics(self) -> dict[str, int | str]:
        """Counts of this process, duration and cost, worded as AgentOps does.

        `Cost` is `0.00` where no api can be asked.
        """
        end_us = now_us() if self._end_time_us is None else self._end_time_us
        cost = self._cost
        if self.is_open:
            cost = self._client.settled_cost(self.session_id, self.stream().delivery)
        with self._lock:
            return analytics(self._counts, end_us - self.init_time_us, cost)

    def add_tags(self, tags: Tags) -> None:
        """Adds tags: one text, or several."""
        self._update(lambda: lifecycle.update(tags_added=tag_list(tags)))

    def set_tags(self, tags: Tags) -> None:
        """Replaces all tags."""
        self._update(lambda: lifecycle.update(tags_set=tag_list(tags)))

    def create_agent(self, name: str, agent_id: str | UUID | None = None) -> str:
        """Names an agent of the session; returns its id for `agent_id` of events."""
        known = safe_str(agent_id) if agent_id is not None else new_id()
        self._agents.add(known)
        self._update(lambda: lifecycle.update(agents={known: name}))
        return known

    def ensure_agent(self, name: str, agent_id: str) -> None:
        """Names an agent, unless this process did so before."""
        if agent_id not in self._agents:
            self.create_agent(name, agent_id)

    def stream(self) -> Stream:
        """This process's numbered records of the session; a fork's child gets its own."""
        stream = self._stream
        if stream.writer_id != self._client.writer_id:
            with self._lock:
                stream = self._stream = self._client.stream(self.session_id)
        return stream

    def announce(self, update: SessionUpdate, host: Mapping[str, object] | None) -> None:
        """Writes that this process starts or joins the session."""
        self._steer(lifecycle.started(new_id(), self.init_time_us, update, host))

    def conclude(
        self,
        said: str,
        reason: str | None = None,
        video: str | None = None,
        end_timestamp: Timestamp = None,
    ) -> bool:
        """Writes the end, without waiting; False where it has ended before. Raises ValueError."""
        state = lifecycle.end_state_of(said)
        end_us = now_us() if end_timestamp is None else time_us(end_timestamp)
        with self._lock:
            if not self.is_open:
                return False
            self.end_state = state.value
            self.end_state_reason = reason
            self._end_time_us = end_us
        self._client.forget(self)
        stream = self.stream()
        number = stream.number()
        record = lifecycle.ended(new_id(), end_us, lifecycle.end(said, reason, video, number))
        self._write(record, stream, number)
        return True

    def leave(self, error: BaseException | None) -> None:
        """Concludes as Success, or as Failure with the error as reason."""
        fine = isinstance(error, GeneratorExit) or (
            isinstance(error, SystemExit) and not error.code
        )
        if error is None or fine:
            self.conclude("Success")
        else:
            self.conclude("Failure", f"{type(error).__name__}: {safe_str(error)}")

    def beat(self, interval_s: float) -> None:
        """Writes a heartbeat where this process wrote before, and was silent for so long."""
        stream = self._stream
        if not stream.last or stream.writer_id != self._client.writer_id:
            return
        if time.monotonic() - self._last_sent >= interval_s:
            record = lifecycle.heartbeat(new_id(), now_us(), stream.last)
            self._write(record, stream, stream.last)

    def renew_after_fork(self) -> None:
        """In the child: the parent's threads may have held the lock when it was copied."""
        self._lock = RLock()

    def __enter__(self) -> Self:
        self._tokens.append(current.SESSION.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A generator's block may be left in another context than it was entered in.
        with suppress(ValueError):
            current.SESSION.reset(self._tokens.pop())
        self.leave(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def _record(self, event: Event) -> None:
        if event.end_timestamp is None:
            event.end_timestamp = now()
        client = self._client
        sent, failure = client.filtered(event)
        if sent is None:
            return
        stream = self.stream()
        number = stream.number()
        record = event_record(sent, now_us(), client.config.payload_bytes_max)
        if failure:
            record = without_payload(record, failure)
        with self._lock:
            self._counts[kind_of(record["kind"])] += 1
        self._write(record, stream, number)
        if not self.is_open:
            client.tell_once("session.late_event", self.session_id)

    def _update(self, make: Callable[[], SessionUpdate]) -> None:
        try:
            self._steer(lifecycle.updated(new_id(), now_us(), make()))
        except Exception as error:  # noqa: BLE001 - must not take its host down
            self._client.lost(Dropped.NOT_WRITTEN, error)

    def _steer(self, record: EventRecord) -> None:
        stream = self.stream()
        self._write(record, stream, stream.number())

    def _write(self, record: EventRecord, stream: Stream, number: int) -> None:
        self._last_sent = time.monotonic()
        record |= self._constant
        record["writer_id"] = stream.writer_id
        record["sequence"] = number
        self._client.write(self._key, record, stream.delivery)


def now_us() -> int:
    """The event clock: microseconds since the Unix epoch."""
    return time.time_ns() // 1000

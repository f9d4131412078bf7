"""Holds a connection's sessions and writes their records; the module-level functions use one."""

import copy
import logging
import os
import time
from collections.abc import Callable, Mapping
from threading import RLock
from uuid import UUID
from weakref import WeakValueDictionary

from fleetmeter import current, lifecycle, process
from fleetmeter.config import Config, Tags, session_id_from, tag_list
from fleetmeter.events import Event, Timestamp, new_id
from fleetmeter.mapping import time_us
from fleetmeter.ports import REAL, Ports
from fleetmeter.sessions import Session
from fleetmeter.stream import Stream
from fleetmeter.transport import Accounts, Delivery, Dropped, FlushResult
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.identity import key_hash
from fleetmeter_schemas.records import LIFECYCLE_KINDS
from fleetmeter_schemas.records import Event as EventRecord

LOG = logging.getLogger("fleetmeter")
_BEAT_CHECK_S = 1.0


class Client:
    """Sessions that share a project and a producer. Most programs need only the default one.

    Args:
        config: The settings; None reads FLEETMETER_… variables.
        ports: For tests: another outside than the real one.

    Raises:
        ConfigError: Settings that cannot work, in one sentence that names the repair.
    """

    def __init__(self, config: Config | None = None, *, ports: Ports = REAL) -> None:
        given = Config.from_environment(ports.environ) if config is None else config
        self.config = given.checked()
        self.key_hash = key_hash(self.config.api_key)
        self.writer_id = _writer_id()
        self.process_token = object()
        self._lock = RLock()
        self._accounts = Accounts()
        self._told: set[str] = set()
        self._sessions: dict[str, Session] = {}
        self._streams: WeakValueDictionary[str, Stream] = WeakValueDictionary()
        self._open = False
        self._encode: Callable[[EventRecord], bytes]
        self._transport = ports.transport(self.config, self._accounts, self._on_idle)
        self._stats = ports.stats(self.config)
        self._next_beat_check = 0.0

    def start_session(
        self,
        tags: Tags = None,
        inherited_session_id: str | UUID | None = None,
        *,
        name: str | None = None,
        user_id: str | None = None,
        conversation_id: str | None = None,
        init_timestamp: Timestamp = None,
    ) -> Session:
        """Starts a session, or joins one.

        Args:
            tags: One text or several; of a joined session they are added.
            inherited_session_id: The session to join.
            name: For people.
            user_id: On whose behalf it runs.
            conversation_id: Groups sessions.
            init_timestamp: When it started, if not now.

        Raises:
            ConfigError: A session id or a time that is none, or settings Kafka refuses.
        """
        joined = inherited_session_id is not None
        session_id = session_id_from(inherited_session_id) if joined else new_id()
        user = user_id if user_id is not None else self.config.user_id
        all_tags = tag_list(tags) if tags is not None else self.config.tags
        _check_time(init_timestamp)
        self._ensure_open()
        session = Session(
            self,
            session_id,
            conversation_id=conversation_id or "",
            user_id=user,
            init_timestamp=init_timestamp,
        )
        with self._lock:
            self._sessions[session_id] = session
        update = lifecycle.update(
            name=name if name is not None else self.config.session_name,
            user_id=user,
            tags_set=None if joined else all_tags,
            tags_added=all_tags if joined else (),
        )
        session.announce(update, self._host())
        self._log_start(session_id)
        return session

    def record(self, event: Event) -> None:
        """Writes an event into the current session; see `current_session`. Never raises."""
        try:
            session = self._session_for(event)
        except Exception as error:  # noqa: BLE001 - must not take its host down
            self.lost(Dropped.NOT_WRITTEN, error)
            return
        if session is None:
            self.lost(Dropped.NO_SESSION, "no session is open")
        else:
            session.record(event)

    def current_session(self) -> Session | None:
        """The session of the surrounding `with` or decorator, else the last one started here."""
        around = current.SESSION.get()
        if around is not None and around.is_open:
            return around
        with self._lock:
            return next(reversed(self._sessions.values()), None)

    def get_session(self, session_id: str | UUID) -> Session | None:
        """The open session of this process with that id."""
        try:
            return self._sessions.get(session_id_from(session_id))
        except ConfigError:
            return None

    @property
    def open_sessions(self) -> tuple[Session, ...]:
        """The sessions that this process has started or joined and not ended, oldest first."""
        with self._lock:
            return tuple(self._sessions.values())

    def flush(self, timeout_ms: int | None = None) -> FlushResult:
        """Waits until everything is delivered, at most `flush_timeout_ms`; says what became."""
        limit = self.config.flush_timeout_ms if timeout_ms is None else timeout_ms
        self._transport.flush(lambda: self._accounts.pending == 0, limit)
        result = self._accounts.result()
        if result.pending and limit:
            self._tell_pending()
        return result

    def close(self) -> FlushResult:
        """Flushes and stops the background thread; open sessions are left to their timeout."""
        self._open = False
        self._transport.close(self.config.flush_timeout_ms)
        process.forget(self)
        result = self._accounts.result()
        if result.dropped:
            LOG.warning("client.closed dropped=%s", result.dropped_by_reason)
        return result

    def end_all(self, reason: str) -> None:
        """Ends as Failure what this process itself started or joined; waits for nothing."""
        for session in self.open_sessions:
            if not session.is_inherited:
                session.conclude("Failure", reason)

    # What sessions need.

    def write(self, key: bytes, record: EventRecord, delivery: Delivery) -> None:
        """Encodes a record and hands it over; counts it where that fails. Never raises."""
        try:
            if not self._open:
                self._ensure_open()
            value = self._encode(record)
            steering = record["kind"] in LIFECYCLE_KINDS
            send = self._transport.send_reserved if steering else self._transport.send
            refused = send(key, value, delivery)
        except Exception as error:  # noqa: BLE001 - must not take its host down
            self.lost(Dropped.NOT_WRITTEN, error)
            return
        if refused is not None:
            self.lost(refused, "the record was not taken")

    def filtered(self, event: Event) -> tuple[Event | None, str]:
        """The event as `before_send` wants it, None for not at all; and why its payload must go.

        Where the hook fails nothing can be said about the payload, so only numbers and names
        are sent.
        """
        hook = self.config.before_send
        if hook is None:
            return event, ""
        try:
            changed: object = hook(copy.copy(event))
        except Exception as error:  # noqa: BLE001 - the host's own function
            self.tell_once("before_send.failed", error)
            return event, "before_send failed"
        if changed is None:
            with self._accounts.lock:
                self._accounts.filtered += 1
            return None, ""
        if not isinstance(changed, Event):
            self.tell_once("before_send.failed", f"returned {type(changed).__name__}")
            return event, "before_send failed"
        return changed, ""

    def settled_cost(self, session_id: str, delivery: Delivery) -> str | None:
        """Waits for delivery, then asks what the session cost. None, and a log line, on failure."""
        if self._stats is None:
            self.settle(delivery)
            self.tell_once("cost.unknown", "no api_url is set (FLEETMETER_API_URL)")
            return None
        if not self.settle(delivery):
            LOG.warning("cost.unknown session=%s: not everything is delivered yet", session_id)
            return None
        try:
            return self._stats.cost(session_id, delivery.offset)
        except Exception as error:  # noqa: BLE001 - must not take its host down
            LOG.warning("cost.unknown session=%s: %s", session_id, error)
            return None

    def settle(self, delivery: Delivery) -> bool:
        """Waits until a session's records are delivered; False when the time is over."""
        try:
            self._transport.flush(lambda: delivery.pending == 0, self.config.flush_timeout_ms)
        except Exception as error:  # noqa: BLE001 - must not take its host down
            self.tell_once("flush.failed", error)
        if delivery.pending:
            self._tell_pending()
        return not delivery.pending

    def stream(self, session_id: str) -> Stream:
        """This process's numbered records of a session: one, however often it is joined."""
        with self._lock:
            stream = self._streams.get(session_id)
            if stream is None:
                stream = self._streams[session_id] = Stream(self.writer_id)
            return stream

    def forget(self, session: Session) -> None:
        """The session has ended."""
        with self._lock:
            if self._sessions.get(session.session_id) is session:
                del self._sessions[session.session_id]

    def lost(self, reason: Dropped, why: object) -> None:
        """Counts a record that is given up; the log hears of the first for each reason."""
        with self._accounts.lock:
            self._accounts.dropped[reason] += 1
        self.tell_once(f"event.dropped reason={reason}", why)

    def tell_once(self, what: str, why: object) -> None:
        """Logs a warning, the first time."""
        if what not in self._told:
            self._told.add(what)
            LOG.warning("%s: %s (further ones are not logged)", what, why)

    def renew_after_fork(self) -> None:
        """In the child: an own writer, own accounts, own producer; nothing of the parent's."""
        self._lock = RLock()
        self._accounts = Accounts()
        self._streams = WeakValueDictionary()
        self.writer_id = _writer_id()
        self.process_token = object()
        self._transport = self._transport.forked(self._accounts)
        for session in self._sessions.values():
            session.renew_after_fork()

    def _ensure_open(self) -> None:
        # Imported here, because fastavro takes 40 ms that `import fleetmeter` need not take.
        from fleetmeter.encoding import encode  # noqa: PLC0415

        self._encode = encode
        self._transport.start()
        process.remember(self)
        self._open = True

    def _tell_pending(self) -> None:
        brokers = self.config.bootstrap_servers
        why = f"is Kafka at {brokers}, and are its topics made (`fleetmeter migrate`)?"
        self.tell_once("flush.incomplete", why)

    def _session_for(self, event: Event) -> Session | None:
        if event.session_id is not None:
            return self.get_session(event.session_id)
        return self.current_session()

    def _host(self) -> Mapping[str, object] | None:
        if self.config.env_data_opt_out:
            return None
        # Imported here, because package metadata takes time that `import` need not take.
        from fleetmeter.host import host_environment  # noqa: PLC0415

        try:
            return host_environment()
        except Exception as error:  # noqa: BLE001 - must not take its host down
            self.tell_once("host_environment.failed", error)
            return None

    def _log_start(self, session_id: str) -> None:
        if self.config.api_url:
            LOG.info("session.started %s/v2/sessions/%s/stats", self.config.api_url, session_id)
        else:
            LOG.info("session.started %s", session_id)

    def _on_idle(self) -> None:
        """Runs in the background thread: heartbeats of silent sessions."""
        moment = time.monotonic()
        interval_s = self.config.heartbeat_interval_ms / 1000
        if not interval_s or moment < self._next_beat_check:
            return
        self._next_beat_check = moment + min(_BEAT_CHECK_S, interval_s)
        for session in self.open_sessions:
            session.beat(interval_s)


def _check_time(given: Timestamp) -> None:
    try:
        if given is not None:
            time_us(given)
    except ValueError as error:
        raise ConfigError(f"init_timestamp: {error}") from error


def _writer_id() -> str:
    """Unique for each process start and each fork; the pid is for people."""
    return f"{os.getpid()}-{new_id()}"

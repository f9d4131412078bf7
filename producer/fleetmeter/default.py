"""The module-level functions: `fleetmeter.init`, `record` and so on, on one default client."""

import logging
import os
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any
from uuid import UUID

from fleetmeter import current
from fleetmeter.client import Client
from fleetmeter.config import BeforeSend, Config, Tags, session_id_from
from fleetmeter.events import Event, Timestamp
from fleetmeter.ports import REAL, Ports
from fleetmeter.sessions import Session
from fleetmeter.transport import FlushResult

LOG = logging.getLogger("fleetmeter")


@dataclass(slots=True)
class Default:
    """The process's default client, once there is one, and where clients take things from."""

    ports: Ports = REAL
    client: Client | None = None
    initial: Session | None = None
    told: bool = False
    lock: RLock = field(default_factory=RLock)


STATE = Default()


def _renew_lock() -> None:
    """In the child of a fork: a thread of the parent's may have held it."""
    STATE.lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)


def init(
    api_key: str | None = None,
    *,
    bootstrap_servers: str | None = None,
    api_url: str | None = None,
    tags: Tags = None,
    auto_start_session: bool | None = None,
    inherited_session_id: str | UUID | None = None,
    session_name: str | None = None,
    user_id: str | None = None,
    before_send: BeforeSend | None = None,
    config: Config | None = None,
    **options: Any,
) -> Session | None:
    """Connects this process, and starts a session.

    What is not given comes from FLEETMETER_… variables. Again with an open session of the same
    id or without an id it returns that session; with another key or other brokers it starts anew.

    Args:
        api_key: The project's key.
        bootstrap_servers: Kafka brokers.
        api_url: The api, for costs.
        tags: Tags of the session.
        auto_start_session: False to start none; `start_session` does it later.
        inherited_session_id: Join this session instead of starting one.
        session_name: Name of the session.
        user_id: On whose behalf it runs.
        before_send: See docs/sdk.md.
        config: Settings instead of all the others.
        options: Further fields of `Config`.

    Returns:
        The session, or None with `auto_start_session=False`.

    Raises:
        ConfigError: Settings that cannot work, in one sentence that names the repair.
    """
    settings = config or Config.from_environment(
        STATE.ports.environ,
        api_key=api_key,
        bootstrap_servers=bootstrap_servers,
        api_url=api_url,
        tags=tags,
        auto_start_session=auto_start_session,
        inherited_session_id=None if inherited_session_id is None else str(inherited_session_id),
        session_name=session_name,
        user_id=user_id,
        before_send=before_send,
        **options,
    )
    with STATE.lock:
        client = _client_for(settings)
        if client is not STATE.client:
            STATE.client, STATE.initial = client, None
        return _initial(client) if settings.auto_start_session else None


def start_session(
    tags: Tags = None,
    inherited_session_id: str | UUID | None = None,
    config: Config | None = None,
    *,
    name: str | None = None,
    user_id: str | None = None,
    conversation_id: str | None = None,
    init_timestamp: Timestamp = None,
) -> Session:
    """Starts a further session, or joins one; without `init` before, as if it had been called.

    Args and errors as `Client.start_session`. With `config`, and other settings than `init`
    had, the session gets a client of its own.
    """
    return _client(config).start_session(
        tags,
        inherited_session_id,
        name=name,
        user_id=user_id,
        conversation_id=conversation_id,
        init_timestamp=init_timestamp,
    )


def record(event: Event) -> None:
    """Writes an event into the current session: the surrounding one, else the last started.

    An event with the `session_id` of an open session goes into that one. Never raises; without
    a session the event is dropped, counted, and told by `flush()`.
    """
    around = current.SESSION.get()
    if around is not None and around.is_open and getattr(event, "session_id", None) is None:
        around.record(event)
    elif STATE.client is not None:
        STATE.client.record(event)
    elif not STATE.told:
        STATE.told = True
        LOG.warning("event.dropped: fleetmeter.init() was not called (logged once)")


def end_session(
    end_state: str = "Indeterminate",
    end_state_reason: str | None = None,
    video: str | None = None,
) -> str | None:
    """Ends the current session; see `Session.end_session`. Without one: None, and a log line.

    Raises:
        ValueError: An unknown end state.
    """
    session = current_session()
    if session is None:
        LOG.warning("session.none_open: nothing to end")
        return None
    return session.end_session(end_state, end_state_reason, video)


def add_tags(tags: Tags) -> None:
    """Adds tags to the current session."""
    session = current_session()
    if session is not None:
        session.add_tags(tags)


def set_tags(tags: Tags) -> None:
    """Replaces the tags of the current session."""
    session = current_session()
    if session is not None:
        session.set_tags(tags)


def create_agent(name: str, agent_id: str | UUID | None = None) -> str | None:
    """Names an agent of the current session; returns its id, None without a session."""
    session = current_session()
    return None if session is None else session.create_agent(name, agent_id)


def current_session() -> Session | None:
    """The session of the surrounding `with` or decorator, else the last one started here."""
    around = current.SESSION.get()
    if around is not None and around.is_open:
        return around
    return None if STATE.client is None else STATE.client.current_session()


def get_session(session_id: str | UUID) -> Session | None:
    """The open session of this process with that id."""
    return None if STATE.client is None else STATE.client.get_session(session_id)


def flush(timeout_ms: int | None = None) -> FlushResult:
    """Waits until everything is delivered, and says what became of it; see `FlushResult`."""
    if STATE.client is None:
        return FlushResult(delivered=0, pending=0, filtered=0, dropped_by_reason={})
    return STATE.client.flush(timeout_ms)


def close() -> None:
    """Flushes and disconnects the default client; `init` may be called again."""
    with STATE.lock:
        client, STATE.client, STATE.initial = STATE.client, None, None
    if client is not None:
        client.close()


def _initial(client: Client) -> Session:
    """The session of `init`: the one that is open, or a new one."""
    wanted = client.config.inherited_session_id
    initial = STATE.initial
    if initial is not None and _still(initial, wanted):
        LOG.warning("session.already_started %s", initial.session_id)
        return initial
    STATE.initial = client.start_session(inherited_session_id=wanted or None)
    return STATE.initial


def _client(config: Config | None) -> Client:
    with STATE.lock:
        if config is not None and STATE.client is not None:
            if _connection(config.checked()) == _connection(STATE.client.config):
                return STATE.client
            return Client(config, ports=STATE.ports)
        if STATE.client is None:
            STATE.client = Client(config, ports=STATE.ports)
        return STATE.client


def _client_for(settings: Config) -> Client:
    """The default client, with these defaults for its sessions; a new one where it must be."""
    checked = settings.checked()
    client = STATE.client
    if client is None or _connection(client.config) != _connection(checked):
        return Client(checked, ports=STATE.ports)
    client.config = checked
    return client


def _connection(config: Config) -> Config:
    """The settings without what only concerns the next session."""
    return replace(
        config,
        tags=(),
        session_name="",
        user_id="",
        auto_start_session=True,
        inherited_session_id="",
    )


def _still(session: Session, wanted: str) -> bool:
    """Whether `init` need not start another; a fork's child that calls it wants its own."""
    if not session.is_open or session.is_inherited:
        return False
    return not wanted or session.session_id == session_id_from(wanted)

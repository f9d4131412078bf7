"""Decorators that record calls: @session, @operation, @tool, @agent.

For functions, coroutines, generators and asynchronous generators; `@agent` also for classes.
Where no session is open they only call. They never change results or exceptions.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, overload
from uuid import UUID, uuid5

from fleetmeter import current, default
from fleetmeter.config import Tags
from fleetmeter.events import ActionEvent, ErrorEvent, Money, ToolEvent, new_id, now
from fleetmeter.markers import F, Marker
from fleetmeter.sessions import Session
from fleetmeter.spans import Span, arguments_of, setting, wrapped
from fleetmeter_schemas.errors import ConfigError

LOG = logging.getLogger("fleetmeter")
_ERROR_RECORDED = "__fleetmeter_recorded__"
_AGENT_ID = "__fleetmeter_agent_id__"
_AGENTS = UUID("6f0c6a55-5a2b-4f0e-9f5c-0d7a4a3f8f11")


@overload
def session(function: F) -> F: ...
@overload
def session(*, name: str | None = None, tags: Tags = None) -> Marker[Session | None]: ...
def session(function: Any = None, *, name: str | None = None, tags: Tags = None) -> Any:
    """Each call is a session of its own: Success when it returns, Failure when it raises.

    `with session(name=…) as started:` does the same for a block; None without settings.
    """

    def decorate(function: Any) -> Any:
        called = name or function.__name__
        return wrapped(function, lambda _args, _kwargs: _session_span(called, tags))

    def open_block() -> tuple[Session | None, Span | None]:
        span = _session_span(name, tags)
        return (None, None) if span is None else (span.session, span)

    return Marker(decorate, open_block) if function is None else decorate(function)


@overload
def operation(function: F) -> F: ...
@overload
def operation(*, name: str | None = None) -> Marker[ActionEvent]: ...
def operation(function: Any = None, *, name: str | None = None) -> Any:
    """Each call is recorded as an action, with arguments, result and error.

    `with operation(name=…) as event:` does the same for a block; `event` may be filled in.
    """
    return _recording(
        function, name, lambda called, params: ActionEvent(params=params, action_type=called)
    )


@overload
def tool(function: F) -> F: ...
@overload
def tool(*, name: str | None = None, cost: Money = None) -> Marker[ToolEvent]: ...
def tool(function: Any = None, *, name: str | None = None, cost: Money = None) -> Any:
    """Each call is recorded as a tool call; `cost`: what one call costs, US dollars.

    `with tool(name=…) as event:` does the same for a block; `event` may be filled in.
    """
    return _recording(
        function, name, lambda called, params: ToolEvent(params=params, name=called, cost=cost)
    )


@overload
def agent(target: F) -> F: ...
@overload
def agent(*, name: str | None = None) -> Marker[None]: ...
def agent(target: Any = None, *, name: str | None = None) -> Any:
    """What is recorded inside belongs to this agent; after `with`, what is in the block.

    A function or a name is one agent of each session. Of a class each object is one, inside the
    methods that the class itself defines.
    """

    def decorate(target: Any) -> Any:
        called = name or target.__name__
        if isinstance(target, type):
            return _agent_class(target, called)
        return wrapped(target, lambda _args, _kwargs: _agent_span(called, None))

    def open_block() -> tuple[None, Span | None]:
        return None, _agent_span(name or "agent", None)

    return Marker(decorate, open_block) if target is None else decorate(target)


class SessionSpan:
    """A call that is a session."""

    def __init__(self, started: Session) -> None:
        self.session = started

    @contextmanager
    def inside(self) -> Iterator[None]:
        """It is the current session."""
        with setting(current.SESSION, self.session):
            yield

    def finish(self, returns: object, error: BaseException | None) -> None:  # noqa: ARG002 - Span
        """Ends it by how the call ended."""
        self.session.leave(error)


class EventSpan:
    """A call that is an event."""

    def __init__(self, active: Session, event: ActionEvent | ToolEvent) -> None:
        self._session = active
        self._event = event

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What is recorded inside has the event as parent."""
        with setting(current.EVENT_ID, str(self._event.id)):
            yield

    def finish(self, returns: object, error: BaseException | None) -> None:
        """Records the event, and one error for an exception on its whole way up."""
        event = self._event
        if returns is not None:
            event.returns = returns
        event.end_timestamp = now()
        if error is not None:
            event.error_type = type(error).__name__
        self._session.record(event)
        if isinstance(error, Exception) and not getattr(error, _ERROR_RECORDED, False):
            with suppress(Exception):
                setattr(error, _ERROR_RECORDED, True)
            self._session.record(ErrorEvent(trigger_event=event, exception=error))


class AgentSpan:
    """A call in which an agent acts."""

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What is recorded inside belongs to the agent."""
        with setting(current.AGENT_ID, self._agent_id):
            yield

    def finish(self, returns: object, error: BaseException | None) -> None:
        """An agent's call is no event."""


_Make = Callable[[str | None, dict[str, Any] | None], ActionEvent | ToolEvent]


def _session_span(name: str | None, tags: Tags) -> SessionSpan | None:
    try:
        return SessionSpan(default.start_session(tags, name=name))
    except ConfigError as error:
        LOG.warning("session.not_started %s: %s", name, error)
        return None


def _recording(function: Any, name: str | None, make: _Make) -> Any:
    def decorate(function: Any) -> Any:
        called = name or function.__name__
        arguments = arguments_of(function)

        def open_span(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span | None:
            active = default.current_session()
            if active is None:
                return None
            return EventSpan(active, make(called, arguments(args, kwargs)))

        return wrapped(function, open_span)

    def open_block() -> tuple[ActionEvent | ToolEvent, Span | None]:
        active = default.current_session()
        event = make(name, None)
        return event, None if active is None else EventSpan(active, event)

    return Marker(decorate, open_block) if function is None else decorate(function)


def _agent_span(name: str, known_id: str | None) -> Span | None:
    active = default.current_session()
    if active is None:
        return None
    agent_id = known_id or str(uuid5(_AGENTS, f"{active.session_id}/{name}"))
    active.ensure_agent(name, agent_id)
    return AgentSpan(agent_id)


def _agent_class(target: type, name: str) -> type:
    """Wraps the methods of the class in place, so that it stays the same class."""

    def open_span(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Span | None:
        return _agent_span(name, _object_agent_id(args[0]) if args else None)

    for attribute, member in list(vars(target).items()):
        special = attribute.startswith("__") and attribute not in {"__init__", "__call__"}
        if inspect.isfunction(member) and not special:
            setattr(target, attribute, wrapped(member, open_span))
    return target


def _object_agent_id(owner: object) -> str | None:
    """The agent id of an object; None where the object cannot carry one."""
    known = getattr(owner, _AGENT_ID, None)
    if isinstance(known, str):
        return known
    fresh = new_id()
    try:
        object.__setattr__(owner, _AGENT_ID, fresh)
    except (AttributeError, TypeError):
        return None
    return fresh

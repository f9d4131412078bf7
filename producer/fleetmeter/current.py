"""What surrounds the running code: its session, agent and event. Holds no other state."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetmeter.sessions import Session

SESSION: ContextVar["Session | None"] = ContextVar("fleetmeter_session", default=None)
AGENT_ID: ContextVar[str | None] = ContextVar("fleetmeter_agent_id", default=None)
EVENT_ID: ContextVar[str | None] = ContextVar("fleetmeter_event_id", default=None)

"""The SDK that agent programs import; writes to Kafka, asks the api for costs, nothing else.

Importing it starts no thread and connects to nothing.
"""

import logging

from fleetmeter.client import Client
from fleetmeter.config import Config
from fleetmeter.decorators import agent, operation, session, tool
from fleetmeter.default import (
    add_tags,
    close,
    create_agent,
    current_session,
    end_session,
    flush,
    get_session,
    init,
    record,
    set_tags,
    start_session,
)
from fleetmeter.events import (
    UNFINISHED,
    ActionEvent,
    ErrorEvent,
    Event,
    LLMEvent,
    ToolEvent,
)
from fleetmeter.sessions import Session
from fleetmeter.transport import FlushResult
from fleetmeter_schemas.errors import ConfigError

__all__ = [
    "UNFINISHED",
    "ActionEvent",
    "Client",
    "Config",
    "ConfigError",
    "ErrorEvent",
    "Event",
    "FlushResult",
    "LLMEvent",
    "Session",
    "ToolEvent",
    "add_tags",
    "agent",
    "close",
    "create_agent",
    "current_session",
    "end_session",
    "flush",
    "get_session",
    "init",
    "operation",
    "record",
    "session",
    "set_tags",
    "start_session",
    "tool",
]

logging.getLogger("fleetmeter").addHandler(logging.NullHandler())

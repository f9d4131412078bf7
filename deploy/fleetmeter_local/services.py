"""Which processes there are: their command lines and environments; starts none of them."""

import sys
from collections.abc import Mapping
from pathlib import Path

from fleetmeter_local import kafka
from fleetmeter_local import stack as stacks
from fleetmeter_local.ports import HOST
from fleetmeter_local.stack import Stack
from fleetmeter_local.supervisor import Program
from fleetmeter_schemas.errors import ConfigError

MODULES = {
    "meter": "fleetmeter_processors.meter",
    "sessions": "fleetmeter_processors.sessions",
    "lander": "fleetmeter_processors.lander",
    "api": "fleetmeter_api",
    "migrate": "fleetmeter_processors.migrate",
}
PROCESSORS = ("meter", "sessions", "lander")
# What the services stand on is started first and stopped last.
FOUNDATION = ("kafka", "store")
SERVICES = (*PROCESSORS, "api")
_PRIORITY = {"kafka": 10, "store": 20, "meter": 30, "sessions": 40, "lander": 50, "api": 60}


def module_command(name: str) -> list[str]:
    """The command line of a service; raises ConfigError for what is none."""
    module = MODULES.get(name)
    if module is None:
        raise ConfigError(f"there is no service {name}: {', '.join(MODULES)}")
    return [sys.executable, "-m", module]


def command(
    name: str, data_dir: Path, environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a service that somebody runs by hand.

    The environment is the caller's own. Where it names no brokers, or those of the stack in
    `data_dir`, that stack's settings stand behind it.
    """
    line = module_command(name)
    stack = stacks.load(data_dir)
    if stack is None:
        return line, dict(environ)
    named = environ.get("FLEETMETER_BOOTSTRAP_SERVERS", stack.bootstrap_servers)
    if named != stack.bootstrap_servers:
        return line, dict(environ)
    beside = stacks.environment(stack)
    # A second api beside the stack's own needs a port of its own.
    del beside["FLEETMETER_API_PORT"]
    return line, {**beside, **environ}


def programs(stack: Stack, environ: Mapping[str, str]) -> list[Program]:
    """All processes of a stack; what else the caller's environment holds reaches them too."""
    broker = kafka.Broker(
        data_dir=stack.data_dir / "kafka",
        port=stack.ports.kafka,
        controller_port=stack.ports.kafka_controller,
    )
    lines = {
        "kafka": kafka.program(broker),
        "store": store_command(stack.data_dir / "store", stack.ports.store),
        **{name: module_command(name) for name in SERVICES},
    }
    without = [part for name in stacks.foreign(environ) for part in ("-u", name)]
    prefix = ["/usr/bin/env", *without] if without else []
    return [
        Program(
            name=name,
            command=[*prefix, *line],
            priority=_PRIORITY[name],
            environment=environment(stack, name),
        )
        for name, line in lines.items()
    ]


def order(name: str) -> int:
    """Place of a process in the order of starting."""
    return _PRIORITY[name]


def store_command(data_dir: Path, port: int) -> list[str]:
    """The command line of the store; its module is not imported, the engine is heavy."""
    arguments = ["--data-dir", str(data_dir), "--port", str(port)]
    return [sys.executable, "-m", "fleetmeter_local.store", *arguments]


def environment(stack: Stack, name: str) -> dict[str, str]:
    """What one of the stack's processes is told."""
    if name == "kafka":
        return {}
    own = stacks.environment(stack)
    if name in PROCESSORS:
        own |= stacks.ops_environment(getattr(stack.ports, name))
    return own


def ready_url(stack: Stack, name: str) -> str:
    """Where a service says whether it does its work."""
    return f"http://{HOST}:{getattr(stack.ports, name)}/ready"

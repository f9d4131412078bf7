"""One stack: its folder, ports and secrets, its processes' environment; starts nothing."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from secrets import token_urlsafe

from fleetmeter_local.keys import ControlLog
from fleetmeter_local.ports import HOST, free_ports, is_free
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.topics import checked_namespace

NAMESPACE_DEFAULT = "fleetmeter"
PROJECT_DEFAULT = "default"
STORE_USER = "fleetmeter"
# How to log in at somebody else's cluster, and with whose key: not for the stack's own processes.
FOREIGN_PREFIXES = ("FLEETMETER_KAFKA_", "FLEETMETER_API_KEY", "FLEETMETER_API_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where each process listens, on 127.0.0.1."""

    kafka: int
    kafka_controller: int
    store: int
    meter: int
    sessions: int
    lander: int
    api: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One stack and its folder."""

    data_dir: Path
    namespace: str
    ports: Ports

    @property
    def bootstrap_servers(self) -> str:
        """Where the broker answers."""
        return f"{HOST}:{self.ports.kafka}"

    @property
    def store_url(self) -> str:
        """Where the store answers."""
        return f"http://{HOST}:{self.ports.store}"

    @property
    def api_url(self) -> str:
        """Where the api answers."""
        return f"http://{HOST}:{self.ports.api}"

    @property
    def logs(self) -> Path:
        """The folder of the processes' output."""
        return self.data_dir / "logs"

    @property
    def control(self) -> ControlLog:
        """Where its projects and keys are."""
        return ControlLog(bootstrap_servers=self.bootstrap_servers, namespace=self.namespace)


def data_dir_default() -> Path:
    """The folder that is used when none is named."""
    from platformdirs import user_data_path  # noqa: PLC0415 - not needed when a folder is named

    return user_data_path("fleetmeter")


def load(data_dir: Path) -> Stack | None:
    """The stack that was started here before, if there was one.

    Raises:
        ConfigError: Its file is not readable as one.
    """
    path = file_of(data_dir)
    try:
        found = json.loads(path.read_text())
        ports = Ports(**found["ports"])
        return Stack(data_dir=data_dir, namespace=found["namespace"], ports=ports)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {error} (delete it to get new ports)") from error


def existing(data_dir: Path) -> Stack:
    """The stack that was started here before; raises ConfigError when there is none."""
    stack = load(data_dir)
    if stack is None:
        raise ConfigError(f"there is no stack in {data_dir} (start one: fleetmeter up)")
    return stack


def plan(data_dir: Path, api_port: int | None, environ: Mapping[str, str]) -> Stack:
    """The stack to start here: with its ports of the last time where they are free.

    Raises:
        ConfigError: The api's port is taken, or the folder cannot be used.
    """
    if api_port is not None and not is_free(api_port):
        raise ConfigError(f"port {api_port} is in use: give another one with --port")
    before = load(data_dir)
    fresh = Ports(**dict(zip(_port_names(), free_ports(len(_port_names())), strict=True)))
    ports = fresh if before is None else _kept(before.ports, fresh)
    ports = ports if api_port is None else replace(ports, api=api_port)
    namespace = before.namespace if before else environ.get("FLEETMETER_NAMESPACE")
    return Stack(
        data_dir=data_dir,
        namespace=checked_namespace(namespace or NAMESPACE_DEFAULT),
        ports=ports,
    )


def _kept(before: Ports, fresh: Ports) -> Ports:
    kept = {name: port for name, port in asdict(before).items() if is_free(port)}
    return replace(fresh, **kept)


def _port_names() -> list[str]:
    return [field.name for field in fields(Ports)]


def save(stack: Stack) -> None:
    """Keep the stack's ports and namespace in its folder."""
    prepare_dir(stack.data_dir)
    text = json.dumps({"namespace": stack.namespace, "ports": asdict(stack.ports)}, indent=2)
    write_private(file_of(stack.data_dir), f"{text}\n")


def prepare_dir(data_dir: Path) -> None:
    """Make the folder, for the owner only; one that is there already keeps its mode.

    Raises:
        ConfigError: That is not possible.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (data_dir / "logs").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"cannot use {data_dir}: {error.strerror or error}") from error


def file_of(data_dir: Path) -> Path:
    """Where a stack's ports and namespace are kept."""
    return data_dir / "stack.json"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(text)
    part.replace(path)


def store_password(data_dir: Path) -> str:
    """The store's password, made when there is none yet."""
    path = data_dir / "store_password"
    if not path.exists():
        write_private(path, f"{token_urlsafe(24)}\n")
    return path.read_text().strip()


def api_key(data_dir: Path) -> str:
    """The key of the project `default`; raises ConfigError before the first start."""
    try:
        return (data_dir / "api_key").read_text().strip()
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no API key in {data_dir} yet (start the stack: fleetmeter up)"
        ) from error


def keep_api_key(data_dir: Path, key: str) -> None:
    """Keep the key of the project `default`."""
    write_private(data_dir / "api_key", f"{key}\n")


def kept_keys(data_dir: Path) -> dict[str, str]:
    """The last key made here for each project, by project id."""
    path = data_dir / "api_keys.json"
    try:
        kept: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return kept


def keep_project_key(data_dir: Path, project_id: str, key: str) -> None:
    """Keep a project's key, so that later commands can be told the project's name only."""
    kept = kept_keys(data_dir) | {project_id: key}
    write_private(data_dir / "api_keys.json", f"{json.dumps(kept, indent=2)}\n")


def foreign(environ: Mapping[str, str]) -> list[str]:
    """The variables of the caller that would lead the stack's own processes elsewhere."""
    return sorted(name for name in environ if name.startswith(FOREIGN_PREFIXES))


def own(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables without those."""
    elsewhere = foreign(environ)
    return {name: value for name, value in environ.items() if name not in elsewhere}


def environment(stack: Stack) -> dict[str, str]:
    """What every process of the stack is told; see also `ops_environment`."""
    return {
        "FLEETMETER_NAMESPACE": stack.namespace,
        "FLEETMETER_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "FLEETMETER_STORE_URL": stack.store_url,
        "FLEETMETER_STORE_USER": STORE_USER,
        "FLEETMETER_STORE_PASSWORD": store_password(stack.data_dir),
        "FLEETMETER_API_HOST": HOST,
        "FLEETMETER_API_PORT": str(stack.ports.api),
        "FLEETMETER_DATA_DIR": str(stack.data_dir),
    }


def store_headers(stack: Stack) -> dict[str, str]:
    """How to log in at the store over HTTP."""
    return {
        "X-ClickHouse-User": STORE_USER,
        "X-ClickHouse-Key": store_password(stack.data_dir),
    }


def ops_environment(port: int) -> dict[str, str]:
    """Where one processor serves its metrics, health and readiness."""
    return {"FLEETMETER_OPS_HOST": HOST, "FLEETMETER_OPS_PORT": str(port)}


def sdk_environment(stack: Stack, key: str) -> dict[str, str]:
    """What a program that uses the SDK beside this stack needs; printed by `fleetmeter env`."""
    return {
        "FLEETMETER_API_KEY": key,
        "FLEETMETER_API_URL": stack.api_url,
        "FLEETMETER_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "FLEETMETER_NAMESPACE": stack.namespace,
        "FLEETMETER_DATA_DIR": str(stack.data_dir),
    }

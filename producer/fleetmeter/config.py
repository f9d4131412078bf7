"""The SDK's settings: a plain dataclass, read from arguments and FLEETMETER_… variables.

Connects to nothing, and reads the environment only when asked to.
"""

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from fleetmeter_schemas.errors import ConfigError, InvalidRecord
from fleetmeter_schemas.identity import canonical_session_id, key_hash
from fleetmeter_schemas.topics import EVENT_BYTES_MAX, checked_namespace

if TYPE_CHECKING:
    from fleetmeter.events import Event

PREFIX = "FLEETMETER_"
BeforeSend = Callable[["Event"], "Event | None"]
Tags = str | list[str] | tuple[str, ...] | None

_HOW = (
    "Give it as argument or set {variable}. Beside a running local stack, "
    '`eval "$(fleetmeter env)"` sets everything that is needed.'
)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_FIXED_KAFKA_OPTIONS = frozenset(
    {"acks", "request.required.acks", "enable.idempotence", "partitioner", "bootstrap.servers"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set; `Config.from_environment` fills it from FLEETMETER_….

    Every field is also an environment variable: `FLEETMETER_` and the field's name in capitals.
    """

    api_key: str = field(default="", repr=False)
    """API key of the project, a UUID. Needed."""
    bootstrap_servers: str = ""
    """Kafka brokers, `host:port`, comma-separated. Needed."""
    api_url: str = ""
    """Base URL of the fleetmeter api, for costs and links. Empty: no costs are asked for."""
    namespace: str = "fleetmeter"
    """Prefix of the topics."""
    tags: tuple[str, ...] = ()
    """Tags of each session that is given none. In the environment: comma-separated."""
    session_name: str = ""
    """Name of each session that is given none."""
    user_id: str = ""
    """On whose behalf the sessions run."""
    auto_start_session: bool = True
    """Whether `init` starts a session."""
    inherited_session_id: str = ""
    """The session that `init` joins instead of starting one of its own."""
    env_data_opt_out: bool = False
    """Whether to leave out the host environment."""
    crash_handlers: bool = True
    """Whether SIGINT, SIGTERM and an uncaught exception end the open sessions as Failure."""
    before_send: BeforeSend | None = None
    """Called with each event before it is written; see docs/sdk.md. Variable: `module:function`."""
    flush_timeout_ms: int = 5_000
    """Longest wait for delivery at an end, a flush and the exit, milliseconds."""
    api_timeout_ms: int = 10_000
    """Longest wait for a cost, milliseconds."""
    heartbeat_interval_ms: int = 60_000
    """Silence after which an open session says that it lives, milliseconds."""
    linger_ms: int = 100
    """How long records are gathered into a batch, milliseconds."""
    delivery_timeout_ms: int = 0
    """Age at which an undelivered record is given up, milliseconds. 0: kept while memory lasts."""
    queue_bytes_max: int = 64_000_000
    """Memory for undelivered records, bytes; what does not fit is dropped and counted."""
    queue_events_max: int = 100_000
    """Most undelivered records."""
    payload_bytes_max: int = 1_000_000
    """Most bytes of one event's input, output, logs and attributes; the rest is cut off."""
    kafka_security_protocol: str = ""
    """librdkafka's security.protocol, such as SASL_SSL."""
    kafka_sasl_mechanism: str = ""
    """librdkafka's sasl.mechanism, such as SCRAM-SHA-512."""
    kafka_sasl_username: str = ""
    """librdkafka's sasl.username."""
    kafka_sasl_password: str = field(default="", repr=False)
    """librdkafka's sasl.password."""
    kafka_ssl_ca_location: str = ""
    """librdkafka's ssl.ca.location, a file of certificates."""
    kafka_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Further librdkafka settings. In the environment: one JSON object."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], **given: Any) -> Self:
        """Settings from arguments, then variables, then defaults; raises ConfigError.

        Args:
            environ: Usually `os.environ`.
            given: Fields of Config; None counts as not given.
        """
        known = {option.name: option for option in fields(cls)}
        unknown = sorted(given.keys() - known.keys())
        if unknown:
            raise ConfigError(f"no such option: {', '.join(unknown)}")
        values = {
            name: _parsed(name, environ[variable(name)])
            for name in known
            if environ.get(variable(name))
        }
        values |= {name: value for name, value in given.items() if value is not None}
        if "tags" in values:
            values["tags"] = tag_list(values["tags"])
        return cls(**values)

    def checked(self) -> Self:
        """These settings in canonical form, when they can work; raises ConfigError."""
        if not self.api_key:
            raise ConfigError("no API key. " + _HOW.format(variable=variable("api_key")))
        if not self.bootstrap_servers:
            how = _HOW.format(variable=variable("bootstrap_servers"))
            raise ConfigError("no Kafka brokers (bootstrap_servers). " + how)
        checked_namespace(self.namespace)
        try:
            key_hash(self.api_key)
        except InvalidRecord as error:
            raise ConfigError("the API key is not a UUID: " + variable("api_key")) from error
        self._check_numbers()
        fixed = sorted(_FIXED_KAFKA_OPTIONS & self.kafka_options.keys())
        if fixed:
            raise ConfigError(f"kafka_options cannot change {', '.join(fixed)}")
        if self.api_url and not self.api_url.startswith(("http://", "https://")):
            raise ConfigError(f"api_url must start with http:// or https://: {self.api_url!r}")
        return replace(self, api_key=self.api_key.strip(), api_url=self.api_url.rstrip("/"))

    def _check_numbers(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if type(option.default) is int and (type(value) is not int or value < 0):
                raise ConfigError(f"{option.name} must be a whole number, 0 or more: {value!r}")
        if not 0 < self.payload_bytes_max <= EVENT_BYTES_MAX // 2:
            raise ConfigError(f"payload_bytes_max must be 1 to {EVENT_BYTES_MAX // 2}")
        if not self.queue_events_max or not self.queue_bytes_max:
            raise ConfigError("queue_events_max and queue_bytes_max must be at least 1")


def variable(name: str) -> str:
    """The environment variable of an option."""
    return PREFIX + name.upper()


def tag_list(tags: Any) -> tuple[str, ...]:
    """Tags as they are kept: text, in order, without repeats. One text is one tag."""
    if tags is None:
        return ()
    several = (tags,) if isinstance(tags, str) else tags
    return tuple(dict.fromkeys(str(tag) for tag in several))


def session_id_from(given: object) -> str:
    """The canonical spelling of a session id that was given; raises ConfigError."""
    try:
        return canonical_session_id(str(given))
    except InvalidRecord as error:
        raise ConfigError(f"not a session id: {given!r} ({error.detail})") from error


def _parsed(name: str, text: str) -> Any:
    """A variable's text as the option's value; raises ConfigError."""
    default = _DEFAULTS[name]
    if name == "before_send":
        return _function(text)
    if name == "tags":
        return tuple(tag.strip() for tag in text.split(",") if tag.strip())
    if name == "kafka_options":
        return _json_object(name, text)
    if isinstance(default, bool):
        return _boolean(name, text)
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError as error:
            raise ConfigError(f"{variable(name)} must be a whole number: {text!r}") from error
    return text


def _boolean(name: str, text: str) -> bool:
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise ConfigError(f"{variable(name)} must be true or false: {text!r}")


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{variable(name)} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{variable(name)} must be a JSON object")
    return value


def _function(text: str) -> Any:
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{variable('before_send')}: cannot import {text!r}: {error}") from error


_DEFAULTS = {option.name: option.default for option in fields(Config)}

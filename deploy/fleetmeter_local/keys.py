"""Projects and API keys in control.v1: writes them, reads all of them; judges no event."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import ConfigError, InvalidRecord, Unavailable
from fleetmeter_schemas.identity import key_hash, short_hash
from fleetmeter_schemas.records import ApiKey, Project
from fleetmeter_schemas.topics import CONTROL, api_key_key, project_key

IDLE_TIMEOUT_MS_DEFAULT = 1_800_000
NAME_LENGTH_MAX = 200
SECONDS_MAX = 30.0
_ID_LENGTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLog:
    """Where control.v1 is."""

    bootstrap_servers: str
    namespace: str

    @property
    def topic(self) -> str:
        """The topic's name on the broker."""
        return CONTROL.full_name(self.namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All projects and keys, by id and by the hash of the key's hash."""

    projects: dict[str, Project] = field(default_factory=dict)
    api_keys: dict[bytes, ApiKey] = field(default_factory=dict)

    def project_named(self, name: str) -> Project | None:
        """The oldest project of that name or id, if there is one."""
        named = [p for p in self.projects.values() if name in (p["name"], p["project_id"])]
        return min(named, key=lambda project: project["created_at_ms"], default=None)

    def project_of(self, api_key: str) -> Project:
        """The project of a valid key; raises ConfigError for any other."""
        found = self.api_keys.get(hash_hash(api_key))
        if found is None or found["revoked_at_ms"] is not None:
            raise ConfigError("this stack does not know the API key, or it is revoked")
        return self.projects[found["project_id"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key as it is told once, to whoever asked for it."""

    project_id: str
    api_key: str


def hash_hash(api_key: str) -> bytes:
    """H(H(key)), by which control.v1 knows the key; raises ConfigError when it is not a UUID."""
    try:
        return short_hash(key_hash(api_key))
    except InvalidRecord as error:
        raise ConfigError(f"not an API key: {error.detail}") from error


def short_id(api_key: ApiKey) -> str:
    """What people call a key: the start of its hash's hash."""
    return api_key["key_hash_hash"].hex()[:_ID_LENGTH]


def create(
    log: ControlLog, *, project: str, idle_timeout_ms: int | None, api_key: str | None = None
) -> NewKey:
    """Add a key to the project of this name, which is made if it is not there.

    An idle timeout that is given becomes the project's, also when the project is there already.
    """
    record = _project(read(log).project_named(project), project, idle_timeout_ms)
    key = str(UUID(api_key)) if api_key else str(uuid4())
    key_record = ApiKey(
        key_hash_hash=hash_hash(key),
        project_id=record["project_id"],
        hint=key[-4:],
        created_at_ms=_now_ms(),
        revoked_at_ms=None,
    )
    _write(
        log,
        [
            (project_key(record["project_id"]), _codec("Project").encode(record)),
            (api_key_key(key_record["key_hash_hash"]), _codec("ApiKey").encode(key_record)),
        ],
    )
    return NewKey(project_id=record["project_id"], api_key=key)


def _project(found: Project | None, name: str, idle_timeout_ms: int | None) -> Project:
    if not 0 < len(name.strip()) <= NAME_LENGTH_MAX:
        raise ConfigError(f"a project's name has 1 to {NAME_LENGTH_MAX} characters")
    if found is None:
        return Project(
            project_id=str(uuid4()),
            name=name.strip(),
            idle_timeout_ms=idle_timeout_ms or IDLE_TIMEOUT_MS_DEFAULT,
            created_at_ms=_now_ms(),
        )
    return Project(
        project_id=found["project_id"],
        name=found["name"],
        idle_timeout_ms=idle_timeout_ms or found["idle_timeout_ms"],
        created_at_ms=found["created_at_ms"],
    )


def revoke(log: ControlLog, text: str) -> ApiKey:
    """Revoke the key that is written out, or whose short id this is, from now on."""
    found = _named(read(log), text.strip())
    if found["revoked_at_ms"] is not None:
        raise ConfigError(f"key {short_id(found)} is revoked already")
    revoked = found.copy()
    revoked["revoked_at_ms"] = _now_ms()
    _write(log, [(api_key_key(revoked["key_hash_hash"]), _codec("ApiKey").encode(revoked))])
    return revoked


def _named(registry: Registry, text: str) -> ApiKey:
    found = [
        api_key
        for hashed, api_key in registry.api_keys.items()
        if (len(text) >= 4 and hashed.hex().startswith(text.lower()))  # noqa: PLR2004
        or (len(text) > _ID_LENGTH and "-" in text and hashed == hash_hash(text))
    ]
    if len(found) != 1:
        how_many = "no key" if not found else f"{len(found)} keys"
        raise ConfigError(
            f"{how_many} by that name: give the key, or its id from `fleetmeter keys list`"
        )
    return found[0]


def read(log: ControlLog) -> Registry:
    """All projects and keys, read to the log's end as of now.

    Raises:
        Unavailable: The broker does not answer in time.
    """
    registry = Registry()
    for message in _messages(log):
        key, value = message.key() or b"", message.value()
        assert isinstance(key, bytes)  # noqa: S101
        if not isinstance(value, bytes):
            continue
        if key.startswith(b"project:"):
            project: Project = _codec("Project").decode(value)
            registry.projects[project["project_id"]] = project
        elif key.startswith(b"key:"):
            api_key: ApiKey = _codec("ApiKey").decode(value)
            registry.api_keys[api_key["key_hash_hash"]] = api_key
    return registry


def _messages(log: ControlLog) -> Iterator[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": log.bootstrap_servers,
            "group.id": f"{log.namespace}.local",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(log.topic, 0, 0)])
        yield from _to_the_end(consumer, log)
    except KafkaException as error:
        raise Unavailable(f"cannot read {log.topic}: {error.args[0]}") from error
    finally:
        consumer.close()


def _to_the_end(consumer: Consumer, log: ControlLog) -> Iterator[Message]:
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is None:
            continue
        failure = message.error()
        if failure is None:
            yield message
        elif failure.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            return
        elif not failure.retriable() and failure.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            raise KafkaException(failure)
    raise Unavailable(f"Kafka at {log.bootstrap_servers} does not answer")


def _write(log: ControlLog, records: list[tuple[bytes, bytes]]) -> None:
    producer = Producer(
        {
            "bootstrap.servers": log.bootstrap_servers,
            "acks": "all",
            "enable.idempotence": True,
            "delivery.timeout.ms": int(SECONDS_MAX * 1000),
            "log_level": 0,
        }
    )
    failures: list[KafkaError] = []
    for key, value in records:
        producer.produce(log.topic, value, key, on_delivery=_collect(failures))
    left = producer.flush(SECONDS_MAX + 5)
    if failures or left:
        reason = str(failures[0]) if failures else "no delivery report came"
        raise Unavailable(f"cannot write to {log.topic}: {reason}")


def _collect(failures: list[KafkaError]) -> Callable[[KafkaError | None, Message], None]:
    def delivered(failure: KafkaError | None, _: Message) -> None:
        if failure is not None:
            failures.append(failure)

    return delivered


@cache
def _codec(name: str) -> Any:
    return Codec(name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

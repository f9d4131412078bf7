"""The topics: names, who keys them how, and the settings they are created with. No I/O."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fleetmeter_schemas.errors import ConfigError

PARTITIONS_DEFAULT = 4
EVENT_BYTES_MAX = 2_000_000
PARTITIONER = "murmur2_random"
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic: its name behind the namespace, its records, its settings at creation."""

    name: str
    key: str
    records: tuple[str, ...]
    single_partition: bool
    settings: MappingProxyType[str, str]

    def full_name(self, namespace: str) -> str:
        """The name on the broker."""
        return f"{namespace}.{self.name}"


def _settings(**settings: str) -> MappingProxyType[str, str]:
    return MappingProxyType({name.replace("_", "."): value for name, value in settings.items()})


EVENTS: Final = Topic(
    name="events.v1",
    key="session id",
    records=("Event",),
    single_partition=False,
    settings=_settings(
        message_timestamp_type="LogAppendTime",
        max_message_bytes="3000000",
        retention_ms=str(7 * _DAY_MS),
    ),
)
METERED: Final = Topic(
    name="metered.v1",
    key="none; the event's partition",
    records=("Block", "Barrier"),
    single_partition=False,
    settings=_settings(max_message_bytes="4000000", retention_ms=str(3 * _DAY_MS)),
)
SESSIONS: Final = Topic(
    name="sessions.v1",
    key="project/session/part, or checkpoint; the block's partition",
    records=("Snapshot", "Checkpoint"),
    single_partition=False,
    settings=_settings(
        cleanup_policy="compact",
        segment_bytes="67108864",
        segment_ms="600000",
        min_cleanable_dirty_ratio="0.1",
        max_message_bytes="3000000",
    ),
)
CONTROL: Final = Topic(
    name="control.v1",
    key="kind:id",
    records=("Project", "ApiKey", "Cluster"),
    single_partition=True,
    settings=_settings(cleanup_policy="compact", min_cleanable_dirty_ratio="0.1"),
)
ALL: Final = (EVENTS, METERED, SESSIONS, CONTROL)
CLUSTER_KEY = b"cluster"


def project_key(project_id: str) -> bytes:
    """Key of a project's record in control.v1."""
    return f"project:{project_id}".encode()


def api_key_key(key_hash_hash: bytes) -> bytes:
    """Key of an API key's record in control.v1."""
    return f"key:{key_hash_hash.hex()}".encode()


def checked_namespace(namespace: str) -> str:
    """The namespace, when it can prefix topics and name a database; raises ConfigError."""
    if not namespace.isidentifier() or not namespace.isascii() or len(namespace) > 60:  # noqa: PLR2004
        raise ConfigError(f"namespace {namespace!r}: letters, digits and _ only, 60 at most")
    return namespace

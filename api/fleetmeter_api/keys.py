"""Which project an API key belongs to, as control.v1 has it; issues no keys."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NewType, Protocol

import structlog

from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import InvalidRecord, Unavailable
from fleetmeter_schemas.identity import NO_KEY, key_hash, short_hash
from fleetmeter_schemas.records import ApiKey, Cluster
from fleetmeter_schemas.topics import CLUSTER_KEY

ProjectId = NewType("ProjectId", str)
CATCH_UP_SECONDS: Final = 3.0
_API_KEY = Codec("ApiKey")
_CLUSTER = Codec("Cluster")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Who asks: every read takes one, and reads nothing that belongs to others."""

    project_id: ProjectId


class Keyring:
    """The keys read so far; written by one thread, read by others."""

    def __init__(self) -> None:
        self._keys: dict[bytes, ApiKey] = {}
        self.partitions: int | None = None

    def started(self, starts: dict[int, int]) -> None:
        """Nothing to prepare: control.v1 is read from its beginning."""

    def read(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:  # noqa: ARG002 - the port's words
        """One record of control.v1; kinds that the api does not need are passed over."""
        if key is None or value is None:
            return
        try:
            if key.startswith(b"key:"):
                found: ApiKey = _API_KEY.decode(value)
                self._keys[found["key_hash_hash"]] = found
            elif key == CLUSTER_KEY:
                cluster: Cluster = _CLUSTER.decode(value)
                self.partitions = cluster["partitions"]
        except InvalidRecord as error:
            log.warning("control_record.undecodable", offset=offset, reason=error.reason)

    def tenant(self, api_key: str, now_ms: int) -> Tenant | None:
        """Whose key it is; None where it is unknown, malformed or revoked by now."""
        found = self._keys.get(short_hash(_hashed(api_key)))
        if found is None:
            return None
        revoked_at_ms = found["revoked_at_ms"]
        if revoked_at_ms is not None and revoked_at_ms <= now_ms:
            return None
        return Tenant(project_id=ProjectId(found["project_id"]))

    def knows(self, api_key: str) -> bool:
        """Whether there is such a key, revoked or not."""
        return short_hash(_hashed(api_key)) in self._keys


def _hashed(api_key: str) -> bytes:
    """H(key); what is no key gets a hash that no key has, by the same way."""
    try:
        return key_hash(api_key)
    except InvalidRecord:
        return NO_KEY


class Source(Protocol):
    """The part of a follower of control.v1 that keys need."""

    @property
    def has_caught_up(self) -> bool:
        """Whether control.v1 has once been read to its end."""

    async def catch_up(self, timeout_seconds: float) -> None:
        """Wait until all that is in the topic now has been read; raises Unavailable."""


class Keys:
    """Tells whose a key is, and looks at the log again before it says that it knows none."""

    def __init__(self, keyring: Keyring, source: Source, now_ms: Callable[[], int]) -> None:
        self._keyring = keyring
        self._source = source
        self._now_ms = now_ms

    async def tenant(self, api_key: str) -> Tenant | None:
        """Whose key it is, or None.

        Raises:
            Unavailable: The keys have not been read yet, or it cannot be told whether the key
                was created just now.
        """
        if not self._source.has_caught_up:
            raise Unavailable("the API keys have not been read yet")
        if not self._keyring.knows(api_key):
            await self._source.catch_up(CATCH_UP_SECONDS)
        return self._keyring.tenant(api_key, self._now_ms())

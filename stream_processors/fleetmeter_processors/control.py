"""Who may write, as control.v1 says: reads that topic to its end, at start and on demand."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fleetmeter_processors.judge import Grant
from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.errors import InvalidRecord, Unavailable
from fleetmeter_schemas.identity import short_hash
from fleetmeter_schemas.records import ApiKey, Project

IDLE_TIMEOUT_MS_DEFAULT: Final = 1_800_000
GRANTS_CACHED_MAX: Final = 100_000
ANSWER_SECONDS_MAX: Final = 10.0
_BATCH: Final = 1_000
_PROJECT: Final = Codec("Project")
_API_KEY: Final = Codec("ApiKey")
_PROJECT_KEY: Final = topics.project_key("")
_API_KEY_KEY: Final = topics.api_key_key(b"")


class ControlState:
    """Projects and API keys, folded from the records of control.v1; does no I/O."""

    def __init__(self) -> None:
        self._projects: dict[bytes, Project] = {}
        self._api_keys: dict[bytes, ApiKey] = {}
        self._grants: dict[bytes, Grant] = {}

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take one record; the last one of a key counts, None removes. Others are left alone.

        Raises:
            InvalidRecord: The value cannot be read.
        """
        if key.startswith(_PROJECT_KEY):
            _put(self._projects, key, value, _PROJECT)
        elif key.startswith(_API_KEY_KEY):
            _put(self._api_keys, key, value, _API_KEY)
        self._grants.clear()

    def find(self, key_hash: bytes) -> Grant | None:
        """What the API key of this hash stands for; None where there is no such key."""
        found = self._grants.get(key_hash)
        if found is None:
            found = self._grant(key_hash)
            if found is not None and len(self._grants) < GRANTS_CACHED_MAX:
                self._grants[key_hash] = found
        return found

    def _grant(self, key_hash: bytes) -> Grant | None:
        api_key = self._api_keys.get(topics.api_key_key(short_hash(key_hash)))
        if api_key is None:
            return None
        project = self._projects.get(topics.project_key(api_key["project_id"]))
        return Grant(
            project_id=api_key["project_id"],
            idle_timeout_ms=IDLE_TIMEOUT_MS_DEFAULT
            if project is None
            else project["idle_timeout_ms"],
            revoked_at_ms=api_key["revoked_at_ms"],
        )


def _put(records: dict[bytes, Any], key: bytes, value: bytes | None, codec: Codec) -> None:
    if value is None:
        records.pop(key, None)
    else:
        records[key] = codec.decode(value)


class ControlLog(Protocol):
    """control.v1, read from its beginning on."""

    def end(self) -> int:
        """The offset behind its last record now; raises Unavailable."""

    def position(self) -> int:
        """The offset behind the last record given."""

    def read(self, seconds: float) -> Iterable[tuple[bytes, bytes | None]]:
        """The next records, key and value; none may come in time. Raises Unavailable at the end."""


class Control:
    """The keys of a meter, and the reading that keeps them current.

    Args:
        log: control.v1.
        refused: Told of each record that cannot be read.
        patiently: Calls again what raises Unavailable, until it answers.
    """

    def __init__(
        self,
        log: ControlLog,
        refused: Callable[[InvalidRecord], None],
        patiently: Callable[[Callable[[], None]], None],
    ) -> None:
        self._state = ControlState()
        self._log = log
        self._refused = refused
        self._patiently = patiently

    def find(self, key_hash: bytes) -> Grant | None:
        """What the API key of this hash stands for, as far as control.v1 has been read."""
        return self._state.find(key_hash)

    def catch_up(self) -> None:
        """Read to the end that control.v1 has now; waits while Kafka is away."""
        self._patiently(self._catch_up)

    def refresh(self) -> None:
        """Take what has come by itself; does not wait."""
        try:
            self._take(0.0)
        except Unavailable:
            # Nothing is decided on it: whoever finds a key unknown catches up, and waits.
            return

    def _catch_up(self) -> None:
        end = self._log.end()
        while (before := self._log.position()) < end:
            self._take(ANSWER_SECONDS_MAX)
            if self._log.position() == before:
                raise Unavailable("control.v1 does not answer")

    def _take(self, seconds: float) -> None:
        for key, value in self._log.read(seconds):
            try:
                self._state.apply(key, value)
            except InvalidRecord as error:
                self._refused(error)


class KafkaControlLog:
    """control.v1 on the broker, through a consumer of its own without a group.

    Args:
        topic: Its full name.
        options: librdkafka's options for address and security.
    """

    def __init__(self, topic: str, options: dict[str, Any]) -> None:
        self._consumer = Consumer(
            options
            | {
                "group.id": "unused",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                # Compaction may have taken the records before the end.
                "enable.partition.eof": True,
            }
        )
        self._partition = TopicPartition(topic, 0, 0)
        self._position = 0
        self._consumer.assign([self._partition])

    def end(self) -> int:
        """The offset behind its last record now."""
        try:
            _, end = self._consumer.get_watermark_offsets(
                self._partition, timeout=ANSWER_SECONDS_MAX, cached=False
            )
        except KafkaException as error:
            raise Unavailable(f"control.v1: {error.args[0].str()}") from error
        return end

    def position(self) -> int:
        """The offset behind the last record given."""
        return self._position

    def read(self, seconds: float) -> Iterator[tuple[bytes, bytes | None]]:
        """The next records: waits for the first one only."""
        first = self._consumer.poll(seconds)
        if first is None:
            return
        trouble: KafkaError | None = None
        for message in (first, *self._consumer.consume(_BATCH, 0.0)):
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._advance(message)
            else:
                trouble = error
            if error is None:
                yield message.key() or b"", message.value()
        # Not before: records around it do not come again.
        if trouble is not None:
            raise Unavailable(f"control.v1: {trouble.str()}")

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()

    def _advance(self, message: Message) -> None:
        offset = message.offset()
        assert offset is not None  # noqa: S101 - whatever came from a broker has one
        self._position = offset if message.error() is not None else offset + 1

"""Topics and tables as the other services would have filled them, for tests of the api."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import httpx
import structlog
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fleetmeter_processors import migrate
from fleetmeter_processors.ops import Ops
from fleetmeter_processors.process import Runtime
from fleetmeter_processors.settings import MigrateSettings
from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import (
    CHECKPOINT_KEY,
    key_hash,
    partition_of,
    short_hash,
    snapshot_key,
)
from fleetmeter_schemas.records import Snapshot

PARTITIONS = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLUSTER = Codec("Cluster")
_KEY = Codec("ApiKey")
_SNAPSHOT = Codec("Snapshot")
_CHECKPOINT = Codec("Checkpoint")


class Address(Protocol):
    """Where the store is."""

    url: str
    user: str
    password: str


class Stack:
    """One namespace on the real broker and the real store."""

    def __init__(self, broker: str, store: Address) -> None:
        self.namespace = f"api_{uuid4().hex[:12]}"
        self.broker = broker
        self.store = store
        self.environment = {
            "FLEETMETER_NAMESPACE": self.namespace,
            "FLEETMETER_BOOTSTRAP_SERVERS": broker,
            "FLEETMETER_STORE_URL": store.url,
            "FLEETMETER_STORE_USER": store.user,
            "FLEETMETER_STORE_PASSWORD": store.password,
        }
        self._producer = Producer({"bootstrap.servers": broker, "linger.ms": 0, "log_level": 0})
        self._transactions: Producer | None = None

    def migrate(self) -> None:
        """Make topics and tables."""
        settings = MigrateSettings(
            namespace=self.namespace,
            bootstrap_servers=self.broker,
            store_url=self.store.url,
            store_user=self.store.user,
            store_password=self.store.password,  # type: ignore[arg-type]
            partitions=PARTITIONS,
        )
        runtime = Runtime(stopping=threading.Event(), ops=Ops(), log=structlog.get_logger())
        migrate.run(settings, runtime)

    def make_topics(self, *, control: int, sessions: int) -> None:
        """Make two topics with so many partitions."""
        admin = AdminClient({"bootstrap.servers": self.broker})
        wanted = ((topics.CONTROL, control), (topics.SESSIONS, sessions))
        new = [NewTopic(one.full_name(self.namespace), count, 1) for one, count in wanted]
        for future in admin.create_topics(new).values():
            future.result(20)

    def record_partitions(self, partitions: int) -> None:
        """Write the cluster's record."""
        record = {"partitions": partitions, "created_at_ms": 0}
        topic = topics.CONTROL.full_name(self.namespace)
        self._producer.produce(topic, _CLUSTER.encode(record), topics.CLUSTER_KEY)
        assert self._producer.flush(20) == 0

    def create_key(self, project_id: str, revoked_at_ms: int | None = None) -> str:
        """Make an API key of a project, and wait until the broker has it."""
        api_key = str(uuid4())
        self.write_key(api_key, project_id, revoked_at_ms)
        return api_key

    def write_key(self, api_key: str, project_id: str, revoked_at_ms: int | None) -> None:
        """Write a key's record."""
        hashed = short_hash(key_hash(api_key))
        record = {
            "key_hash_hash": hashed,
            "project_id": project_id,
            "hint": api_key[-4:],
            "created_at_ms": 0,
            "revoked_at_ms": revoked_at_ms,
        }
        topic = topics.CONTROL.full_name(self.namespace)
        self._producer.produce(topic, _KEY.encode(record), topics.api_key_key(hashed))
        assert self._producer.flush(20) == 0

    def partition(self, session_id: str) -> int:
        """The partition of a session."""
        return partition_of(session_id.encode(), PARTITIONS)

    def publish(self, *snapshots: Snapshot, following: int, log_time_ms: int) -> None:
        """Write snapshots of one partition and its checkpoint in a transaction."""
        producer = self.begin()
        partition = snapshots[0]["partition"] if snapshots else 0
        for one in snapshots:
            key = snapshot_key(one["project_id"], one["session_id"], one["part"])
            self._put(producer, one["partition"], key, _SNAPSHOT.encode(one))
        checkpoint = {
            "partition": partition,
            "metered_offset": following,
            "epoch": 0,
            "next": following,
            "heard_ms": 0,
            "log_time_ms": log_time_ms,
        }
        self._put(producer, partition, CHECKPOINT_KEY, _CHECKPOINT.encode(checkpoint))
        producer.commit_transaction(20)

    def begin(self) -> Producer:
        """A producer within a transaction."""
        if self._transactions is None:
            options = {
                "bootstrap.servers": self.broker,
                "transactional.id": f"{self.namespace}.test",
                "log_level": 0,
            }
            self._transactions = Producer(options)
            self._transactions.init_transactions(20)
        self._transactions.begin_transaction()
        return self._transactions

    def put_snapshot(self, producer: Producer, one: Snapshot) -> None:
        """Write one snapshot."""
        key = snapshot_key(one["project_id"], one["session_id"], one["part"])
        self._put(producer, one["partition"], key, _SNAPSHOT.encode(one))

    def land(self, *snapshots: Snapshot) -> None:
        """Put snapshots into the table."""
        self.insert("sessions", [_session_row(one) for one in snapshots])

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Put rows into a table; what they leave out has the columns' defaults."""
        lines = "\n".join(json.dumps(one) for one in rows)
        self.insert_lines(table, lines.encode())

    def insert_lines(self, table: str, lines: bytes) -> None:
        """Put rows, as JSON lines, into a table."""
        self.command(f"INSERT INTO {self.namespace}.{table} FORMAT JSONEachRow\n".encode() + lines)

    def command(self, statement: bytes, **parameters: Any) -> str:
        """Run a statement in the store, in this namespace's database."""
        given = {f"param_{name}": str(value) for name, value in parameters.items()}
        answer = httpx.post(
            self.store.url,
            params=given | ({"database": self.namespace} if parameters else {}),
            content=statement,
            headers={
                "X-ClickHouse-User": self.store.user,
                "X-ClickHouse-Key": self.store.password,
            },
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return answer.text

    def commit_landing(self, partition: int, *, events_next: int, snapshots_offset: int) -> None:
        """Say, as the lander does, what is in the tables."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker,
                "group.id": f"{self.namespace}.lander",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        position = json.dumps({"metered_offset": 3, "epoch": 0, "next": events_next})
        metered = topics.METERED.full_name(self.namespace)
        sessions = topics.SESSIONS.full_name(self.namespace)
        consumer.commit(
            offsets=[
                TopicPartition(metered, partition, 4, position),
                TopicPartition(sessions, partition, snapshots_offset),
            ],
            asynchronous=False,
        )
        consumer.close()

    def _put(self, producer: Producer, partition: int, key: bytes, value: bytes) -> None:
        topic = topics.SESSIONS.full_name(self.namespace)
        producer.produce(topic, value, key, partition)


def moment(time_us: int) -> str:
    """Microseconds since the Unix epoch as the store reads times."""
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%d %H:%M:%S.%f")


def event_row(
    project_id: str, session_id: str, event_id: str, start_us: int, offset: int, **values: Any
) -> dict[str, Any]:
    """A row for the events table."""
    return {
        "project_id": project_id,
        "session_id": session_id,
        "event_id": event_id,
        "kind": "llm",
        "start_time_us": moment(start_us),
        "first_start_time_us": moment(start_us),
        "offset": offset,
        "log_time_ms": "2026-01-01 00:00:00.000",
        **values,
    }


def _session_row(one: Snapshot) -> dict[str, Any]:
    row: dict[str, Any] = dict(one)
    for name in ("started_at_us", "ended_at_us", "last_event_at_us"):
        row[name] = None if row[name] is None else moment(row[name])
    for name in ("log_time_ms", "closed_at_ms"):
        row[name] = None if row[name] is None else moment(row[name] * 1000)[:-3]
    return row

"""Makes and sends the bench's load: encoded events of many sessions, as the SDK would send them.

Run as a program it sends a given number of events to a topic and prints how long that took.
"""

import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from uuid import UUID

from confluent_kafka import Producer

from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.records import Event
from fleetmeter_schemas.topics import PARTITIONER

EVENT = Codec("Event")
EVENT_BYTES = 768
START_US = 1_767_621_256_903_000  # a time at which the model has a price


def session_id(seed: str, number: int) -> str:
    """A UUID that is the same for the same seed and number."""
    return str(UUID(bytes=sha256(f"{seed}/{number}".encode()).digest()[:16], version=4))


def event(key_hash: bytes, seed: str, number: int, sessions: int) -> tuple[str, bytes]:
    """One event's key and value: an LLM call of about EVENT_BYTES."""
    session = session_id(seed, number % sessions)
    record: Event = {
        "key_hash": key_hash,
        "session_id": session,
        "event_id": f"{seed}-{number:028d}",
        "kind": "llm",
        "writer_id": seed,
        "sequence": number // sessions + 1,
        "start_time_us": START_US + number * 1000,
        "end_time_us": START_US + number * 1000 + 900_000,
        "name": "chat",
        "provider": "anthropic",
        "model": "claude-opus-4-5-20251101",
        "input_tokens": 24_000 + number % 1000,
        "output_tokens": 120 + number % 100,
        "cache_read_tokens": 23_000,
        "input": "x" * 400,
        "output": "y" * (EVENT_BYTES - 400 - 201),
    }
    return session, EVENT.encode(record)


def events(
    key_hash: bytes, seed: str, numbers: range, sessions: int
) -> Iterator[tuple[str, bytes]]:
    """Events of these numbers, spread over so many sessions."""
    return (event(key_hash, seed, number, sessions) for number in numbers)


def producer(bootstrap_servers: str) -> Producer:
    """A producer with the SDK's settings."""
    options: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": PARTITIONER,
        "compression.type": "lz4",
        "linger.ms": 100,
        "batch.size": 1_000_000,
        "queue.buffering.max.kbytes": 1_000_000,
        "queue.buffering.max.messages": 1_000_000,
    }
    return Producer(options)


def send(bootstrap_servers: str, topic: str, load: list[tuple[str, bytes]]) -> None:
    """Send all of it and wait for every delivery report."""
    failed: list[Any] = []
    client = producer(bootstrap_servers)

    def report(error: Any, _message: Any) -> None:
        if error is not None:
            failed.append(error)

    for key, value in load:
        client.produce(topic, value, key, on_delivery=report)
        client.poll(0)
    client.flush()
    assert failed == [], failed[:3]


def main() -> None:
    """Arguments: bootstrap servers, topic, key hash in hex, seed, events, sessions."""
    bootstrap_servers, topic, key_hash, seed, count, sessions = sys.argv[1:]
    load = list(events(bytes.fromhex(key_hash), seed, range(int(count)), int(sessions)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    began = time.perf_counter()
    send(bootstrap_servers, topic, load)
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    main()

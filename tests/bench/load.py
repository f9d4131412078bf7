"""Makes and sends the bench's load: the recorded sessions' events, from many sessions at once.

Sessions take turns, as agents do: an LLM call, then the tools it asked for, then somebody else.
Run as a program it sends a given number of events to a topic and prints how long that took.
"""

import sys
import time
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from itertools import islice
from typing import Any
from uuid import UUID

from confluent_kafka import Producer

from fleetmeter_local import recorded
from fleetmeter_processors.enrichment import encode_enrichment
from fleetmeter_processors.prefix import decode_event
from fleetmeter_processors.pricing import Cost
from fleetmeter_schemas.codec import HEADER_BYTES, Codec
from fleetmeter_schemas.records import CostStatus, Event
from fleetmeter_schemas.topics import PARTITIONER

EVENT = Codec("Event")
EVENT_BYTES = 768
# What is not payload in an event of the mean.
OTHER_BYTES = 190

COST = Cost(
    input_pico_usd=12_345_678_901,
    output_pico_usd=1_234_567_890,
    total_pico_usd=13_580_246_791,
    computed_pico_usd=13_580_246_791,
    status=CostStatus.PRICED,
    price_id="genai-prices/anthropic/claude-opus-4-5",
    price_match="exact",
)

Turn = list[dict[str, Any]]


def session_id(seed: str, number: int) -> str:
    """A UUID that is the same for the same seed and number."""
    return str(UUID(bytes=sha256(f"{seed}/{number}".encode()).digest()[:16], version=4))


@cache
def recorded_turns() -> list[list[Turn]]:
    """The recorded sessions, each cut before its LLM calls."""
    found = []
    for session in recorded.read(recorded.demo_file()):
        turns: list[Turn] = [[]]
        for event in session.events:
            if event["kind"] == "llm" and turns[-1]:
                turns.append([])
            turns[-1].append(event)
        found.append(turns)
    return found


def events(key_hash: bytes, seed: str, sessions: int) -> Iterator[tuple[str, bytes]]:
    """Key and value of one event after the other, without end."""
    turns = recorded_turns()
    names = [session_id(seed, number) for number in range(sessions)]
    sequences = [0] * sessions
    at = 0
    while True:
        for number, name in enumerate(names):
            own = turns[number % len(turns)]
            for event in own[(number + at) % len(own)]:
                sequences[number] += 1
                record = _record(event, seed, sequences[number])
                record["key_hash"], record["session_id"] = key_hash, name
                record["event_id"] = f"{seed}-{number:08d}-{sequences[number]:08d}"
                yield name, EVENT.encode(record)
        at += 1


def _record(event: dict[str, Any], seed: str, sequence: int) -> Event:
    end_ms = event["end_ms"]
    record: Event = {
        "kind": event["kind"],
        "writer_id": seed,
        "sequence": sequence,
        "start_time_us": event["start_ms"] * 1000,
        "end_time_us": None if end_ms is None else end_ms * 1000,
        "name": event.get("name", ""),
        "agent_id": event["agent"],
        "error_type": event.get("error_type", ""),
        "input": "x" * 300,
        "output": "y" * (EVENT_BYTES - 300 - OTHER_BYTES),
    }
    if event["kind"] == "llm":
        record |= _usage(event)
    return record


def _usage(event: dict[str, Any]) -> Event:
    caches = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    cached = {name: event[name] for name in caches}
    return {
        "provider": event["provider"],
        "model": event["model"],
        "input_tokens": event["input_tokens"] + sum(cached.values()),
        "output_tokens": event["output_tokens"],
        **cached,  # type: ignore[typeddict-item]
    }


def metered(load: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """The same events with a verdict behind them, as the meter would have appended it."""
    for offset, (key, value) in enumerate(load):
        start_time_us = decode_event(value, HEADER_BYTES).start_time_us
        verdict = encode_enrichment(
            project_id="floor",
            first_start_time_us=start_time_us,
            cost=COST,
            clock_skewed=True,
            heard_ms=offset,
            partition=0,
            offset=offset,
            log_time_ms=start_time_us // 1000,
        )
        yield key, value + verdict


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
    """Arguments: raw or metered, bootstrap servers, topic, key hash in hex, seed, two numbers."""
    form, bootstrap_servers, topic, key_hash, seed, count, sessions = sys.argv[1:]
    endless = events(bytes.fromhex(key_hash), seed, int(sessions))
    if form == "metered":
        endless = metered(endless)
    load = list(islice(endless, int(count)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    began = time.perf_counter()
    send(bootstrap_servers, topic, load)
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    main()

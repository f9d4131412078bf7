"""Measures a local stack: throughput beside the floor of the same run, lag, and `record()`.

Absolute figures belong to the machine; the ratio to the floor is what can be compared. Bounded
to three minutes. `--json` prints the figures only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from typing import IO, Any, cast
from uuid import uuid4

import httpx
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

import fleetmeter
import load
from fleetmeter import LLMEvent
from fleetmeter_local import stack as stacks
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.identity import key_hash
from fleetmeter_schemas.topics import EVENTS, PARTITIONS_DEFAULT

HERE = Path(__file__).parent
WARM_UP_COUNT = 50_000
EVENTS_COUNT = 700_000
SESSIONS_COUNT = 5_000
PACED_PER_SECOND = 2_000
PACED_SECONDS = 20
PROBE_SECONDS = 0.5
RECORDS = 20_000
WAIT_SECONDS_MAX = 90.0


@contextmanager
def running_stack(data_dir: Path) -> Iterator[Stack]:
    """A stack of its own, stopped at the end."""
    command = [sys.executable, "-m", "fleetmeter_local.cli"]
    place = ["--data-dir", str(data_dir)]
    subprocess.run([*command, "up", "--detach", *place], check=True, stdout=sys.stderr)
    try:
        yield stacks.existing(data_dir)
    finally:
        subprocess.run([*command, "down", *place], check=True, stdout=sys.stderr)


class Query:
    """Asks the stack's store and api."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        said = stacks.environment(stack)
        credentials = said["FLEETMETER_STORE_USER"], said["FLEETMETER_STORE_PASSWORD"]
        self._store = httpx.Client(base_url=stack.store_url, auth=credentials)
        headers = {"X-Agentops-Api-Key": stacks.api_key(stack.data_dir)}
        self._api = httpx.Client(base_url=stack.api_url, headers=headers, timeout=20)

    def number(self, sql: str) -> int:
        """The one number that a query answers."""
        text = sql.replace("{db}", self._stack.namespace)
        answer = self._store.post("/", content=text)
        answer.raise_for_status()
        return int(answer.text.strip() or 0)

    def stats(self, session_id: str, after_offset: int) -> dict[str, Any]:
        """A session's stats that contain the record at this offset."""
        path = f"/v2/sessions/{session_id}/stats"
        answer = self._api.get(path, params={"after_offset": after_offset, "wait_ms": 10_000})
        answer.raise_for_status()
        return cast("dict[str, Any]", answer.json())


def start(*arguments: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a program of this folder and wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=HERE,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert read_line(process.stdout) == "ready", arguments
    return process


def read_line(stream: IO[str] | None) -> str:
    """One line of a program's output."""
    assert stream is not None
    return stream.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    """Tell a program that is ready to begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def sender(stack: Stack, form: str, topic: str, count: int) -> subprocess.Popen[str]:
    """A process that has its load in memory and waits for `go`."""
    hashed = key_hash(stacks.api_key(stack.data_dir)).hex()
    numbers = (str(count), str(SESSIONS_COUNT))
    seed = f"{form}-{count}"
    return start(
        "load.py", form, stack.bootstrap_servers, topic, hashed, seed, *numbers, environment={}
    )


def floor(stack: Stack, count: int) -> float:
    """Events per second of producer, consumer and insert alone."""
    topic = f"floor.{count}"
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    settings = dict(EVENTS.settings)
    made = admin.create_topics([NewTopic(topic, PARTITIONS_DEFAULT, 1, config=settings)])
    made[topic].result(20)
    producer = sender(stack, "metered", topic, count)
    environment = {**stacks.environment(stack), "FLEETMETER_NAMESPACE": "bench_floor"}
    consumer = start("floor.py", topic, str(count), environment=environment)
    began = time.perf_counter()
    go(producer)
    assert read_line(consumer.stdout) == "done"
    seconds = time.perf_counter() - began
    assert (producer.wait(30), consumer.wait(30)) == (0, 0)
    return count / seconds


def chain(stack: Stack, query: Query, count: int) -> float:
    """Events per second until all of them, and all of their sessions' totals, are in SQL."""
    landed, totals = (
        "SELECT count() FROM {db}.events",
        "SELECT sum(numbers.events) FROM {db}.sessions FINAL",
    )
    before = query.number(landed)
    producer = sender(stack, "raw", EVENTS.full_name(stack.namespace), count)
    began = time.perf_counter()
    go(producer)
    wait_for(query, landed, before + count)
    wait_for(query, totals, before + count)
    seconds = time.perf_counter() - began
    assert producer.wait(30) == 0
    return count / seconds


def wait_for(query: Query, sql: str, number: int) -> None:
    """Poll until a query answers this number."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while (found := query.number(sql)) < number:
        assert time.monotonic() < deadline, f"{found} of {number}: {sql}"
        time.sleep(0.25)


def lags(stack: Stack, query: Query) -> tuple[list[float], list[float]]:
    """Seconds from send to stats and from send to SQL, of probes within a paced stream."""
    hashed = key_hash(stacks.api_key(stack.data_dir))
    topic = EVENTS.full_name(stack.namespace)
    client = load.producer(stack.bootstrap_servers)
    probe(client, topic, hashed, query)  # the first one connects
    stop = threading.Event()
    background = threading.Thread(target=paced, args=(stack, topic, hashed, stop))
    background.start()
    to_stats, to_sql = [], []
    try:
        until = time.monotonic() + PACED_SECONDS
        while time.monotonic() < until:
            stats_seconds, sql_seconds = probe(client, topic, hashed, query)
            to_stats.append(stats_seconds)
            to_sql.append(sql_seconds)
            time.sleep(PROBE_SECONDS)
    finally:
        stop.set()
        background.join()
    return to_stats, to_sql


def paced(stack: Stack, topic: str, hashed: bytes, stop: threading.Event) -> None:
    """Send events at an even rate."""
    client = load.producer(stack.bootstrap_servers)
    endless = load.events(hashed, "paced", SESSIONS_COUNT)
    began, sent = time.monotonic(), 0
    while not stop.is_set():
        due = int((time.monotonic() - began) * PACED_PER_SECOND)
        for key, value in islice(endless, max(0, due - sent)):
            client.produce(topic, value, key)
        sent = max(sent, due)
        client.poll(0.01)
    client.flush()


def probe(client: Producer, topic: str, hashed: bytes, query: Query) -> tuple[float, float]:
    """Send one event of a new session; how long until stats and SQL have it."""
    seed = uuid4().hex
    session_id, value = next(load.events(hashed, seed, 1))
    offsets: list[int | None] = []
    began = time.perf_counter()
    client.produce(topic, value, session_id, on_delivery=lambda _, m: offsets.append(m.offset()))
    client.flush()
    assert offsets[0] is not None
    assert query.stats(session_id, offsets[0])["events"] == 1
    stats_seconds = time.perf_counter() - began
    sql = f"SELECT count() FROM {{db}}.events WHERE session_id = '{session_id}'"  # noqa: S608 - a UUID
    wait_for(query, sql, 1)
    return stats_seconds, time.perf_counter() - began


def record_micros(stack: Stack) -> list[float]:
    """Microseconds of single calls of `record()` with a small LLM event."""
    session = fleetmeter.init(
        api_key=stacks.api_key(stack.data_dir),
        bootstrap_servers=stack.bootstrap_servers,
        api_url=stack.api_url,
    )
    assert session is not None
    micros = []
    for number in range(RECORDS):
        event = LLMEvent(
            model="claude-opus-4-5-20251101",
            provider="anthropic",
            prompt="What is the weather like?",
            completion="It rains.",
            prompt_tokens=number,
            completion_tokens=12,
        )
        began = time.perf_counter()
        session.record(event)
        micros.append((time.perf_counter() - began) * 1e6)
    session.end_session("Success")
    return micros


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {"p50": median(values), "p99": quantiles(values, n=100)[98]}


def measure() -> dict[str, Any]:
    """All figures, by name."""
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        query = Query(stack)
        # Once for caches and compilers, once for the figures.
        for count in (WARM_UP_COUNT, EVENTS_COUNT):
            floor_rate = floor(stack, count)
            chain_rate = chain(stack, query, count)
        to_stats, to_sql = lags(stack, query)
        return {
            "floor_events_per_second": floor_rate,
            "chain_events_per_second": chain_rate,
            "chain_to_floor": chain_rate / floor_rate,
            "paced_events_per_second": PACED_PER_SECOND,
            "event_to_stats_seconds": spread(to_stats),
            "event_to_sql_seconds": spread(to_sql),
            "record_micros": spread(record_micros(stack)),
        }


def report(figures: dict[str, Any]) -> str:
    """The figures, for people."""
    stats, sql = figures["event_to_stats_seconds"], figures["event_to_sql_seconds"]
    record = figures["record_micros"]
    rates = figures["floor_events_per_second"], figures["chain_events_per_second"]
    paced_at = figures["paced_events_per_second"]
    return f"""\
floor            {rates[0]:10,.0f} events/s   producer, consumer, insert
chain            {rates[1]:10,.0f} events/s   {figures["chain_to_floor"]:.2f} of the floor
event to stats   {stats["p50"]:10.2f} s p50   {stats["p99"]:.2f} s p99   at {paced_at:,} events/s
event to SQL     {sql["p50"]:10.2f} s p50   {sql["p99"]:.2f} s p99
record()         {record["p50"]:10.1f} µs p50   {record["p99"]:.1f} µs p99"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    figures = measure()
    text = json.dumps(figures, indent=2) if arguments.json else report(figures)
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()

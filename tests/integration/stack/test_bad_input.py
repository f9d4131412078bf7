"""Bad and extreme input straight into events.v1: judged, told, and the stream goes on."""
# ruff: noqa: S608 - the values are the test's own

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import fastavro
import pytest

from fleetmeter_local import keys
from fleetmeter_local.stack import Stack
from fleetmeter_schemas.codec import HEADER_BYTES, Codec
from fleetmeter_schemas.definitions import schema
from fleetmeter_schemas.identity import key_hash, short_hash
from fleetmeter_schemas.records import NUMBER_NAMES
from fleetmeter_schemas.topics import CONTROL, EVENTS, PARTITIONS_DEFAULT, api_key_key
from raw_writer import EVENT, Place, RawWriter, Record, block_with, event, partition, record
from running_stack import Processes, await_that, end_offsets
from stack_project import Project, new_project, session_id_beside

PICO = 10**12
LONG_MAX = 2**63 - 1
KEYS = 1_000
START_MONTHS = 101
# A text of a length of its own in an encoded event: bytes are put in its place.
MARK = "\x01" * 30
# All that a row says but for where and when it was metered and for whom.
ALIKE = "* EXCEPT (project_id, session_id, heard_ms, offset, log_time_ms)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A record that must be rejected, and the reason."""

    name: str
    reason: str
    record: Record


def year(number: int) -> int:
    """Its first moment, microseconds since the Unix epoch."""
    return int(datetime(number, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def marked(one: Record, replacement: bytes) -> Record:
    """The record with other bytes, as many, where the mark was; in its key too."""
    assert len(replacement) == len(MARK)
    key, value = one.key or b"", one.value or b""
    assert MARK.encode() in value
    return Record(
        key=key.replace(MARK.encode(), replacement),
        value=value.replace(MARK.encode(), replacement),
    )


def bad_records(project: Project, revoked_key: str) -> list[Bad]:
    """One of each kind, each in a session that has good events too, where it names one."""
    session_id = str(uuid4())
    good = record(event(project.api_key, session_id))
    value = good.value or b""
    found = [
        Bad(name=name, reason=reason, record=record(event(project.api_key, session_id, **fields)))
        for name, reason, fields in bad_fields()
    ]
    found += [
        Bad(name=name, reason=reason, record=Record(key=good.key, value=data))
        for name, reason, data in bad_bodies(value)
    ]
    found += bad_places(project, good, session_id)
    for name, reason, api_key in (
        ("a key that nobody has", "unknown_key", str(uuid4())),
        ("a revoked key", "revoked_key", revoked_key),
    ):
        found.append(Bad(name=name, reason=reason, record=record(event(api_key, session_id))))
    return found


def bad_fields() -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Events that are well written and say what cannot be."""
    yield "over 2 MB", "too_large", {"input": "x" * 2_000_000}
    for name in ("input_tokens", "output_tokens", "cache_write_1h_tokens", "reasoning_tokens"):
        yield f"negative {name}", "negative_number", {"kind": "llm", name: -1}
        yield f"over 1e9 {name}", "tokens_too_large", {"kind": "llm", name: 10**9 + 1}
    yield "the most tokens", "tokens_too_large", {"kind": "llm", "input_tokens": LONG_MAX}
    for name, cost, reason in (
        ("over $100k", 100_000 * PICO + 1, "cost_too_large"),
        ("the most money", LONG_MAX, "cost_too_large"),
        ("a negative cost", -1, "negative_number"),
    ):
        yield name, reason, {"kind": "llm", "reported_cost_pico_usd": cost}
    for name, time_us in (
        ("1999", year(2000) - 1),
        ("2101", year(2101)),
        ("the epoch", 0),
        ("the end of time", LONG_MAX),
        ("its beginning", -LONG_MAX - 1),
    ):
        yield f"starts in {name}", "time_out_of_range", {"start_time_us": time_us}
        yield f"ends in {name}", "time_out_of_range", {"end_time_us": time_us}
    yield "a revision too high", "revision", {"revision": 65_536}
    yield "no event id", "event_id", {"event_id": ""}
    yield "an end without a word", "wrong_detail", {"kind": "session_ended"}


def bad_bodies(value: bytes) -> Iterable[tuple[str, str, bytes | None]]:
    """What no writer of ours has written, made from what one has."""
    body = value[HEADER_BYTES:]
    yield "garbage", "not_avro", b"\x00\xff garbage \x80" * 20
    yield "nothing", "not_avro", b""
    yield "no value", "not_avro", None
    yield "half a header", "not_avro", value[:5]
    yield "a schema of the future", "unknown_fingerprint", b"\xc3\x01" + bytes(8) + body
    yield "a header alone", "undecodable", value[:HEADER_BYTES]
    yield "cut within the prefix", "undecodable", value[: HEADER_BYTES + 40]
    yield "cut by one byte", "undecodable", value[:-1]
    yield "longer by one byte", "undecodable", value + b"\x00"
    yield "twice", "undecodable", value + body
    # The last field is an empty text: its length is the last byte.
    yield "runs past its end", "undecodable", value[:-1] + b"\x7e"
    yield "an endless number", "undecodable", value[:-1] + b"\xff" * 11
    yield "a negative length", "undecodable", value[:-1] + b"\x01"


def bad_places(project: Project, good: Record, session_id: str) -> Iterable[Bad]:
    """Events that are fine but for what names their session, their key or their partition."""
    for name, reason, said in (
        ("upper case", "session_id", session_id.upper()),
        ("without dashes", "session_id", UUID(session_id).hex),
        ("no session", "session_id", ""),
        ("a long session id", "session_id", "s" * 201),
    ):
        yield Bad(name=name, reason=reason, record=record(event(project.api_key, said)))
    other = session_id_beside(session_id).encode()
    elsewhere = (partition(session_id) + 1) % PARTITIONS_DEFAULT
    for name, reason, changed in (
        ("another session's key", "wrong_key", {"key": other}),
        ("no key", "wrong_key", {"key": None, "partition": partition(session_id)}),
        ("another partition", "wrong_partition", {"partition": elsewhere}),
    ):
        given: dict[str, Any] = {"key": good.key, "value": good.value} | changed
        yield Bad(name=name, reason=reason, record=Record(**given))
    broken = b"\xff\xfe\x80" * (len(MARK) // 3)
    for name, field in (("session id", "session_id"), ("event id", "event_id"), ("model", "model")):
        one = record(event(project.api_key, session_id) | {field: MARK})
        yield Bad(name=f"no UTF-8 in {name}", reason="undecodable", record=marked(one, broken))


@pytest.fixture
def project(stack: Stack) -> Project:
    """A project of the test's own."""
    return new_project(stack)


@pytest.fixture
def writer(stack: Stack) -> RawWriter:
    """A way to events.v1 without any check."""
    return RawWriter(stack)


def listed(places: Iterable[Place]) -> str:
    """Places as SQL compares them."""
    return ", ".join(f"({place.partition}, {place.offset})" for place in places)


def await_landed(project: Project, events: list[Place], rejects: list[Place]) -> None:
    """Wait until both tables hold what belongs there."""
    wanted = {"events": events, "dead_letters": rejects}

    def missing() -> dict[str, int]:
        return {
            table: len(places) - len(rows_at(project, table, places))
            for table, places in wanted.items()
            if places
        }

    await_that(lambda: not any(missing().values()), told=f"{len(events)}, {len(rejects)}")


def rows_at(project: Project, table: str, places: Iterable[Place]) -> list[dict[str, Any]]:
    """Where the rows of some records are, by partition and offset."""
    return project.rows(
        f"SELECT partition, offset FROM {table} FINAL"
        f" WHERE (partition, offset) IN ({listed(places)})"
    )


def test_bad_records_become_dead_letters(stack: Stack, project: Project, writer: RawWriter) -> None:
    """Each bad record is kept whole with its reason; the good ones around it all count."""
    revoked = keys.create(stack.control, project=project.project_id, idle_timeout_ms=None)
    keys.revoke(stack.control, revoked.api_key)
    bad = bad_records(project, revoked.api_key)
    session_ids = [str(uuid4()) for _ in range(PARTITIONS_DEFAULT)]
    good = [
        record(event(project.api_key, session_ids[number % len(session_ids)]))
        for number in range(len(bad))
    ]
    processes = Processes(stack=stack)
    judged = "fleetmeter_meter_records_total"
    before = [processes.counted("meter", judged, f'verdict="{v}"') for v in ("event", "rejected")]
    places = writer.send([one for pair in zip(bad, good, strict=True) for one in _both(pair)])
    bad_at, good_at = places[0::2], places[1::2]
    await_landed(project, good_at, bad_at)

    letters = {
        Place(row["partition"], int(row["offset"])): row
        for row in project.rows(
            "SELECT partition, offset, reason, project_id, hex(key) AS key, hex(value) AS value"
            f" FROM dead_letters FINAL WHERE (partition, offset) IN ({listed(places)})"
        )
    }
    expected = {one.name: one.reason for one in bad}
    assert expected == {
        one.name: letters[at]["reason"] for one, at in zip(bad, bad_at, strict=True)
    }
    for one, at in zip(bad, bad_at, strict=True):
        kept = bytes.fromhex(letters[at]["key"]), bytes.fromhex(letters[at]["value"])
        assert (one.record.key or b"", one.record.value or b"") == kept, one.name
    assert len(places) == len(letters) + len(rows_at(project, "events", places))
    after = [processes.counted("meter", judged, f'verdict="{v}"') for v in ("event", "rejected")]
    assert [len(good), len(bad)] == [int(b - a) for a, b in zip(before, after, strict=True)]
    counted = Counter(one.key for one in good)
    for session_id in session_ids:
        wanted = counted[session_id.encode()]
        assert project.eventually(session_id, lambda s, n=wanted: s["events"] == n)  # type: ignore[misc]
        assert project.agrees(session_id)


def _both(pair: tuple[Bad, Record]) -> tuple[Record, Record]:
    return pair[0].record, pair[1]


def test_a_forged_body_touches_no_neighbour(stack: Stack, writer: RawWriter) -> None:
    """Forged bodies between two tenants' events in one block: rows as of a clean run."""
    tenants = [new_project(stack) for _ in range(2)]
    forger = new_project(stack)
    session_id = str(uuid4())
    forged_id = session_id_beside(session_id)
    own = {"event_id": "e", "start_time_us": time.time_ns() // 1000, "input": "x" * 100}

    def of_tenants(one: str) -> list[Record]:
        return [record(event(tenant.api_key, one, **own)) for tenant in tenants]

    clean = writer.send(of_tenants(session_id))
    await_landed(tenants[0], clean, [])
    forged = forgeries(forger, tenants[0], forged_id)
    beside = session_id_beside(session_id)
    first, second = of_tenants(beside)
    mixed = [first, forged[0], second, forged[1], first, forged[2], second]
    places = writer.send(mixed)
    await_landed(tenants[0], [places[0], places[2]], [places[1], places[3], places[5]])

    block = block_with(stack, places[0])
    assert block.next > places[-1].offset, "they were not in one block"
    assert (2, 3, 2) == (block.events.count, block.rejects.count, block.duplicates)
    for tenant, at, known in zip(tenants, (places[0], places[2]), clean, strict=True):
        clean_row, row = (_row(tenant, place) for place in (known, at))
        assert clean_row == row
    reasons = tenants[0].rows(
        "SELECT reason, project_id FROM dead_letters FINAL"
        f" WHERE (partition, offset) IN ({listed(places)})"
    )
    assert [{"reason": "undecodable", "project_id": ""}] * 3 == reasons
    found = tenants[0].rows(f"SELECT * FROM events WHERE session_id = '{forged_id}'")
    assert [] == found


def _row(project: Project, place: Place) -> str:
    """A row's bytes in hex, but for what must differ."""
    answer = project.rows(
        f"SELECT hex(toString(tuple({ALIKE}))) AS row FROM events"
        f" WHERE (partition, offset) = ({place.partition}, {place.offset})"
        f" AND project_id = '{project.project_id}'"
    )
    (row,) = answer
    return str(row["row"])


def forgeries(forger: Project, victim: Project, session_id: str) -> list[Record]:
    """A body that would swallow the record behind it, and two that bring rows of the victim's."""
    value = record(event(forger.api_key, session_id)).value or b""
    stolen = event(forger.api_key, session_id, event_id="stolen")
    verdict: dict[str, Any] = {
        "project_id": victim.project_id,
        "first_start_time_us": stolen["start_time_us"],
        "cost_input_pico_usd": None,
        "cost_output_pico_usd": None,
        "cost_pico_usd": 10**15,
        "computed_cost_pico_usd": None,
        "cost_status": "provided",
        "price_id": "",
        "price_match": "",
        "clock_skewed": False,
        "heard_ms": 0,
        "partition": partition(session_id),
        "offset": 0,
        "log_time_ms": 0,
    }
    out = BytesIO()
    fastavro.schemaless_writer(out, schema("Enrichment"), verdict)
    enrichment = out.getvalue()
    row = (EVENT.encode(stolen))[HEADER_BYTES:] + enrichment
    key = session_id.encode()
    return [
        # The last text claims the next hundred bytes, which are the next event's.
        Record(key=key, value=value[:-1] + b"\xc8\x01"),
        # It stops short: its verdict and a whole row follow within its bytes.
        Record(key=key, value=value + enrichment + row),
        Record(key=key, value=value[:-1] + enrichment),
    ]


def test_a_new_key_is_good_at_once(stack: Stack, project: Project) -> None:
    """A thousand keys, each used as soon as control.v1 has it: nothing is rejected."""
    writer = RawWriter(stack, linger_ms=0)
    codec = Codec("ApiKey")
    before = end_offsets(stack, EVENTS)
    made = [
        keys.create(stack.control, project=project.project_id, idle_timeout_ms=None).api_key
        for _ in range(3)
    ]
    writer.send([record(event(api_key, str(uuid4()))) for api_key in made])
    for _ in range(KEYS):
        api_key = str(uuid4())
        hashed = short_hash(key_hash(api_key))
        told = {
            "key_hash_hash": hashed,
            "project_id": project.project_id,
            "hint": api_key[-4:],
            "created_at_ms": 0,
            "revoked_at_ms": None,
        }
        control = CONTROL.full_name(stack.namespace)
        writer.producer.produce(control, codec.encode(told), api_key_key(hashed))
        writer.flush()
        writer.send([record(event(api_key, str(uuid4())))])
    of_project = f"project_id = '{project.project_id}'"

    def landed() -> int:
        (row,) = project.rows(f"SELECT count() AS n FROM events FINAL WHERE {of_project}")
        return int(row["n"])

    await_that(lambda: landed() == KEYS + len(made), told="some were rejected")
    behind = " OR ".join(f"(partition = {p} AND offset >= {o})" for p, o in enumerate(before))
    assert [] == project.rows(f"SELECT reason FROM dead_letters WHERE {behind}")


def test_events_of_101_months_in_one_batch(
    stack: Stack, project: Project, writer: RawWriter
) -> None:
    """Events that start in as many months as no insert takes by default all land."""
    session_id = str(uuid4())
    starts = [
        int(datetime(2000 + n // 12, 1 + n % 12, 3, tzinfo=UTC).timestamp()) * 1_000_000
        for n in range(START_MONTHS)
    ]
    places = writer.send(
        [record(event(project.api_key, session_id, start_time_us=start)) for start in starts]
    )
    await_landed(project, places, [])
    assert block_with(stack, places[0]).next > places[-1].offset, "they were not in one block"
    (row,) = project.rows(
        "SELECT count() AS events, uniqExact(toYYYYMM(start_time_us)) AS months"
        f" FROM events FINAL WHERE session_id = '{session_id}'"
    )
    assert {"events": START_MONTHS, "months": START_MONTHS} == {n: int(v) for n, v in row.items()}
    project.eventually(session_id, lambda stats: stats["events"] == START_MONTHS)
    assert project.agrees(session_id)


def test_costs_that_leave_64_bits(project: Project, writer: RawWriter) -> None:
    """Sums that do not fit stay at the limit and are flagged; the session and others go on."""
    calls_id, corrected_id, after_id = (str(uuid4()) for _ in range(3))
    dear = {"kind": "llm", "reported_cost_pico_usd": 100_000 * PICO, "input_tokens": 1}
    calls = [record(event(project.api_key, calls_id, **dear)) for _ in range(100)]
    corrections = [record(correction(project, corrected_id, 9 * 10**18)) for _ in range(2)]
    after = [record(event(project.api_key, one)) for one in (calls_id, corrected_id, after_id)]
    places = writer.send([*calls, *corrections, *after])
    await_landed(project, places, [])
    limit = Decimal(LONG_MAX) / PICO
    for session_id, events in ((calls_id, 101), (corrected_id, 1)):
        stats = project.eventually(session_id, lambda found, n=events: found["events"] == n)  # type: ignore[misc]
        assert (limit, True) == (Decimal(stats["cost"]), "sums_saturated" in stats["flags"])
        verdict = project.get(f"/v1/sessions/{session_id}/verify", wait_ms=10_000).json()
        assert (True, {}) == (verdict["agrees"], verdict["differences"])
    stats = project.eventually(after_id, lambda found: found["events"] == 1)
    assert [] == [flag for flag in stats["flags"] if flag == "sums_saturated"]


def correction(project: Project, session_id: str, cost: int) -> dict[str, Any]:
    """A correction of a session's cost."""
    numbers = dict.fromkeys(NUMBER_NAMES, 0) | {"cost_pico_usd": cost}
    said = {"numbers": numbers, "who": "test", "why": "overflow"}
    return event(
        project.api_key,
        session_id,
        kind="correction",
        detail=("fleetmeter.Correction", said),
        attributes=json.dumps(numbers),
    )


def test_payload_that_is_no_utf8(project: Project, writer: RawWriter) -> None:
    """Nobody reads payload on the way: such an event counts, lands and can be exported."""
    session_id = str(uuid4())
    broken = b"\xff\xfe\x80" * (len(MARK) // 3)
    fields = [{name: MARK} for name in ("input", "output", "logs", "attributes")]
    places = writer.send(
        [marked(record(event(project.api_key, session_id, **one)), broken) for one in fields]
        + [record(event(project.api_key, session_id, input="plain"))]
    )
    await_landed(project, places, [])
    found = project.rows(
        f"SELECT hex(concat(input, output, logs, attributes)) AS text FROM events FINAL"
        f" WHERE session_id = '{session_id}' AND input != 'plain'"
    )
    assert [broken.hex().upper()] * 4 == [row["text"] for row in found]
    project.eventually(session_id, lambda stats: stats["events"] == 5)
    assert project.agrees(session_id)
    assert 5 == len(project.export(session_id)["actions"])

"""Which records are accepted, and for which reason others are not."""

import re
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest

from fleetmeter_processors.judge import (
    DETAIL_BYTES_MAX,
    MEANINGS,
    Accepted,
    Grant,
    Judge,
    Raw,
    Reason,
    Rejected,
)
from fleetmeter_schemas.block import encode_long
from fleetmeter_schemas.codec import HEADER_BYTES, MARKER, Codec
from fleetmeter_schemas.definitions import fingerprint_of, schema
from fleetmeter_schemas.identity import partition_of
from fleetmeter_schemas.records import NUMBER_NAMES
from meter_records import (
    EVENT,
    GRANT,
    KEY_HASH,
    LOG_TIME_MS,
    PROJECT,
    SESSION,
    START_US,
    FakeKeys,
    ended,
    event,
    llm,
    raw,
)

DAY_US = 86_400_000_000


def verdict(record: Raw, keys: FakeKeys | None = None, codec: Codec = EVENT) -> Any:
    """The verdict in a log of one partition."""
    return Judge(0, 1, keys or FakeKeys(), codec).judge(record)


def test_a_good_event_is_accepted_with_its_project() -> None:
    """An event that keeps the rules belongs to its key's project, its body as it came."""
    record = raw(3, llm())
    found = verdict(record)
    assert isinstance(found, Accepted)
    assert record.value is not None
    assert (record.value[HEADER_BYTES:], GRANT, False) == (
        found.body,
        found.grant,
        found.clock_skewed,
    )


def test_a_tick_needs_no_key() -> None:
    """A tick only moves time: it is nobody's, and may be in any partition."""
    tick = event(kind="tick", key_hash=bytes(16), session_id="", event_id="", start_time_us=0)
    assert Judge(2, 3, FakeKeys(), EVENT).judge(raw(0, tick, key=None)) is None


def correction(**numbers: int) -> tuple[str, dict[str, Any]]:
    """The detail of a correction."""
    all_numbers = dict.fromkeys(NUMBER_NAMES, 0) | numbers
    return ("fleetmeter.Correction", {"numbers": all_numbers, "who": "w", "why": "y"})


UPDATE = ("fleetmeter.SessionUpdate", {"tags_added": ["a"]})


@pytest.mark.parametrize(
    "record",
    [
        event(kind="session_started"),
        event(kind="session_started", detail=UPDATE),
        event(kind="session_updated", detail=UPDATE),
        event(kind="correction", detail=correction(events=-1)),
        event(kind="heartbeat", event_id=""),
        ended(),
        event(session_id="any text"),
        event(session_id="x" * 200),
        event(event_id="x" * 200, writer_id="x" * 200, revision=65_535),
        llm(input_tokens=1_000_000_000, reported_cost_pico_usd=10**17),
        llm(input_tokens=1, cache_read_tokens=2),
        event(start_time_us=946_684_800_000_000, end_time_us=4_102_444_799_999_999),
        event(start_time_us=START_US, end_time_us=START_US - 1),
    ],
)
def test_what_the_rules_allow_is_accepted(record: dict[str, Any]) -> None:
    """Values at their bounds, and what is only odd, are accepted."""
    assert isinstance(verdict(raw(0, record)), Accepted)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (event(key_hash=bytes(16)), Reason.UNKNOWN_KEY),
        (event(session_id=""), Reason.SESSION_ID),
        (event(session_id="x" * 201), Reason.SESSION_ID),
        (event(session_id=SESSION.replace("-", "")), Reason.SESSION_ID),
        (event(session_id=str(UUID(int=255)).upper()), Reason.SESSION_ID),
        (event(event_id=""), Reason.EVENT_ID),
        (event(event_id="é" * 101), Reason.EVENT_ID),
        (event(kind="heartbeat", event_id="x" * 201), Reason.EVENT_ID),
        (event(writer_id="x" * 201), Reason.WRITER_ID),
        (event(writer_id="\U0001f600" * 51), Reason.WRITER_ID),
        (event(revision=65_536), Reason.REVISION),
        (event(revision=-1), Reason.NEGATIVE_NUMBER),
        (event(sequence=-1), Reason.NEGATIVE_NUMBER),
        (llm(input_tokens=-1), Reason.NEGATIVE_NUMBER),
        (llm(reasoning_tokens=-1), Reason.NEGATIVE_NUMBER),
        (llm(time_to_first_token_us=-1), Reason.NEGATIVE_NUMBER),
        (llm(reported_cost_pico_usd=-1), Reason.NEGATIVE_NUMBER),
        (llm(output_tokens=1_000_000_001), Reason.TOKENS_TOO_LARGE),
        (event(cache_write_1h_tokens=2**62), Reason.TOKENS_TOO_LARGE),
        (llm(reported_cost_pico_usd=10**17 + 1), Reason.COST_TOO_LARGE),
        (event(start_time_us=946_684_799_999_999), Reason.TIME_OUT_OF_RANGE),
        (event(start_time_us=4_102_444_800_000_000), Reason.TIME_OUT_OF_RANGE),
        (event(end_time_us=0), Reason.TIME_OUT_OF_RANGE),
        (event(end_time_us=2**63 - 1), Reason.TIME_OUT_OF_RANGE),
        (event(detail=UPDATE), Reason.WRONG_DETAIL),
        (event(kind="session_ended"), Reason.WRONG_DETAIL),
        (event(kind="session_ended", detail=UPDATE), Reason.WRONG_DETAIL),
        (event(kind="correction"), Reason.WRONG_DETAIL),
        (event(kind="heartbeat", detail=UPDATE), Reason.WRONG_DETAIL),
        (
            ended(detail=("fleetmeter.SessionEnd", {"end_state": "Success", "last_sequence": -1})),
            Reason.NEGATIVE_NUMBER,
        ),
        (
            event(
                kind="session_updated",
                detail=("fleetmeter.SessionUpdate", {"name": "x" * DETAIL_BYTES_MAX}),
            ),
            Reason.TOO_LARGE,
        ),
    ],
)
def test_what_the_rules_forbid_is_rejected(record: dict[str, Any], reason: Reason) -> None:
    """Each broken rule has a reason of its own."""
    found = verdict(raw(0, record))
    assert isinstance(found, Rejected)
    assert reason == found.reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NOT_AVRO),
        (b"", Reason.NOT_AVRO),
        (b"{}", Reason.NOT_AVRO),
        (EVENT.header[:9], Reason.NOT_AVRO),
        (MARKER + bytes(8), Reason.UNKNOWN_FINGERPRINT),
        (EVENT.header, Reason.UNDECODABLE),
        (EVENT.encode(event()) + b"x", Reason.UNDECODABLE),
        (EVENT.encode(event(input="x" * 2_000_000)), Reason.TOO_LARGE),
    ],
)
def test_what_is_no_event_is_rejected(value: bytes | None, reason: Reason) -> None:
    """Bytes that are no event are rejected without a project."""
    found = verdict(Raw(0, LOG_TIME_MS, SESSION.encode(), value))
    assert (reason, "") == (found.reason, found.project_id)


@pytest.mark.parametrize("key", [None, b"", b"other"])
def test_the_key_must_be_the_session(key: bytes | None) -> None:
    """A record under another key could be in another partition than its session."""
    assert Reason.WRONG_KEY == verdict(raw(0, event(), key=key)).reason


def test_the_partition_must_be_the_keys() -> None:
    """A writer with another partitioner is found out, and the project is known."""
    right = partition_of(SESSION.encode(), 3)
    for partition in range(3):
        found = Judge(partition, 3, FakeKeys(), EVENT).judge(raw(0, event()))
        if partition == right:
            assert isinstance(found, Accepted)
        else:
            assert isinstance(found, Rejected)
            assert (Reason.WRONG_PARTITION, PROJECT) == (found.reason, found.project_id)


@pytest.mark.parametrize(("log_time_ms", "accepted"), [(99, True), (100, False), (101, False)])
def test_a_revoked_key_holds_for_what_was_written_before(
    log_time_ms: int,
    accepted: bool,  # noqa: FBT001 - a case of the table
) -> None:
    """Revocation is judged by the time at which the broker took the record."""
    keys = FakeKeys({KEY_HASH: Grant(PROJECT, 1, revoked_at_ms=100)})
    found = verdict(raw(0, event(), log_time_ms), keys)
    assert accepted == isinstance(found, Accepted)


@pytest.mark.parametrize(
    ("start_us", "end_us", "skewed"),
    [
        (START_US + 300_000_000, None, False),
        (START_US + 301_000_000, None, True),
        (START_US - DAY_US, None, False),
        (START_US - DAY_US - 1_000, None, True),
        (START_US - 9 * DAY_US, START_US, False),
        (START_US, START_US + 301_000_000, True),
    ],
)
def test_a_clock_that_cannot_be_right_is_flagged(
    start_us: int,
    end_us: int | None,
    skewed: bool,  # noqa: FBT001 - a case of the table
) -> None:
    """The latest time said is compared with the broker's; the event is kept in any case."""
    found = verdict(raw(0, event(start_time_us=start_us, end_time_us=end_us)))
    assert isinstance(found, Accepted)
    assert skewed == found.clock_skewed


def second_schema() -> dict[str, Any]:
    """Event as a later version might have it: a field more, a field of the payload gone."""
    event_schema = schema("Event")
    fields = [field for field in event_schema["fields"] if field["name"] != "logs"]
    added = {"name": "share", "type": "double", "default": 0.5}
    parsed: Any = fastavro.parse_schema(
        {
            "type": "record",
            "name": "fleetmeter.Event",
            "fields": [fields[0], added, *fields[1:]],
        }
    )
    return dict(parsed)


def test_an_event_in_another_schema_is_written_again() -> None:
    """A body in another known schema becomes one in the current schema, and is counted."""
    other = second_schema()
    out = BytesIO()
    fastavro.schemaless_writer(out, other, ended(output="o"))
    value = MARKER + fingerprint_of(other) + out.getvalue()
    judge = Judge(0, 1, FakeKeys(), Codec("Event", other))
    found = judge.judge(Raw(0, LOG_TIME_MS, SESSION.encode(), value))
    assert isinstance(found, Accepted)
    assert EVENT.encode(ended(output="o"))[HEADER_BYTES:] == found.body
    assert judge.rewritten == 1
    longer = Raw(0, LOG_TIME_MS, SESSION.encode(), value + b"x")
    broken = Raw(0, LOG_TIME_MS, SESSION.encode(), value[:-30])
    for record in (longer, broken):
        refused = judge.judge(record)
        assert isinstance(refused, Rejected)
        assert refused.reason == Reason.UNDECODABLE


def test_a_detail_that_nobody_knows_is_undecodable() -> None:
    """A newer schema's kind of detail cannot be carried over: the record waits for repair."""
    event_schema = schema("Event")
    news = {"type": "record", "name": "fleetmeter.News", "fields": [{"name": "x", "type": "int"}]}
    fields = [
        {**field, "type": [*field["type"], news]} if field["name"] == "detail" else field
        for field in event_schema["fields"]
    ]
    parsed: Any = fastavro.parse_schema(
        {"type": "record", "name": "fleetmeter.Event", "fields": fields}
    )
    out = BytesIO()
    fastavro.schemaless_writer(out, parsed, event(detail=("fleetmeter.News", {"x": 1})))
    value = MARKER + fingerprint_of(parsed) + out.getvalue()
    judge = Judge(0, 1, FakeKeys(), Codec("Event", dict(parsed)))
    found = judge.judge(Raw(0, LOG_TIME_MS, SESSION.encode(), value))
    assert isinstance(found, Rejected)
    assert found.reason == Reason.UNDECODABLE


def test_an_array_with_a_size_is_written_again() -> None:
    """A detail whose arrays carry a size, which other readers would trust, loses it."""
    record = event(kind="session_updated", detail=UPDATE)
    plain = EVENT.encode(record)
    array = encode_long(1) + encode_long(1) + b"a"
    assert plain.count(array) == 1
    lying = plain.replace(array, encode_long(-1) + encode_long(99) + array[1:])
    judge = Judge(0, 1, FakeKeys(), EVENT)
    found = judge.judge(Raw(0, LOG_TIME_MS, SESSION.encode(), lying))
    assert isinstance(found, Accepted)
    assert plain[HEADER_BYTES:] == found.body
    assert judge.rewritten == 1


def test_each_reason_is_documented() -> None:
    """docs/dead-letters.md lists all reasons with the meanings that the code has."""
    text = (Path(__file__).parents[3] / "docs" / "dead-letters.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    listed = {reason: rows[reason] for reason in rows if reason in set(Reason)}
    assert {str(reason): meaning for reason, meaning in MEANINGS.items()} == listed
    assert set(Reason) == set(MEANINGS)

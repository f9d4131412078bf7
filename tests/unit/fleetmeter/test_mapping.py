import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from fleetmeter.events import (
    UNFINISHED,
    ActionEvent,
    ErrorEvent,
    Event,
    LLMEvent,
    ToolEvent,
    new_id,
)
from fleetmeter.mapping import event_record, pico_usd, time_us, without_payload

START = "2026-01-02T03:04:05.678901+00:00"
START_US = 1_767_323_045_678_901
NOW_US = START_US + 1_000_000
LIMIT = 1_000_000


def fail(words: str) -> None:
    """Raises."""
    raise LookupError(words)


def mapped(event: Event, payload_bytes_max: int = LIMIT) -> dict[str, Any]:
    """The record without the fields that are empty anyway, attributes parsed."""
    record = dict(event_record(event, NOW_US, payload_bytes_max))
    if "attributes" in record:
        record["attributes"] = json.loads(str(record["attributes"]))
    return {name: value for name, value in record.items() if value not in ("", None)}


def same(event_id: str, kind: str) -> dict[str, object]:
    """What all records of these tests have in common."""
    return {
        "event_id": event_id,
        "kind": kind,
        "start_time_us": START_US,
        "end_time_us": NOW_US,
    }


def test_llm_call() -> None:
    """Every field of an LLM event has its place."""
    event = LLMEvent(
        id="e",
        init_timestamp=START,
        agent_id="a",
        thread_id="t",
        prompt=[{"role": "user", "content": "hi"}],
        prompt_tokens=100,
        completion="hello",
        completion_tokens=50,
        cost="0.000001234567",
        model="m",
        provider="p",
        service_tier="flex",
        cache_read_tokens=60,
        cache_write_5m_tokens=20,
        cache_write_1h_tokens=10,
        reasoning_tokens=30,
        time_to_first_token=0.25,
        params={"temperature": 0},
        parent_id="p1",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id="b7ad6b7169203331",
    )
    assert mapped(event) == same("e", "llm") | {
        "agent_id": "a",
        "parent_id": "p1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "provider": "p",
        "model": "m",
        "service_tier": "flex",
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_tokens": 60,
        "cache_write_5m_tokens": 20,
        "cache_write_1h_tokens": 10,
        "reasoning_tokens": 30,
        "reported_cost_pico_usd": 1_234_567,
        "time_to_first_token_us": 250_000,
        "input": '[{"role":"user","content":"hi"}]',
        "output": "hello",
        "attributes": {"thread_id": "t", "params": '{"temperature":0}'},
    }


def test_tool_call() -> None:
    """A tool's arguments, result, logs and own cost."""
    event = ToolEvent(
        id="e", init_timestamp=START, params={"q": 1}, returns=[2], name="search", logs="l", cost=1
    )
    assert mapped(event) == same("e", "tool") | {
        "name": "search",
        "input": '{"q":1}',
        "output": "[2]",
        "logs": "l",
        "reported_cost_pico_usd": 10**12,
    }


@pytest.mark.parametrize(
    ("event", "kind", "name", "attributes"),
    [
        (ActionEvent("llms"), "llm", None, None),
        (ActionEvent("tools"), "tool", None, None),
        (ActionEvent("search"), "action", "search", None),
        (ActionEvent(action_type="plan"), "action", "plan", None),
        (ActionEvent("apis", action_type="get"), "action", "get", {"event_type": "apis"}),
        (ActionEvent(screenshot="u"), "action", None, {"screenshot": "u"}),
        (Event("session_ended"), "action", "session_ended", None),
        (Event("errors", attributes={"k": 1}), "error", None, {"k": 1}),
        (Event(["odd"]), "action", "['odd']", None),  # type: ignore[arg-type]
    ],
)
def test_event_types(
    event: Event, kind: str, name: str | None, attributes: dict[str, object] | None
) -> None:
    """The event type decides the kind; an unknown word is an action of that name."""
    record = mapped(event)
    assert (record["kind"], record.get("name"), record.get("attributes")) == (
        kind,
        name,
        attributes,
    )


def test_error_of_an_exception() -> None:
    """An exception gives type, message and traceback; the trigger becomes the parent."""
    trigger = ToolEvent(id="t")
    with pytest.raises(LookupError) as caught:
        fail("not there")
    event = ErrorEvent(id="e", init_timestamp=START, trigger_event=trigger, exception=caught.value)
    record = mapped(event)
    assert record.pop("logs").endswith("LookupError: not there\n")
    assert record == same("e", "error") | {
        "error_type": "LookupError",
        "output": "not there",
        "parent_id": "t",
        "attributes": {"trigger_event_type": "tools"},
    }


def test_error_inside_an_except_block() -> None:
    """Without an exception the one being handled is taken."""
    try:
        fail("k")
    except LookupError:
        event = ErrorEvent(code="E1", details={"why": "x"})
    record = mapped(event)
    assert (record["error_type"], record["output"]) == ("LookupError", '{"why":"x"}')
    assert record["attributes"] == {"code": "E1"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (START, START_US),
        ("2026-01-02T03:04:05.678901Z", START_US),
        ("2026-01-02T03:04:05.678901", START_US),
        (datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC), START_US),
        (datetime(2026, 1, 2, 4, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=1))), START_US),
        (datetime(2026, 1, 2, 3, 4, 5, 678_901), START_US),  # noqa: DTZ001 - naive means UTC
        (1_767_323_045, START_US - 678_901),
        (1_767_323_045.678901, START_US),
    ],
)
def test_timestamps(value: object, expected: int) -> None:
    """Every form of a timestamp is exact to the microsecond."""
    assert time_us(value) == expected


@pytest.mark.parametrize(
    "value", ["yesterday", 1_767_323_045_678, True, [], float("nan"), float("inf"), "1999-12-31"]
)
def test_bad_timestamps_are_replaced(value: Any) -> None:
    """What is no time of this century becomes the present, and is named."""
    record = mapped(ActionEvent(init_timestamp=value))
    assert record["start_time_us"] == NOW_US
    assert list(record["attributes"]["invalid"]) == ["init_timestamp"]


def test_unfinished() -> None:
    """An event that never returned has no end."""
    record = event_record(ToolEvent(end_timestamp=UNFINISHED), NOW_US, LIMIT)
    assert record["end_time_us"] is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1114.12781910", 1_114_127_819_100_000),
        (0.1, 100_000_000_000),
        (Decimal("0.0000000000005"), 0),
        (Decimal("0.0000000000015"), 2),
        (0, 0),
        (100_000, 10**17),
    ],
)
def test_money_is_exact(value: object, expected: int) -> None:
    """Dollars become pico-dollars as they were written, halves to even."""
    assert pico_usd(value) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_tokens", -1),
        ("completion_tokens", 1.5),
        ("cache_read_tokens", "many"),
        ("reasoning_tokens", 1_000_000_001),
        ("prompt_tokens", float("inf")),
        ("cost", "free"),
        ("cost", -0.1),
        ("cost", float("nan")),
        ("cost", 100_001),
        ("time_to_first_token", "soon"),
        ("time_to_first_token", -1),
    ],
)
def test_bad_numbers_are_left_out(name: str, value: Any) -> None:
    """A number that would be refused is left out, and named."""
    record = mapped(LLMEvent(id="e", init_timestamp=START, **{name: value}))
    assert record == same("e", "llm") | {"attributes": {"invalid": {name: str(value)}}}


def test_long_payloads_are_cut_and_marked() -> None:
    """A payload over the limit is cut, and the attributes say so and how long it was."""
    record = mapped(ActionEvent(params="p" * 900, returns="short", attributes={"k": 1}), 500)
    assert record["input"] == "p" * 488
    assert record["output"] == "short"
    assert record["attributes"] == {"k": 1, "truncated": True, "original_bytes": {"input": 900}}


def test_long_attributes_are_dropped() -> None:
    """Attributes that do not fit are dropped whole: they stay one JSON object."""
    record = mapped(ActionEvent(screenshot="s" * 5_000), 500)
    assert record["attributes"] == {"truncated": True, "original_bytes": {"attributes": 5017}}


def test_without_payload() -> None:
    """Numbers and names stay when the payload must not be sent."""
    record = event_record(LLMEvent(prompt="secret", model="m", prompt_tokens=3), NOW_US, LIMIT)
    bare = without_payload(record, "before_send failed")
    assert "secret" not in str(bare)
    assert (bare["model"], bare["input_tokens"]) == ("m", 3)
    assert bare["attributes"] == '{"payload_dropped":"before_send failed"}'


def test_ids_ascend() -> None:
    """Event ids are unique UUIDs of version 7."""
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(len(one), one[14], one[19] in "89ab") for one in ids} == {(36, "7", True)}
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)

"""The shapes of an export's events."""

import orjson
import pytest

from api_fakes import START_US, row
from fleetmeter_api.export_rows import exported, parsed


def as_json(**values: object) -> dict[str, object]:
    """An event as the client reads it."""
    found: dict[str, object] = orjson.loads(orjson.dumps(exported(row(**values))))
    return found


def test_llm_has_agentops_fields() -> None:
    """An LLM event has AgentOps' names, tokens as they are known, and its cost as text."""
    told = as_json(
        input="hi",
        output='{"role": "assistant", "content": "ho"}',
        model="m",
        input_tokens=10,
        cache_write_5m_tokens=2,
        cost_pico_usd=1_000,
        end_us=START_US + 1,
        attributes='{"thread_id": "t"}',
    )
    expected = {
        "id": "e1",
        "agent_id": None,
        "init_timestamp": "2025-10-09T08:53:20.000000+00:00",
        "end_timestamp": "2025-10-09T08:53:20.000001+00:00",
        "prompt": {"type": "string", "string": "hi"},
        "completion": {
            "type": "chatml",
            "messages": {"role": "assistant", "content": "ho"},
        },
        "params": "",
        "model": "m",
        "thread_id": "t",
        "prompt_tokens": 10,
        "completion_tokens": None,
        "cache_read_tokens": None,
        "cache_write_tokens": 2,
        "cost": "0.000000001",
        "attributes": {"thread_id": "t"},
    }
    assert {name: told[name] for name in expected} == expected


def test_unknown_cost_is_null() -> None:
    """A call without a price has no cost, not a cost of nothing."""
    assert as_json()["cost"] is None


def test_tool_has_its_name_and_payload() -> None:
    """A tool event tells what went in and out."""
    told = as_json(kind="tool", name="search", input="q", output="r", logs="l", agent_id="a")
    found = [told[name] for name in ("name", "params", "returns", "logs", "agent_id")]
    assert found == ["search", "q", "r", "l", "a"]


def test_action_has_type_and_screenshot() -> None:
    """An action tells its type, and its screenshot where there is one."""
    told = as_json(kind="action", name="click", attributes='{"screenshot": "s.png"}')
    assert (told["action_type"], told["screenshot"]) == ("click", "s.png")


def test_error_has_its_trigger() -> None:
    """An error tells what caused it, in AgentOps' words."""
    told = as_json(
        kind="error",
        error_type="ValueError",
        parent_id="e7",
        output="no",
        logs="trace",
        attributes='{"code": 5, "trigger_event_type": "tools"}',
    )
    expected = {
        "trigger_event_id": "e7",
        "trigger_event_type": "tools",
        "error_type": "ValueError",
        "code": 5,
        "details": "no",
        "logs": "trace",
        "timestamp": "2025-10-09T08:53:20.000000+00:00",
    }
    assert {name: told[name] for name in expected} == expected


@pytest.mark.parametrize(
    "text", ["", "plain", "[1, NaN]", "{broken", "null", '"text"', "17", '["\\ud83d"]']
)
def test_what_is_no_message_is_a_string(text: str) -> None:
    """Text that is not JSON's list or object stays the text that it was."""
    assert as_json(input=text)["prompt"] == {"type": "string", "string": text}


def test_numbers_in_payloads_keep_their_digits() -> None:
    """JSON in a payload is passed on as it stands: large integers are not rounded."""
    data = orjson.dumps(exported(row(input='[{"n": 12345678901234567890123}]')))
    assert b"12345678901234567890123" in data


def test_attributes_that_are_no_object_stay_text() -> None:
    """Attributes cut in the middle do not break the export."""
    told = [as_json(attributes=text)["attributes"] for text in ("", '{"a": ', '{"a": 1}')]
    assert told == [None, '{"a": ', {"a": 1}]


@pytest.mark.parametrize("text", [None, "", "[1]", "{broken", '"x"'])
def test_what_is_no_object_is_empty(text: str | None) -> None:
    """Only a JSON object has members."""
    assert parsed(text) == {}

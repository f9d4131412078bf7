from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from fleetmeter import UNFINISHED, ActionEvent, ErrorEvent, Event, LLMEvent, ToolEvent
from fleetmeter_local import recompute, recorded
from fleetmeter_local.replay_events import event_of

ID = UUID("12345678-1234-4234-8234-123456789abc")
COMMON = {"start_ms": 1_767_621_256_903, "end_ms": 1_767_621_261_281, "agent": "a"}


def mapped(**fields: Any) -> Event:
    """The SDK's event for a recorded one."""
    return event_of({**COMMON, **fields}, ID)


def test_a_call_says_its_whole_input() -> None:
    """The SDK's prompt tokens contain the cache, the file's do not."""
    event = mapped(
        kind="llm",
        provider="anthropic",
        model="m",
        input_tokens=10,
        cache_read_tokens=200,
        cache_write_5m_tokens=30,
        cache_write_1h_tokens=4,
        output_tokens=7,
        completion_chars=99,
        stop_reason=None,
    )
    assert isinstance(event, LLMEvent)
    counts = (event.prompt_tokens, event.completion_tokens, event.cache_read_tokens)
    assert (244, 7, 200) == counts
    assert (30, 4) == (event.cache_write_5m_tokens, event.cache_write_1h_tokens)
    assert ("anthropic", "m") == (event.provider, event.model)
    assert {"completion_chars": 99} == event.attributes


@pytest.mark.parametrize(("is_error", "error_type"), [(True, "tool_error"), (False, None)])
def test_a_failed_tool_says_so(is_error: bool, error_type: str | None) -> None:  # noqa: FBT001
    """`is_error` becomes the error's type, and is kept as it was."""
    event = mapped(kind="tool", name="Glob", input_chars=33, is_error=is_error)
    assert isinstance(event, ToolEvent)
    assert ("Glob", error_type) == (event.name, event.error_type)
    assert {"input_chars": 33, "is_error": is_error} == event.attributes


def test_an_action_keeps_its_name() -> None:
    """The SDK counts a word it does not know as an action of that name."""
    event = mapped(kind="action", name="prompt", input_chars=3)
    assert isinstance(event, ActionEvent)
    assert "prompt" == event.event_type


def test_an_error_keeps_type_and_trigger() -> None:
    """The trigger is a tool's name, not an event."""
    event = mapped(kind="error", error_type="api_error", trigger="Bash")
    assert isinstance(event, ErrorEvent)
    assert ("api_error", {"trigger": "Bash"}) == (event.error_type, event.attributes)


def test_times_are_the_recorded_ones() -> None:
    """To the millisecond; what never returned has no end, and not the present."""
    event = mapped(kind="action", name="prompt")
    assert datetime(2026, 1, 5, 13, 54, 16, 903_000, UTC) == event.init_timestamp
    assert datetime(2026, 1, 5, 13, 54, 21, 281_000, UTC) == event.end_timestamp
    assert UNFINISHED == mapped(kind="tool", name="x", end_ms=None).end_timestamp
    assert str(ID) == event.id


def test_the_whole_demo_file_maps_to_the_same_tokens() -> None:
    """What the SDK is given adds up to what the independent recomputation says."""
    total = recompute.empty()
    given = {"input": 0, "output": 0, "cache_read": 0, "cache_write": 0, "reasoning": 0}
    for session in recorded.read(recorded.demo_file()):
        total.add(recompute.expected(session))
        for each in session.events:
            event = event_of(each, ID)
            if isinstance(event, LLMEvent):
                given["input"] += event.prompt_tokens or 0
                given["output"] += event.completion_tokens or 0
                given["cache_read"] += event.cache_read_tokens or 0
                given["cache_write"] += event.cache_write_5m_tokens or 0
                given["cache_write"] += event.cache_write_1h_tokens or 0
    assert total.tokens == given

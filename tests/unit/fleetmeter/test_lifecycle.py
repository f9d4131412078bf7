from typing import Any

import pytest

from fleetmeter import lifecycle
from fleetmeter.encoding import decode, encode
from fleetmeter_schemas.records import Event

WHO: Event = {"key_hash": bytes(16), "session_id": "s", "writer_id": "w", "sequence": 1}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Success", "Success"),
        ("Failure", "Failure"),
        ("Fail", "Failure"),
        ("Indeterminate", "Indeterminate"),
    ],
)
def test_end_states(said: str, expected: str) -> None:
    """The canonical state is written beside the word that was said."""
    record = lifecycle.ended("e", 5, lifecycle.end(said, "why", None, 9))
    said_back: Any = decode(encode(record | WHO))["detail"]
    assert said_back == {
        "end_state": expected,
        "end_state_said": said,
        "reason": "why",
        "last_sequence": 9,
        "video": None,
    }


@pytest.mark.parametrize("said", ["success", "", "Shutdown", None, 1, ["Success"]])
def test_other_end_states_are_refused(said: object) -> None:
    """Any other word is a ValueError that lists the good ones."""
    with pytest.raises(ValueError, match="Indeterminate, Success, Failure, Fail"):
        lifecycle.end_state_of(said)


def test_started() -> None:
    """A start carries name, user, tags and the host under its own name."""
    update = lifecycle.update(name="n", user_id="u", tags_set=["a", "\ud83d"])
    record = decode(encode(lifecycle.started("e", 5, update, {"os": "Linux"}) | WHO))
    assert record["attributes"] == '{"host_environment":{"os":"Linux"}}'
    told: Any = record["detail"]
    assert told == {
        "name": "n",
        "user_id": "u",
        "video": None,
        "tags_set": ["a", "?"],
        "tags_added": [],
        "agents": {},
    }


def test_reasons_are_bounded() -> None:
    """A reason of any length fits."""
    end = lifecycle.end("Failure", "r" * 100_000, None, 1)
    assert len(end["reason"]) == lifecycle.REASON_CHARS_MAX


def test_reasons_may_be_anything() -> None:
    """A reason that is no text is written as text: the end must not fail on it."""
    assert lifecycle.end("Failure", LookupError("lost"), None, 1)["reason"] == "lost"

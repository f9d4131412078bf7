from typing import Any

import pytest
from rich.console import Console

from fleetmeter_local.verification import Verification, as_json, shown


def verdict(session_id: str, *, agrees: bool | None) -> dict[str, Any]:
    """What the api says of one session."""
    differences = {"events": {"snapshot": 2, "recomputed": 1}} if agrees is False else {}
    return {"session_id": session_id, "agrees": agrees, "differences": differences}


def text_of(found: Verification) -> str:
    """What a person sees."""
    console = Console(width=120)
    with console.capture() as seen:
        console.print(shown(found))
    return seen.get()


@pytest.mark.parametrize(
    ("verdicts", "agree"),
    [([True, True], True), ([], True), ([True, False], False), ([True, None], False)],
)
def test_only_sessions_that_were_compared_agree(
    verdicts: list[bool | None],
    agree: bool,  # noqa: FBT001
) -> None:
    """What could not be compared in time is no agreement."""
    found = Verification()
    for place, agrees in enumerate(verdicts):
        found.add(verdict(str(place), agrees=agrees))
    assert (agree, len(verdicts)) == (found.agree, as_json(found)["checked"])


def test_a_difference_is_shown_from_both_sides() -> None:
    """The session, the number, and what either side says."""
    found = Verification()
    found.add(verdict("s-1", agrees=False))
    seen = text_of(found)
    for part in ("s-1", "events", "2", "1", "Of 1 sessions 1 differ"):
        assert part in seen

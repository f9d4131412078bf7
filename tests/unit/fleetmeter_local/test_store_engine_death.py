"""What the store does when the engine answers that it broke down."""

import os
from typing import Never

import pytest

from fleetmeter_local import store
from fleetmeter_local.store_engine import EngineError

DIED = "Code: 236. DB::Exception: The server is shutting down due to a fatal error. (ABORTED)"
STOPPED = "Code: 236. DB::Exception: Cancelled merging parts. (ABORTED)"


class Ended(Exception):  # noqa: N818 - what happened
    """The process would have ended."""


def _end(status: int) -> Never:
    raise Ended(status)


def test_an_engine_that_died_ends_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that finds the engine dead ends the process with 70."""
    monkeypatch.setattr(os, "_exit", _end)
    with pytest.raises(Ended) as ended:
        store.refusal(EngineError(DIED))
    assert ended.value.args == (store.EXIT_CRASHED,)


@pytest.mark.parametrize("text", [STOPPED, f"Code: 62. DB::Exception: Syntax error: {DIED}"])
def test_other_refusals_do_not(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Whatever else the engine refuses, also with that code or those words, is an answer."""
    monkeypatch.setattr(os, "_exit", _end)
    assert 500 == store.refusal(EngineError(text)).status_code

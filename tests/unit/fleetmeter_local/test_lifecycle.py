import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetmeter_local import lifecycle, readiness
from fleetmeter_local import stack as stacks
from fleetmeter_schemas.errors import Unavailable


@pytest.fixture
def hang_up_ignored() -> Iterator[None]:
    """Ignore SIGHUP, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_signal_ends_what_the_block_started() -> None:
    """SIGTERM becomes SystemExit inside, and is handled as before behind it."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, lifecycle.ended_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert 128 + signal.SIGTERM == stopped.value.code
    assert before == signal.getsignal(signal.SIGTERM)


@pytest.mark.usefixtures("hang_up_ignored")
def test_nohup_is_respected() -> None:
    """A stack that was started to outlive its terminal does."""
    with lifecycle.ended_by_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.SIG_IGN == signal.getsignal(signal.SIGHUP)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_not_cut_in_half(number: signal.Signals) -> None:
    """A further signal while everything is stopped does nothing."""
    with lifecycle.ended_by_signals(), lifecycle.uninterrupted():
        os.kill(os.getpid(), number)


def test_a_stack_that_is_taken_down_while_it_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever waits for it hears that in one sentence."""
    monkeypatch.setattr(readiness, "why_not_ready", lambda *_: "does not answer")
    stack = stacks.plan(tmp_path, None, {})
    with pytest.raises(Unavailable, match="kafka does not start: does not answer"):
        lifecycle._await_ready(stack, "kafka", 60, Silent())


class Silent:
    """A display that shows nothing."""

    def waiting_for(self, what: str) -> None:
        """Nothing is shown."""

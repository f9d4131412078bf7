import json
from pathlib import Path

import pytest

from fleetmeter_local.last_words import last_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        (json.dumps({"event": "process.stopped"}), "process.stopped"),
        (json.dumps({"event": "dependency.awaited", "why": "no brokers"}), "no brokers"),
        (
            json.dumps({"event": "x", "exception": "Traceback\n  here\nTypeError: no"}),
            "TypeError: no",
        ),
        ("[1]", "[1]"),
    ],
)
def test_the_last_line_is_told_in_words(tmp_path: Path, text: str, expected: str) -> None:
    """Of a JSON line the part that says why."""
    log = tmp_path / "process.log"
    log.write_text(text)
    assert expected == last_words(log)


def test_a_process_that_never_spoke_says_nothing(tmp_path: Path) -> None:
    """No log file is no error."""
    assert "" == last_words(tmp_path / "absent.log")

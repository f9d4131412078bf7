import gzip
import json
from pathlib import Path

import pytest

from fleetmeter_local import recorded
from fleetmeter_schemas.errors import ConfigError

LINE = json.dumps(
    {
        "session": "a",
        "start_ms": 1,
        "last_ms": 1,
        "end_state": None,
        "events": [{"kind": "action", "start_ms": 1, "end_ms": None, "agent": "b"}],
    }
)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_plain_and_packed_files_are_read_alike(tmp_path: Path, pack: type[bytes]) -> None:
    """Gzip is told by its content, whatever the name; empty lines are nothing."""
    file = tmp_path / "sessions.any"
    file.write_bytes(pack(f"{LINE}\n\n{LINE}\n".encode()))
    assert [1, 3] == [session.line for session in recorded.read(file)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"session": "a", "events": []}', "KeyError: 'end_state'"),
        ('{"session": "a", "events": [], "end_state": "Fine"}', "end_state 'Fine'"),
        (LINE.replace("action", "dance"), "kind 'dance'"),
        (LINE.replace('"start_ms": 1,', '"start_ms": "1",'), "start_ms is not a whole number"),
    ],
)
def test_a_line_that_is_no_session_is_named(tmp_path: Path, line: str, why: str) -> None:
    """The message says which line and why."""
    file = tmp_path / "bad.jsonl"
    file.write_text(f"{LINE}\n{line}\n")
    with pytest.raises(ConfigError, match="line 2: not a recorded session") as caught:
        list(recorded.read(file))
    assert why in str(caught.value)


def test_a_missing_or_broken_file_is_one_sentence(tmp_path: Path) -> None:
    """No traceback for what a user can get wrong."""
    with pytest.raises(ConfigError, match="cannot read"):
        list(recorded.read(tmp_path / "absent"))
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(LINE.encode())[:-12])
    with pytest.raises(ConfigError, match="cannot read"):
        list(recorded.read(broken))

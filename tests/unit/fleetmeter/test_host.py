import json
import os
from pathlib import Path

import pytest

from fleetmeter.host import host_environment, memory_bytes


def test_small_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few facts; no value of a variable, no path, no user's name."""
    monkeypatch.setenv("SOME_TOKEN", "sesame-open-up")
    text = json.dumps(host_environment())
    assert len(text) < 1_000
    assert "sesame-open-up" not in text
    assert os.getcwd() not in text  # noqa: PTH109 - as text
    assert "/" not in text


def test_memory(tmp_path: Path) -> None:
    """Total memory is read from Linux' own table, and unknown elsewhere."""
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       24570000 kB\nMemFree: 1 kB\n")
    assert memory_bytes(table) == 24_570_000 * 1024
    assert memory_bytes(tmp_path / "missing") is None

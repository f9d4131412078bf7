"""What a process said last, in one line for people; reads log files, keeps nothing."""

import json
from pathlib import Path

TAIL_BYTES = 20_000
LENGTH_MAX = 300


def last_words(log: Path) -> str:
    """The last line of a log; of a JSON line the exception, the reason or the event in it."""
    try:
        lines = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return _words(lines[-1].strip())[:LENGTH_MAX] if lines else ""


def _words(line: str) -> str:
    try:
        said = json.loads(line)
    except ValueError:
        return line
    if not isinstance(said, dict):
        return line
    if said.get("exception"):
        return str(said["exception"]).strip().splitlines()[-1]
    return str(said.get("why") or said.get("event") or line)

"""Shows the api's answers about sessions to people; asks nothing."""

from typing import Any

from rich.table import Table

_COLUMNS = {
    "session_id": "session",
    "state": "state",
    "end_state": "end state",
    "init_timestamp": "started",
    "events": "events",
    "total_tokens": "tokens",
    "cost": "cost",
    "name": "name",
}
_RIGHT = ("events", "total_tokens", "cost")


def listed(answer: dict[str, Any]) -> Table:
    """A list of sessions, as the api gives it, one row each."""
    rows = answer["sessions"]
    table = Table(title="Sessions", caption=None if rows else "none yet")
    for key, name in _COLUMNS.items():
        table.add_column(name, justify="right" if key in _RIGHT else "left")
    for row in rows:
        table.add_row(*(_cell(key, row.get(key)) for key in _COLUMNS))
    return table


def one(answer: dict[str, Any]) -> Table:
    """The stats of one session, one line each."""
    table = Table(title=f"Session {answer['session_id']}", show_header=False)
    table.add_column("what")
    table.add_column("value")
    for key, value in answer.items():
        if key != "session_id":
            table.add_row(key.replace("_", " "), _cell(key, value))
    return table


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "cost":
        return f"${value}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)

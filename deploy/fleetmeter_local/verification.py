"""Asks the api to compare sessions with their events, and shows the verdict; compares nothing."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleetmeter_local.observed import ApiReader

PAGE_SESSIONS = 200
SHOWN_MAX = 20


@dataclass(slots=True, kw_only=True)
class Verification:
    """The api's verdicts: how many sessions agree, and those that differ or could not be told."""

    checked: int = 0
    differing: list[dict[str, Any]] = field(default_factory=list)
    undecided: list[dict[str, Any]] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        """Whether all sessions were compared and none differs."""
        return not self.differing and not self.undecided

    def add(self, verdict: dict[str, Any]) -> None:
        """Count one session's verdict."""
        self.checked += 1
        if verdict["agrees"] is None:
            self.undecided.append(verdict)
        elif not verdict["agrees"]:
            self.differing.append(verdict)


def verify(api: ApiReader, session_id: str | None) -> Verification:
    """The verdict on one session, or on all of the project."""
    found = Verification()
    if session_id is not None:
        found.add(api.get(f"/v1/sessions/{quote(session_id, safe='')}/verify"))
        return found
    cursor: str | None = ""
    while cursor is not None:
        page = api.get("/v1/verify", limit=PAGE_SESSIONS, cursor=cursor)
        for verdict in page["sessions"]:
            found.add(verdict)
        cursor = page["next_cursor"] or None
    return found


def as_json(found: Verification) -> dict[str, Any]:
    """The verdict for programs."""
    return {
        "agree": found.agree,
        "checked": found.checked,
        "differing": found.differing,
        "undecided": found.undecided,
    }


def shown(found: Verification) -> RenderableType:
    """One sentence, and what differs."""
    if found.agree:
        text = f"{found.checked:,} sessions agree with a recomputation from their events."
        return Text(text, style="green")
    wrong = len(found.differing)
    late = len(found.undecided)
    text = f"Of {found.checked:,} sessions {wrong:,} differ, {late:,} could not be compared yet."
    return Group(_differences(found.differing), Text(text, style="bold red"))


def _differences(differing: list[dict[str, Any]]) -> Table:
    left = len(differing) - SHOWN_MAX
    table = Table(title="Differences", caption=f"and {left} more" if left > 0 else None)
    for name in ("session", "number", "snapshot", "from the events"):
        table.add_column(name)
    for verdict in differing[:SHOWN_MAX]:
        for name, both in verdict["differences"].items():
            numbers = (f"{both['snapshot']:,}", f"{both['recomputed']:,}")
            table.add_row(verdict["session_id"], name, *numbers)
    return table

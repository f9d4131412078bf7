"""Shows a replay to people: a progress bar on stderr, tables at the end. Decides nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from fleetmeter_local import comparison, screen
from fleetmeter_local.comparison import Mismatch
from fleetmeter_local.observed import ModelCost
from fleetmeter_local.replay import Result

MISMATCHES_SHOWN_MAX = 20
DIGITS_MIN = 8
_PHASES = {
    "sending": "events acknowledged",
    "landing": "events in the tables",
    "closing": "sessions closed",
    "comparing": "comparing",
}


_LABELS = {
    "tokens.input": "tokens in",
    "tokens.output": "tokens out",
    "cost_usd": "cost",
    "unpriced_events": "without price",
}


class Bars:
    """One progress bar a phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def phase(self, text: str, total: int) -> None:
        """A new phase began, with so many steps."""
        self._task = self._progress.add_task(_PHASES.get(text, text), total=total)

    def reached(self, steps: int) -> None:
        """So many steps of the phase are done."""
        assert self._task is not None  # noqa: S101
        self._progress.update(self._task, completed=steps)


@contextmanager
def bars() -> Iterator[Bars]:
    """Show progress on stderr while the block runs."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen.progress()) as progress:
        yield Bars(progress)


def report(result: Result) -> RenderableType:
    """Everything there is to say about a replay."""
    parts: list[RenderableType] = [totals(result), ends(result), models(result.models)]
    if result.mismatches:
        parts.append(differences(result.mismatches))
    parts.append(verdict(result))
    return Group(*parts)


def _table(title: str) -> Table:
    """A table narrow enough for eighty columns."""
    return Table(title=f"\n{title}", title_justify="left", box=None, padding=(0, 1, 0, 0))


def totals(result: Result) -> Table:
    """What the file adds up to, beside what each source says."""
    table = _table(f"Replayed into project {result.project}")
    table.add_column("", no_wrap=True)
    for name in ("file", "api", "events table", "sessions table"):
        table.add_column(name, justify="right", no_wrap=True)
    wanted = {session_id: each.totals for session_id, each in result.expected.items()}
    sources = [wanted, *(result.observed.source(name) for name in comparison.SOURCES)]
    table.add_row("sessions", *(f"{len(each):,}" for each in sources))
    sums = [comparison.summed(each) for each in sources]
    table.add_row("events", *(f"{sum(each.events.values()):,}" for each in sums))
    rows = [comparison.flat(each) for each in sums]
    for field in rows[0]:
        cells = [shown(row[field]) for row in rows]
        table.add_row(_label(field), *_marked(cells))
    return table


def _label(field: str) -> str:
    _, _, name = field.partition(".")
    return _LABELS.get(field) or f"  {name.replace('_', ' ')}"


def _marked(cells: list[str]) -> list[Text]:
    """The cells; those that differ from the first one in red."""
    return [Text(cell, style="" if cell == cells[0] else "bold red") for cell in cells]


def shown(value: int | Decimal) -> str:
    """The number as people read it; money exact, in columns that line up."""
    if isinstance(value, Decimal):
        whole, _, digits = comparison.money(value).partition(".")
        return f"${int(whole):,}.{digits:0<{DIGITS_MIN}}"
    return f"{value:,}"


def ends(result: Result) -> Table:
    """How the sessions ended, and why."""
    table = _table("End states")
    table.add_column("end state")
    table.add_column("reason")
    table.add_column("sessions", justify="right")
    counts: dict[tuple[str, str], int] = {}
    for session_id in result.expected:
        ended = result.observed.ended.get(session_id)
        key = (ended.state, ended.reason) if ended else ("missing", "")
        counts[key] = counts.get(key, 0) + 1
    for (state, reason), count in sorted(counts.items()):
        table.add_row(state, reason, f"{count:,}")
    return table


def models(costs: list[ModelCost]) -> Table:
    """What each model cost."""
    table = _table("Cost by model")
    table.add_column("model", no_wrap=True)
    for name in ("calls", "tokens in", "tokens out", "cost", "no price"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in costs:
        numbers = (each.calls, each.input_tokens, each.output_tokens, each.cost_usd, each.unpriced)
        table.add_row(each.model, *(shown(number) for number in numbers))
    return table


def differences(mismatches: list[Mismatch]) -> Table:
    """The first of the numbers that differ."""
    left = len(mismatches) - MISMATCHES_SHOWN_MAX
    table = Table(title="Mismatches", caption=f"and {left} more" if left > 0 else None)
    for name in ("session", "recorded as", "source", "field", "expected", "actual"):
        table.add_column(name)
    for each in mismatches[:MISMATCHES_SHOWN_MAX]:
        where = (each.session_id, each.recorded_as, each.source, each.field)
        table.add_row(*where, each.expected, each.actual)
    return table


def verdict(result: Result) -> Text:
    """The one sentence that counts."""
    sent = comparison.summed({sid: each.totals for sid, each in result.expected.items()})
    count = sum(sent.events.values())
    speed = f"{count / max(result.send_seconds, 0.001):,.0f} events/s sent"
    if result.mismatches:
        wrong = len({each.session_id for each in result.mismatches})
        return Text(f"{wrong} sessions differ from what was sent ({speed}).", style="bold red")
    exact = f"All {len(result.expected):,} sessions are exactly as they were sent"
    return Text(f"{exact}: {count:,} events, {shown(sent.cost_usd)} ({speed}).", style="green")

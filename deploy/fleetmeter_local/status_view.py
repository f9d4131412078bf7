"""Shows a stack's state and the doctor's findings to people; examines nothing."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleetmeter_local.doctor import Finding
from fleetmeter_local.durations import write_ms
from fleetmeter_local.lag import READS, Lag
from fleetmeter_local.status import Status


def table(now: Status) -> RenderableType:
    """The processes of a stack, and how far behind they are."""
    if not now.is_running:
        return Text(f"Nothing is running in {now.stack.data_dir} (start it: fleetmeter up).")
    shown = Table(title=f"Stack in {now.stack.data_dir}")
    for name in ("process", "state", "pid", "port", "up", "restarts", "ready"):
        shown.add_column(name)
    for each in now.processes:
        ready = Text("yes", style="green") if each.is_ready else Text(each.why, style="red")
        shown.add_row(
            each.name,
            each.state.lower(),
            str(each.pid or ""),
            str(each.port),
            write_ms(each.uptime_seconds * 1000),
            str(each.restarts),
            ready,
        )
    parts: list[RenderableType] = [shown, Text(f"api {now.stack.api_url}")]
    if now.lags is not None:
        parts.append(_lags(now.lags))
    if now.open_sessions is not None:
        parts.append(Text(f"open sessions: {now.open_sessions:,}"))
    return Group(*parts)


def _lags(lags: list[Lag]) -> Table:
    shown = Table(title="Records still to read, by partition")
    shown.add_column("process")
    partitions = sorted({each.partition for each in lags})
    for partition in partitions:
        shown.add_column(str(partition), justify="right")
    found = {(each.process, each.partition): each for each in lags}
    for process in READS:
        cells = (found.get((process, partition)) for partition in partitions)
        shown.add_row(process, *(f"{each.records:,}" if each else "" for each in cells))
    return shown


def findings(found: list[Finding]) -> RenderableType:
    """What was looked at, and the repairs."""
    shown = Table(title="Doctor")
    for name in ("", "what", "repair"):
        shown.add_column(name, overflow="fold")
    for each in found:
        style = "green" if each.is_well else "red"
        shown.add_row(Text(each.name, style=style), each.what, each.repair)
    return shown

"""Shows a start to people: what is waited for, then how to use the stack. Starts nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

from fleetmeter_local import screen
from fleetmeter_local import stack as stacks
from fleetmeter_local.lifecycle import Started


class Steps:
    """One line that says what is waited for."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def waiting_for(self, what: str) -> None:
        """This is being waited for now."""
        self._status.update(f"Waiting for {what} …")


@contextmanager
def steps() -> Iterator[Steps]:
    """Show on stderr what is waited for while the block runs."""
    with screen.progress().status("Starting …") as status:
        yield Steps(status)


def summary(started: Started, *, stays: bool) -> RenderableType:
    """Where everything is, and what to do first."""
    stack = started.stack
    table = Table.grid(padding=(0, 2))
    table.add_row("api", f"{stack.api_url}/docs")
    table.add_row("Kafka", stack.bootstrap_servers)
    table.add_row("data", str(stack.data_dir))
    table.add_row("project", stacks.PROJECT_DEFAULT)
    if started.is_first:
        table.add_row("API key", Text(started.api_key, style="bold"))
    else:
        table.add_row("API key", f"in {stack.data_dir / 'api_key'}")
    head = Text(f"fleetmeter is ready after {started.seconds:.1f} s.", style="green")
    use = Text('Use it from a program: eval "$(fleetmeter env)"')
    stop = Text("Ctrl-C stops it." if stays else "Stop it: fleetmeter down")
    return Group(head, table, use, stop)

"""Where the commands print: the terminal as wide as it is, files and pipes wide enough."""

import sys

from rich.console import Console

# Cut ids and numbers are of no use in a file, which has no width of its own.
WIDTH_OF_FILES = 160


def console() -> Console:
    """Standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


def progress() -> Console:
    """Standard error, for what is gone when the command is done."""
    return Console(stderr=True)

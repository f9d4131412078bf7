"""What `@tool(name=…)` and its like return: a decorator that can also stand in a `with`."""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Generic, TypeVar

from fleetmeter.spans import Span

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Marker(Generic[T]):
    """Decorates a function, or surrounds one block; `with` (or `async with`) gives the subject.

    Args:
        decorate: The function or class in, the recording one out.
        open_block: The subject of a block, and its span; None where nothing is recorded.
    """

    def __init__(
        self, decorate: Callable[[Any], Any], open_block: Callable[[], tuple[T, Span | None]]
    ) -> None:
        self._decorate = decorate
        self._open_block = open_block
        self._inside: list[tuple[Span | None, ExitStack]] = []

    def __call__(self, target: F) -> F:
        """The decorated function or class."""
        decorated: F = self._decorate(target)
        return decorated

    def __enter__(self) -> T:
        subject, span = self._open_block()
        stack = ExitStack()
        if span is not None:
            stack.enter_context(span.inside())
        self._inside.append((span, stack))
        return subject

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        span, stack = self._inside.pop()
        stack.close()
        if span is not None:
            span.finish(None, error)

    async def __aenter__(self) -> T:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

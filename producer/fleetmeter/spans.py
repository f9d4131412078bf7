"""What a decorated call is: something to be inside of, and to finish. Wraps functions in it."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol

_SELF = ("self", "cls")


class Span(Protocol):
    """One call. A generator is inside only while it runs, not while its caller does."""

    def inside(self) -> AbstractContextManager[None]:
        """Makes the span the surroundings of what runs in the block."""

    def finish(self, returns: object, error: BaseException | None) -> None:
        """The call has returned or raised. Never raises."""


OpenSpan = Callable[[tuple[Any, ...], dict[str, Any]], Span | None]
"""Makes the span of a call from its arguments; None: just call."""


def wrapped(function: Any, open_span: OpenSpan) -> Any:
    """The function, each of its calls in a span; of the same sort as before."""
    if inspect.isasyncgenfunction(function):
        wrapper: Any = _async_generator(function, open_span)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, open_span)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, open_span)
    else:
        wrapper = _plain(function, open_span)
    return functools.wraps(function)(wrapper)


@contextmanager
def setting(variable: ContextVar[Any], value: object) -> Iterator[None]:
    """The variable has this value in the block."""
    token = variable.set(value)
    try:
        yield
    finally:
        # A generator may be closed from another context than the one it ran in.
        with suppress(ValueError):
            variable.reset(token)


def arguments_of(
    function: Callable[..., Any],
) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """What turns a call's arguments into a dict by the function's own names."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return lambda args, kwargs: {"args": args, "kwargs": kwargs}
    first = next(iter(signature.parameters), "")

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:
            # The call itself is going to fail, and says so better.
            return {"args": args, "kwargs": kwargs}
        if first in _SELF:
            bound.pop(first, None)
        return bound

    return bind


def _plain(function: Callable[..., Any], open_span: OpenSpan) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        span = open_span(args, kwargs)
        if span is None:
            return function(*args, **kwargs)
        try:
            with span.inside():
                result = function(*args, **kwargs)
        except BaseException as error:
            span.finish(None, error)
            raise
        span.finish(result, None)
        return result

    return call


def _coroutine(function: Callable[..., Any], open_span: OpenSpan) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        span = open_span(args, kwargs)
        if span is None:
            return await function(*args, **kwargs)
        try:
            with span.inside():
                result = await function(*args, **kwargs)
        except BaseException as error:
            span.finish(None, error)
            raise
        span.finish(result, None)
        return result

    return call


def _generator(function: Callable[..., Any], open_span: OpenSpan) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        span = open_span(args, kwargs)
        if span is None:
            return (yield from function(*args, **kwargs))
        try:
            returned = yield from _steps(function(*args, **kwargs), span)
        except GeneratorExit:
            span.finish(None, None)
            raise
        except BaseException as error:
            span.finish(None, error)
            raise
        span.finish(returned, None)
        return returned

    return call


def _steps(steps: Generator[Any, Any, Any], span: Span) -> Generator[Any, Any, Any]:
    """`yield from`, with the span around each step and not around the caller's."""
    step = functools.partial(steps.send, None)
    while True:
        try:
            with span.inside():
                item = step()
        except StopIteration as stop:
            return stop.value
        try:
            step = functools.partial(steps.send, (yield item))
        except GeneratorExit:
            with span.inside():
                steps.close()
            raise
        except BaseException as error:  # noqa: BLE001 - handed on to where it belongs
            step = functools.partial(steps.throw, error)


def _async_generator(function: Callable[..., Any], open_span: OpenSpan) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        span = open_span(args, kwargs)
        steps = function(*args, **kwargs)
        if span is None:
            async for item in steps:
                yield item
            return
        step = functools.partial(steps.asend, None)
        try:
            while True:
                try:
                    with span.inside():
                        item = await step()
                except StopAsyncIteration:
                    break
                try:
                    step = functools.partial(steps.asend, (yield item))
                except GeneratorExit:
                    with span.inside():
                        await steps.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - handed on to where it belongs
                    step = functools.partial(steps.athrow, error)
        except GeneratorExit:
            span.finish(None, None)
            raise
        except BaseException as error:
            span.finish(None, error)
            raise
        span.finish(None, None)

    return call

"""Runs one INSERT in a worker thread and feeds it the rows as they come from the client.

The rows go through a pipe that the statement reads with FROM INFILE. chDB's own `send_insert` is
not used: it reports rows as written although the table refused them (disk full, violated
constraint, too many partitions), and an answer must mean that they are stored.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import anyio
import anyio.to_thread

from fleetmeter_local.store_engine import Counts, Engine, EngineError, insert
from fleetmeter_local.store_request import Context, Insert

CANCEL_AGAIN_SECONDS = 0.1


class RowsMissing(Exception):  # noqa: N818 - what happened
    """The rest of the rows will not come; the engine must not take what it has for all."""


@dataclass(slots=True, kw_only=True)
class _Outcome:
    counts: Counts = field(default_factory=Counts)
    error: EngineError | None = None
    abandoned: bool = False
    finished: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """One INSERT; `pieces` gives rows, then an empty piece, or raises `RowsMissing`."""

    engine: Engine
    limiter: anyio.CapacityLimiter
    into: Insert
    context: Context
    pieces: Callable[[], Awaitable[bytes]]
    token: str = field(default_factory=lambda: uuid4().hex)

    async def run(self) -> Counts:
        """Insert all rows and return how many.

        Raises:
            EngineError: the engine refused them; blocks that were already written stay.
            RowsMissing: they did not come to an end.
        """
        outcome, missing = _Outcome(), None
        reading, writing = os.pipe()
        try:
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as feeding:
                    group.start_soon(self._work, outcome, reading, feeding)
                    try:
                        await self._feed(writing)
                    except RowsMissing as error:
                        missing = error
                        await self._abandon(outcome)
                os.close(writing)  # the rows' end
        finally:
            os.close(reading)
        if missing:
            raise missing
        if outcome.error:
            raise outcome.error
        return outcome.counts

    async def _work(self, outcome: _Outcome, reading: int, feeding: anyio.CancelScope) -> None:
        try:
            outcome.counts = await anyio.to_thread.run_sync(
                self._insert, outcome, reading, limiter=self.limiter
            )
        except EngineError as error:
            outcome.error = error
        finally:
            outcome.finished.set()
            feeding.cancel()  # nobody reads the pipe any more

    def _insert(self, outcome: _Outcome, reading: int) -> Counts:
        with self.engine.connection(self.context, self.token) as connection:
            if outcome.abandoned:
                return Counts()
            return insert(connection, self.into, self.context, reading)

    async def _feed(self, writing: int) -> None:
        os.set_blocking(writing, False)
        while piece := await self.pieces():
            rest = memoryview(piece)
            while rest:
                try:
                    rest = rest[os.write(writing, rest) :]
                except BlockingIOError:
                    await anyio.wait_writable(writing)

    async def _abandon(self, outcome: _Outcome) -> None:
        """Have the statement killed before it sees the end of the pipe."""
        outcome.abandoned = True
        while not outcome.finished.is_set():
            if await anyio.to_thread.run_sync(self.engine.cancel, self.token):
                return
            with anyio.move_on_after(CANCEL_AGAIN_SECONDS):
                await outcome.finished.wait()

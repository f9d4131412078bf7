"""Finds a session in the tail and the store, and says how current that is; answers no request."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fleetmeter_api.keys import Tenant
from fleetmeter_api.older_parts import OlderParts
from fleetmeter_api.ports import Landing, Store, Tail
from fleetmeter_api.sessions import OLDER_PARTS_UNKNOWN, AsOf, merge, overlay
from fleetmeter_schemas.errors import Unavailable
from fleetmeter_schemas.identity import partition_of
from fleetmeter_schemas.records import Snapshot

LANDING_POLL_SECONDS: Final = 0.1
OLDER_SESSIONS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an answer must contain, and how long it may take to come to that."""

    after_offset: int | None = None
    wait_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A session, whole, and how current it is."""

    session: Snapshot
    as_of: AsOf


class Lookup:
    """Where sessions are found.

    The tail has every snapshot from its floor on, the store all before the lander's position:
    where the two overlap, nothing is missing.
    """

    def __init__(
        self, tail: Tail, store: Store, landing: Landing, now_ms: Callable[[], int]
    ) -> None:
        self._tail = tail
        self._store = store
        self._landing = landing
        self._now_ms = now_ms
        self._landed: dict[int, int] = {}
        self._older = OlderParts(OLDER_SESSIONS_MAX)

    async def find(self, tenant: Tenant, session_id: str, wish: Wish) -> Found | None:
        """A session of the project, or None.

        Raises:
            Unavailable: It is not in the tail, and the store, or Kafka, is away.
        """
        timer = _Timer(wish.wait_ms)
        partition = self._partition(session_id)
        caught_up = True
        if wish.after_offset is not None:
            caught_up = await self._tail.wait_until(partition, wish.after_offset, timer.left())
        # Asked before the snapshot is read: the snapshot may be newer than told, never older.
        log_time_ms = self._log_time_ms(partition)
        live = self._tail.parts(tenant.project_id, session_id)
        overlaps = bool(live) or await self._overlaps(partition, timer)
        parts, older_unknown = await self._parts(tenant, session_id, live)
        if not parts:
            return None
        session = merge(parts)
        if older_unknown:
            session["flags"] = sorted({*session["flags"], OLDER_PARTS_UNKNOWN})
        if not overlaps or log_time_ms is None:
            log_time_ms = session["log_time_ms"]
        as_of = self._as_of(log_time_ms, caught_up=caught_up and overlaps)
        return Found(session=session, as_of=as_of)

    async def find_all(self, tenant: Tenant, session_ids: Sequence[str]) -> list[Found]:
        """Sessions that the store named, in its order, each as current as the tail has it."""
        stored: dict[str, list[Snapshot]] = {}
        for snapshot in await self._store.parts(tenant, session_ids):
            stored.setdefault(snapshot["session_id"], []).append(snapshot)
        partitions = sorted({self._partition(session_id) for session_id in stored})
        # Once for all of them: while Kafka is away each question takes seconds.
        overlaps = {each: await self._overlaps(each, _Timer(0)) for each in partitions}
        return [
            self._found(tenant, stored[session_id], overlaps=overlaps[self._partition(session_id)])
            for session_id in session_ids
            if session_id in stored
        ]

    async def as_of_stored(self) -> AsOf:
        """How current an answer of the store alone is, over all partitions, if it is asked next."""
        partitions = range(self._tail.partitions)
        try:
            landed = [await self._landing.snapshots_offset(each) for each in partitions]
        except Unavailable:
            return self._as_of(None, caught_up=False)
        times = [self._tail.log_time_before(each, landed[each]) for each in partitions]
        known = [time for time in times if time is not None]
        oldest = min(known) if known and len(known) == len(times) else None
        # What has come meanwhile counts as missing: a caught_up that is false harms nobody.
        caught_up = oldest is not None and times == [self._log_time_ms(each) for each in partitions]
        return self._as_of(oldest, caught_up=caught_up)

    async def has_landed(self, session: Snapshot, timeout_seconds: float) -> bool:
        """Wait until the tables hold all events that the session contains; whether they do."""
        return await _reached(
            self._landing.events_next, session["partition"], session["next"], timeout_seconds
        )

    def _found(self, tenant: Tenant, stored: list[Snapshot], *, overlaps: bool) -> Found:
        session_id = stored[0]["session_id"]
        log_time_ms = self._log_time_ms(self._partition(session_id))
        live = self._tail.parts(tenant.project_id, session_id)
        session = merge(overlay(stored, live))
        current = overlaps or bool(live)
        if not current or log_time_ms is None:
            log_time_ms = session["log_time_ms"]
        return Found(session=session, as_of=self._as_of(log_time_ms, caught_up=current))

    async def _parts(
        self, tenant: Tenant, session_id: str, live: list[Snapshot]
    ) -> tuple[list[Snapshot], bool]:
        """All parts; and whether older ones may be missing: not landed, or the store is away."""
        older = self._older.get(live) if live else None
        if older is not None:
            return overlay(older, live), False
        try:
            stored = await self._store.parts(tenant, [session_id])
        except Unavailable:
            if not live:
                raise
            return overlay((), live), True
        if not live:
            return overlay(stored, live), False
        overlaps = await self._overlaps(live[0]["partition"], _Timer(0))
        if overlaps:
            self._older.put(live, stored)
        return overlay(stored, live), not overlaps

    async def _overlaps(self, partition: int, timer: "_Timer") -> bool:
        """Whether what is missing in the tail is in the store; waits for it while there is time."""
        floor = self._tail.floor(partition)
        if self._landed.get(partition, 0) >= floor:
            return True
        try:
            return await _reached(self._ask_landed, partition, floor, timer.left())
        except Unavailable:
            return False

    async def _ask_landed(self, partition: int) -> int:
        self._landed[partition] = await self._landing.snapshots_offset(partition)
        return self._landed[partition]

    def _partition(self, session_id: str) -> int:
        if not self._tail.partitions:
            raise Unavailable("the sessions have not been read yet")
        return partition_of(session_id.encode(), self._tail.partitions)

    def _log_time_ms(self, partition: int) -> int | None:
        progress = self._tail.progress(partition)
        return None if progress is None else progress.log_time_ms

    def _as_of(self, log_time_ms: int | None, *, caught_up: bool) -> AsOf:
        return AsOf(log_time_ms=log_time_ms, now_ms=self._now_ms(), caught_up=caught_up)


class _Timer:
    """What is left of a wait."""

    def __init__(self, wait_ms: int) -> None:
        self._deadline = asyncio.get_running_loop().time() + wait_ms / 1000

    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._deadline - asyncio.get_running_loop().time())


async def _reached(
    ask: Callable[[int], Awaitable[int]], partition: int, target: int, timeout_seconds: float
) -> bool:
    """Wait until what `ask` tells of a partition is at least `target`; whether it came to that.

    Raises:
        Unavailable: It cannot be asked.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while await ask(partition) < target:
        left = deadline - loop.time()
        if left <= 0:
            return False
        await asyncio.sleep(min(LANDING_POLL_SECONDS, left))
    return True

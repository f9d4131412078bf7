"""Compares what a session's snapshot says with a recomputation from its events. Repairs nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from fleetmeter_api.export import scope_of
from fleetmeter_api.keys import Tenant
from fleetmeter_api.lookup import Found, Lookup, Wish
from fleetmeter_api.ports import Store
from fleetmeter_schemas.errors import Unavailable
from fleetmeter_schemas.records import LONG_MAX, LONG_MIN, NUMBER_NAMES, Numbers, Snapshot

ATTEMPTS: Final = 3
PAGE_SESSIONS: Final = 200
NOT_LANDED: Final = "not_landed"
_NOTHING: Final = cast("Numbers", dict.fromkeys(NUMBER_NAMES, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a session's snapshot is right; `recomputed` None: its events have not landed."""

    session: Snapshot
    recomputed: Numbers | None

    @property
    def session_id(self) -> str:
        """Which session it is about."""
        return self.session["session_id"]

    @property
    def agrees(self) -> bool | None:
        """Whether the two agree; None where they could not be compared in time."""
        return None if self.recomputed is None else not self.differences

    @property
    def differences(self) -> dict[str, dict[str, int]]:
        """The numbers that differ, each from both sides."""
        if self.recomputed is None:
            return {}
        return differences(self.session["numbers"], self.recomputed)

    def as_json(self) -> dict[str, Any]:
        """The answer of `/v1/sessions/{id}/verify`."""
        return {
            "session_id": self.session_id,
            "agrees": self.agrees,
            "reason": NOT_LANDED if self.recomputed is None else None,
            "position": {"partition": self.session["partition"], "next": self.session["next"]},
            "snapshot": self.session["numbers"],
            "recomputed": self.recomputed,
            "differences": self.differences,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Verdicts on some sessions, and where the next ones begin; None: these were the last."""

    verdicts: list[Verdict]
    next_cursor: str | None


def differences(snapshot: Numbers, recomputed: Numbers) -> dict[str, dict[str, int]]:
    """The numbers in which two sets differ. Sums are kept within 64 bits, as snapshots are."""
    one, other = cast("Mapping[str, int]", snapshot), cast("Mapping[str, int]", recomputed)
    return {
        name: {"snapshot": one[name], "recomputed": other[name]}
        for name in NUMBER_NAMES
        if _held(one[name]) != _held(other[name])
    }


def _held(value: int) -> int:
    return max(LONG_MIN, min(LONG_MAX, value))


class Auditor:
    """Verifies sessions of a project."""

    def __init__(self, lookup: Lookup, store: Store) -> None:
        self._lookup = lookup
        self._store = store

    async def verify(self, tenant: Tenant, session_id: str, wait_seconds: float) -> Verdict | None:
        """The verdict on one session; None: there is no such session."""
        found = await self._lookup.find(tenant, session_id, Wish())
        if found is None:
            return None
        (verdict,) = await self._verdicts(tenant, [found], wait_seconds)
        for _ in range(ATTEMPTS - 1):
            if verdict.agrees is not False:
                break
            verdict = await self._again(tenant, verdict, wait_seconds)
        return verdict

    async def verify_page(
        self, tenant: Tenant, cursor: str, limit: int, wait_seconds: float
    ) -> Page:
        """Verdicts on the sessions behind a cursor, in the order of ids."""
        session_ids = await self._store.ids_after(tenant, cursor, limit)
        verdicts: list[Verdict] = []
        for some in _pages(session_ids):
            found = await self._lookup.find_all(tenant, some)
            verdicts += await self._verdicts(tenant, found, wait_seconds)
        settled = [
            await self._again(tenant, verdict, wait_seconds) if verdict.agrees is False else verdict
            for verdict in verdicts
        ]
        is_last = len(session_ids) < limit
        return Page(verdicts=settled, next_cursor=None if is_last else session_ids[-1])

    async def _again(self, tenant: Tenant, verdict: Verdict, wait_seconds: float) -> Verdict:
        """A revision that came between the two readings looks like a difference: look again."""
        found = await self._lookup.find(tenant, verdict.session_id, Wish())
        if found is None:
            return verdict
        (again,) = await self._verdicts(tenant, [found], wait_seconds)
        return again

    async def _verdicts(
        self, tenant: Tenant, found: Sequence[Found], wait_seconds: float
    ) -> list[Verdict]:
        sessions = [one.session for one in found]
        landed = await self._landed(sessions, wait_seconds)
        scopes = [scope_of(session) for session in sessions if landed[session["session_id"]]]
        recomputed = await self._store.recompute(tenant, scopes) if scopes else {}
        return [
            Verdict(
                session=session,
                recomputed=recomputed.get(session["session_id"], _NOTHING)
                if landed[session["session_id"]]
                else None,
            )
            for session in sessions
        ]

    async def _landed(self, sessions: Iterable[Snapshot], wait_seconds: float) -> dict[str, bool]:
        """By session, whether its events are in the tables."""
        landed: dict[str, bool] = {}
        reached: dict[int, int] = {}
        left = wait_seconds
        # The furthest of a partition first: where that one has landed, so have the others.
        for session in sorted(sessions, key=lambda one: one["next"], reverse=True):
            partition = session["partition"]
            if session["next"] <= reached.get(partition, -1):
                landed[session["session_id"]] = True
                continue
            has_landed = await self._has_landed(session, left)
            landed[session["session_id"]] = has_landed
            if has_landed:
                reached[partition] = session["next"]
            else:
                left = 0.0
        return landed

    async def _has_landed(self, session: Snapshot, wait_seconds: float) -> bool:
        try:
            return await self._lookup.has_landed(session, wait_seconds)
        except Unavailable:
            return False


def _pages(session_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(session_ids), PAGE_SESSIONS):
        yield session_ids[start : start + PAGE_SESSIONS]

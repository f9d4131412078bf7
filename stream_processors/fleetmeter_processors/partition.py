"""All sessions of one partition: a deterministic function of its metered log, without I/O.

Feeds blocks through `tiling.accept`, folds accepted ones into sessions, then lets time pass:
what is overdue times out, what was closed long ago is forgotten. The result does not depend on
how the log is cut into batches. Whoever drives it reads, writes and commits.
"""

from dataclasses import dataclass
from typing import Final, cast

from fleetmeter_processors import machine
from fleetmeter_processors.agenda import Agenda, SessionKey
from fleetmeter_processors.bounded import Limits
from fleetmeter_processors.machine import Place
from fleetmeter_processors.metered_record import take
from fleetmeter_schemas.block import Block, decode_deltas
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import CHECKPOINT_KEY, snapshot_key, split_snapshot_key
from fleetmeter_schemas.records import Checkpoint, Delta, SessionState, Snapshot
from fleetmeter_schemas.tiling import Position, Verdict

SNAPSHOT: Final = Codec("Snapshot")
CHECKPOINT: Final = Codec("Checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A session was closed by silence or by the limit; for metrics and logs."""

    project_id: str
    session_id: str
    reason: str


class PartitionState:
    """The sessions of one partition, where its reader stands, and what must be written.

    Between two calls of `apply`, `expire` is to be driven until it returns True; otherwise a
    session that is overdue could be kept alive by the next block.
    """

    def __init__(self, partition: int, limits: Limits | None = None) -> None:
        self.partition = partition
        self.limits = limits or Limits()
        self.position = Position()
        self.heard_ms = 0
        self.log_time_ms = 0
        self.sessions: dict[SessionKey, Snapshot] = {}
        self.closed: list[Closed] = []
        self._agenda = Agenda()
        self._touched: dict[SessionKey, None] = {}
        self._forgotten: list[tuple[bytes, bytes | None]] = []
        self._settled = True

    @property
    def touched(self) -> int:
        """How many records the next drain will hold, its checkpoint aside."""
        return len(self._touched) + len(self._forgotten)

    @property
    def open_sessions(self) -> int:
        """How many sessions are open."""
        return self._agenda.open_sessions

    def restore_snapshot(self, key: bytes, value: bytes | None) -> None:
        """Take one record of sessions.v1 that is no checkpoint; None is a tombstone."""
        if value is not None:
            session = cast("Snapshot", SNAPSHOT.decode(value))
            self.sessions[session["project_id"], session["session_id"]] = session
            return
        name, part = split_snapshot_key(key)
        project_id, _, session_id = name.decode().partition("/")
        known = self.sessions.get((project_id, session_id))
        if known is not None and known["part"] == part:
            del self.sessions[project_id, session_id]

    def restore_checkpoint(self, value: bytes) -> None:
        """Take a checkpoint of sessions.v1; the last one counts."""
        checkpoint = cast("Checkpoint", CHECKPOINT.decode(value))
        assert checkpoint["partition"] == self.partition, checkpoint  # noqa: S101
        self.position = Position(
            metered_offset=checkpoint["metered_offset"],
            epoch=checkpoint["epoch"],
            next=checkpoint["next"],
        )
        self.heard_ms = checkpoint["heard_ms"]
        self.log_time_ms = checkpoint["log_time_ms"]

    def restored(self) -> None:
        """All of sessions.v1 has been fed: what is overdue is found by the next `expire`."""
        for key, session in self.sessions.items():
            self._schedule(key, session)
        self._settled = False

    def apply(self, offset: int, data: bytes) -> Verdict:
        """Take one record of metered.v1.

        Raises:
            Gap: A record is missing before this one.
            InvalidRecord: It is neither a block nor a barrier that this version can read.
        """
        assert self._settled, "expire() was not driven to its end"  # noqa: S101
        self.position, verdict, block = take(self.position, offset, data)
        if block is not None:
            self._fold(block)
        return verdict

    def expire(self, limit: int) -> bool:
        """Close and forget what is due, at most `limit` sessions; True when nothing is left."""
        for _ in range(limit):
            key = self._agenda.next_due(self.heard_ms)
            if key is None:
                break
            self._due(key)
        self._settled = self._agenda.next_due(self.heard_ms) is None
        return self._settled

    def drain(self) -> list[tuple[bytes, bytes | None]]:
        """What sessions.v1 must hold now, in one transaction: key and value; checkpoint last."""
        changed = [self._record(self.sessions[key]) for key in self._touched]
        records = [*self._forgotten, *changed, (CHECKPOINT_KEY, self._checkpoint())]
        self._forgotten.clear()
        self._touched.clear()
        return records

    def _fold(self, block: Block) -> None:
        self.heard_ms = max(self.heard_ms, block.heard_ms)
        self.log_time_ms = max(self.log_time_ms, block.log_time_ms)
        for delta in decode_deltas(block.deltas):
            self._apply(cast("Delta", delta))
        self._settled = False

    def _apply(self, delta: Delta) -> None:
        key = delta["project_id"], delta["session_id"]
        after = machine.apply(self.sessions.get(key), delta, self._place(), self.limits)
        if after is None:
            return
        self._keep(key, after)
        self._enforce_limit(key[0])

    def _enforce_limit(self, project_id: str) -> None:
        """Above the cap the longest silent open session of the project closes."""
        while self._agenda.open_in(project_id) > self.limits.open_sessions_max:
            key = self._agenda.longest_silent(project_id)
            self._close(key, machine.SESSION_LIMIT)

    def _due(self, key: SessionKey) -> None:
        session = self.sessions[key]
        if session["state"] == SessionState.OPEN:
            place = self._place()
            expired = machine.expire(session, place, self.heard_ms, self.limits)
            self._note_closed(key, expired)
            return
        self._forget(key, session)

    def _forget(self, key: SessionKey, session: Snapshot) -> None:
        """Nobody who reads sessions.v1 may miss the last that was known of it."""
        if key in self._touched:
            del self._touched[key]
            self._forgotten.append(self._record(session))
        tombstone = snapshot_key(*key, session["part"]), None
        self._forgotten.append(tombstone)
        del self.sessions[key]
        self._agenda.remove(key)

    def _close(self, key: SessionKey, reason: str) -> None:
        closed = machine.close(self.sessions[key], self._place(), self.heard_ms, reason)
        self._note_closed(key, closed)

    def _note_closed(self, key: SessionKey, session: Snapshot) -> None:
        reason = session["end_state_reason"]
        self.closed.append(Closed(project_id=key[0], session_id=key[1], reason=reason))
        self._keep(key, session)

    def _keep(self, key: SessionKey, session: Snapshot) -> None:
        self.sessions[key] = session
        self._touched[key] = None
        self._schedule(key, session)

    def _schedule(self, key: SessionKey, session: Snapshot) -> None:
        if session["state"] == SessionState.OPEN:
            due_ms = machine.deadline_ms(session, self.limits)
            self._agenda.opened(key, due_ms=due_ms, heard_ms=session["heard_ms"])
        else:
            self._agenda.closed(key, due_ms=machine.forget_ms(session, self.limits))

    def _place(self) -> Place:
        return Place(
            partition=self.partition,
            next=self.position.next,
            log_time_ms=self.log_time_ms,
        )

    def _record(self, session: Snapshot) -> tuple[bytes, bytes | None]:
        key = snapshot_key(session["project_id"], session["session_id"], session["part"])
        return key, SNAPSHOT.encode(session)

    def _checkpoint(self) -> bytes:
        checkpoint: Checkpoint = {
            "partition": self.partition,
            "metered_offset": self.position.metered_offset,
            "epoch": self.position.epoch,
            "next": self.position.next,
            "heard_ms": self.heard_ms,
            "log_time_ms": self.log_time_ms,
        }
        return CHECKPOINT.encode(checkpoint)

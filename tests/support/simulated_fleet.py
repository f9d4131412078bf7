"""One partition of the whole system in one thread: the real pure parts, a fake broker, one seed.

Writers append to a raw log, meters race for it, sessions workers fold what is metered. Every step
is chosen by the seed: who goes on, who crashes, whose records land late, which report is lost,
how far the clock jumps. Nothing here decides what is right; `simulation_oracle` does.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fleetmeter_processors.bounded import Limits
from fleetmeter_processors.control import ControlState
from fleetmeter_processors.hint import Hint
from fleetmeter_processors.judge import Judge, Raw
from fleetmeter_processors.meter_partition import MeterPartition, Phase
from fleetmeter_processors.metering import BlockLimits, Metering, cuts
from fleetmeter_processors.partition import PartitionState
from fleetmeter_processors.pricing import Pricer
from fleetmeter_processors.tail import TailLimits
from fleetmeter_processors.window import WindowLimits
from fleetmeter_schemas import topics
from fleetmeter_schemas.codec import Codec
from fleetmeter_schemas.identity import CHECKPOINT_KEY, NO_KEY, key_hash, short_hash
from fleetmeter_schemas.records import Event

EVENT = Codec("Event")
API_KEY = "11111111-2222-4333-8444-555555555555"
KEY_HASH = key_hash(API_KEY)
PROJECT_ID = "project"
IDLE_TIMEOUT_MS = 10_000
RETENTION_MS = 5_000
BEGAN_MS = 1_700_000_000_000
IN_FLIGHT_MAX = 4
OUTAGE_MS = 7_200_000
PRICER = Pricer()  # its prices do not depend on the run
TICK = EVENT.encode(
    {
        "key_hash": NO_KEY,
        "session_id": "",
        "event_id": "",
        "kind": "tick",
        "start_time_us": BEGAN_MS * 1000,
    }
)


class Keys:
    """The one project's key, known from the start."""

    def __init__(self) -> None:
        self._state = ControlState()
        project = Codec("Project").encode(
            {
                "project_id": PROJECT_ID,
                "name": "p",
                "idle_timeout_ms": IDLE_TIMEOUT_MS,
                "created_at_ms": 0,
            }
        )
        hashed = short_hash(KEY_HASH)
        api_key = Codec("ApiKey").encode(
            {"key_hash_hash": hashed, "project_id": PROJECT_ID, "hint": "5555", "created_at_ms": 0}
        )
        self._state.apply(topics.project_key(PROJECT_ID), project)
        self._state.apply(topics.api_key_key(hashed), api_key)
        self.find = self._state.find

    def catch_up(self) -> None:
        """Everything has been read."""


KEYS = Keys()


@dataclass(slots=True)
class Broker:
    """The logs, and the clock that stamps them."""

    now_ms: int = BEGAN_MS
    raw: list[Raw] = field(default_factory=list)
    metered: list[bytes] = field(default_factory=list)
    sessions: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    sessions_epoch: int = 0

    def append_raw(self, key: bytes | None, value: bytes) -> None:
        """A writer's record, stamped."""
        self.raw.append(Raw(len(self.raw), self.now_ms, key, value))

    def commit(self, epoch: int, records: Iterable[tuple[bytes, bytes | None]]) -> bool:
        """A transaction on sessions.v1; refused when another has fenced its writer."""
        if epoch != self.sessions_epoch:
            return False
        self.sessions.extend(records)
        return True


class Network:
    """What one meter has sent and what it was told: in order, at its own pace."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.sending: deque[bytes] = deque()
        self.reports: deque[int] = deque()
        self.deaf = False

    def append(self, data: bytes) -> None:
        """Put a record on its way."""
        self.sending.append(data)

    def read(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """Read what has landed."""
        return list(enumerate(self.broker.metered[first : last + 1], start=first))

    def land(self) -> None:
        """The oldest record arrives; its report starts back."""
        self.broker.metered.append(self.sending.popleft())
        self.reports.append(len(self.broker.metered) - 1)


class MeterProcess:
    """A meter that thinks the partition is its own."""

    def __init__(self, broker: Broker, name: str, hint: Hint) -> None:
        self.network = Network(broker)
        self.fetched = 0
        self.alive = True
        self.partition = MeterPartition(
            log=self.network,
            owner=name,
            fresh=fresh_books,
            start=hint,
            raw_start=0,
            limits=TailLimits(),
        )
        self.partition.take()

    def hear(self) -> None:
        """Take one delivery report, unless it gets none any more."""
        if self.network.reports and not self.network.deaf:
            self.partition.delivered(self.network.reports.popleft())
            resume = self.partition.take_resume()
            if resume is not None:
                self.fetched = resume

    def meter(self, records_max: int) -> None:
        """Fetch raw records and meter them, as far as it may send."""
        if self.partition.phase is not Phase.ACTIVE or self.partition.in_flight >= IN_FLIGHT_MAX:
            return
        raw = self.network.broker.raw[self.fetched : self.fetched + records_max]
        for cut in cuts(raw, BlockLimits()):
            if self.partition.in_flight >= IN_FLIGHT_MAX:
                return
            self.partition.meter(cut)
            self.fetched = cut[-1].offset + 1

    def retake(self) -> None:
        """Claim the partition again, when fenced or for a renewal."""
        if self.partition.phase is Phase.FENCED:
            self.partition.take()
        elif self.partition.phase is Phase.ACTIVE:
            self.partition.renew()


class SessionsProcess:
    """A sessions worker: restores, folds, commits. May be a zombie without knowing."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        broker.sessions_epoch += 1
        self.epoch = broker.sessions_epoch
        self.alive = True
        self.state = PartitionState(0, Limits(retention_ms=RETENTION_MS, open_sessions_max=4))
        for key, value in broker.sessions:
            if key != CHECKPOINT_KEY:
                self.state.restore_snapshot(key, value)
            elif value is not None:
                self.state.restore_checkpoint(value)
        self.state.restored()
        self.settle(1000)

    def settle(self, limit: int) -> None:
        """Let time pass, in transactions of at most so many sessions."""
        while self.alive and not self.state.expire(limit):
            self.commit()

    def fold(self, records_max: int, limit: int) -> None:
        """Take the next records of metered.v1."""
        first = self.state.position.metered_offset + 1
        for offset, data in enumerate(self.broker.metered[first : first + records_max], first):
            self.state.apply(offset, data)
            self.settle(limit)

    def commit(self) -> None:
        """Write what changed, all or nothing; a fenced one ends."""
        self.alive = self.broker.commit(self.epoch, self.state.drain())


def fresh_books() -> Metering:
    """A meter's books with nothing in them."""
    return Metering(0, Judge(0, 1, KEYS, EVENT), KEYS, PRICER, WindowLimits())


class Fleet:
    """Everything together, driven by one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - it is to be repeatable, not secret
        self.broker = Broker()
        self.meters = [self.new_meter()]
        self.workers = [SessionsProcess(self.broker)]
        self.hint = Hint()
        self.sequences: dict[tuple[str, str], int] = {}
        self.sent: list[tuple[bytes, bytes]] = []
        self.era = 0

    def new_meter(self) -> MeterProcess:
        """A meter that starts from what the group was told last."""
        hint = getattr(self, "hint", Hint())
        return MeterProcess(self.broker, f"meter-{self.random.random()}", hint)

    def run(self, steps: int) -> None:
        """So many steps of anything that can happen."""
        names = list(STEPS)
        weights = [weight for weight, _ in STEPS.values()]
        for name in self.random.choices(names, weights, k=steps):
            STEPS[name][1](self)

    def write(self) -> None:
        """A writer records something."""
        for _ in range(self.random.randrange(1, 5)):
            event = random_event(self.random, self.broker.now_ms, self.sequences)
            event["event_id"] += f"-{self.era}"
            record = event["session_id"].encode(), EVENT.encode(event)
            self.sent.append(record)
            self.broker.append_raw(*record)
        self.broker.now_ms += self.random.randrange(50)

    def write_again(self) -> None:
        """A record comes once more, as after a lost acknowledgement."""
        if self.sent:
            self.broker.append_raw(*self.random.choice(self.sent))

    def write_garbage(self) -> None:
        """Somebody sends what is no event."""
        self.broker.append_raw(b"k", self.random.randbytes(self.random.randrange(30)))

    def tick(self) -> None:
        """Nothing came for a while: a meter appends a tick."""
        self.broker.now_ms += self.random.randrange(500, 3000)
        self.broker.append_raw(None, TICK)

    def jump(self) -> None:
        """An outage, or a clock that is set."""
        jump_ms = self.random.choice([-50_000, -2_000, 9_000, 90_000, OUTAGE_MS])
        self.broker.now_ms += jump_ms
        if jump_ms == OUTAGE_MS:
            # What is repeated so late is counted again, by design; `verify` finds it.
            self.sent.clear()
            self.era += 1

    def a_meter(self) -> MeterProcess:
        """Any meter; zombies as well."""
        return self.random.choice(self.meters)

    def meter(self) -> None:
        """A meter meters."""
        meter = self.a_meter()
        if meter.alive:
            meter.meter(self.random.randrange(1, 12))

    def land(self) -> None:
        """A record of some meter arrives, dead or alive."""
        network = self.a_meter().network
        if network.sending:
            network.land()

    def hear(self) -> None:
        """A meter hears where its record is."""
        meter = self.a_meter()
        if meter.alive:
            meter.hear()

    def lose_reports(self) -> None:
        """A meter hears nothing any more."""
        self.a_meter().network.deaf = True

    def rival(self) -> None:
        """Another meter is given the partition; the old one does not know."""
        if len(self.meters) < 4:
            self.meters.append(self.new_meter())

    def kill_meter(self) -> None:
        """A meter dies; what it sent may still arrive. Another one starts."""
        meter = self.a_meter()
        meter.alive = False
        if self.random.random() < 0.5:
            meter.network.sending.clear()
        self.rival()

    def retake(self) -> None:
        """A meter claims its partition again."""
        meter = self.a_meter()
        if meter.alive:
            meter.retake()

    def note_hint(self) -> None:
        """A meter tells the group how far it is."""
        meter = self.a_meter()
        if meter.partition.phase is Phase.ACTIVE:
            self.hint = meter.partition.hint

    def a_worker(self) -> SessionsProcess:
        """Any sessions worker that thinks it is the one."""
        return self.random.choice(self.workers)

    def fold(self) -> None:
        """A sessions worker takes a batch, and commits unless it is interrupted."""
        worker = self.a_worker()
        if worker.alive:
            worker.fold(self.random.randrange(1, 6), self.random.randrange(1, 4))

    def commit(self) -> None:
        """A sessions worker commits what it has."""
        worker = self.a_worker()
        if worker.alive:
            worker.commit()

    def replace_worker(self) -> None:
        """Another sessions worker takes over; the old one may go on for a while."""
        if self.random.random() < 0.5:
            self.workers.clear()
        self.workers = [*self.workers[-2:], SessionsProcess(self.broker)]

    def settle(self) -> None:
        """Faults end: what is on its way arrives, and whoever is left does all that is left."""
        for meter in self.meters:
            while meter.network.sending:
                meter.network.land()
        meter = self.survivor()
        worker = SessionsProcess(self.broker)
        for _ in range(4 * len(self.broker.raw) + 100):
            if meter.partition.phase is Phase.FENCED:
                meter.retake()
            while meter.network.sending:
                meter.network.land()
            meter.hear()
            meter.meter(20)
            worker.fold(10, 2)
            worker.commit()
            if meter.partition.position.next == len(self.broker.raw) == worker.state.position.next:
                return

    def survivor(self) -> MeterProcess:
        """The meter that the group leaves the partition to: one that lives, or a new one."""
        living = [meter for meter in self.meters if meter.alive and not meter.network.deaf]
        return self.random.choice([*living, None]) or self.new_meter()

    def close_all(self) -> None:
        """Nobody writes any more, and time goes on."""
        for _ in range(2 + (IDLE_TIMEOUT_MS + 300_000) // 4_900):
            self.broker.now_ms += 4_900
            self.broker.append_raw(None, TICK)


STEPS: dict[str, tuple[float, Callable[[Fleet], None]]] = {
    "write": (10, Fleet.write),
    "write_again": (2, Fleet.write_again),
    "write_garbage": (0.5, Fleet.write_garbage),
    "tick": (4, Fleet.tick),
    "jump": (0.4, Fleet.jump),
    "meter": (12, Fleet.meter),
    "land": (14, Fleet.land),
    "hear": (14, Fleet.hear),
    "lose_reports": (0.2, Fleet.lose_reports),
    "rival": (0.6, Fleet.rival),
    "kill_meter": (0.6, Fleet.kill_meter),
    "retake": (1, Fleet.retake),
    "note_hint": (1, Fleet.note_hint),
    "fold": (8, Fleet.fold),
    "commit": (6, Fleet.commit),
    "replace_worker": (0.7, Fleet.replace_worker),
}

_KINDS = (
    ("llm", 6),
    ("tool", 4),
    ("action", 3),
    ("error", 1),
    ("heartbeat", 2),
    ("session_started", 1),
    ("session_updated", 1),
    ("session_ended", 1.5),
)


def random_event(random: Random, now_ms: int, sequences: dict[tuple[str, str], int]) -> Event:
    """Some record of one of a few sessions by one of a few writers."""
    session_id = f"session-{random.randrange(6)}"
    writer_id = f"writer-{random.randrange(3)}"
    kind = random.choices([kind for kind, _ in _KINDS], [weight for _, weight in _KINDS])[0]
    sequence = sequences.get((session_id, writer_id), 0)
    if kind != "heartbeat":
        sequence += 1
        sequences[session_id, writer_id] = sequence
    number = random.randrange(10**9)
    event: Event = {
        "key_hash": KEY_HASH,
        "session_id": session_id,
        "event_id": f"{writer_id}-{number if random.random() < 0.9 else number % 5}",
        "revision": random.choice([0, 0, 0, 1, 2]),
        "kind": kind,
        "writer_id": writer_id,
        "sequence": sequence,
        "start_time_us": now_ms * 1000 + random.randrange(1000),
        "detail": _detail(random, kind, sequence),
    }
    if kind == "llm":
        event |= _usage(random)
    return event


def _usage(random: Random) -> Event:
    model = random.choice(["claude-opus-4-5-20251101", "nobody-knows-it"])
    return {
        "provider": "anthropic",
        "model": model,
        "input_tokens": random.choice([None, 10, 1000, 1_000_000_000]),
        "output_tokens": random.choice([None, 7, 500]),
        "cache_read_tokens": random.choice([None, 3]),
    }


def _detail(random: Random, kind: str, sequence: int) -> Any:
    match kind:
        case "session_started" | "session_updated":
            tags = [random.choice("abc")]
            replaced = random.choice([None, ["z"]])
            return ("fleetmeter.SessionUpdate", {"tags_set": replaced, "tags_added": tags})
        case "session_ended":
            state = random.choice(["Success", "Failure", "Indeterminate"])
            return ("fleetmeter.SessionEnd", {"end_state": state, "last_sequence": sequence})
    return None

"""How far a meter has come, as text in the group's commit, for its successor. Commits nothing.

Only a hint: it spares reading all of metered.v1, which alone says what was accepted.
"""

import json
from dataclasses import dataclass, field

from fleetmeter_schemas.tiling import UNKNOWN, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Where a reader once stood, and the time it had heard; all UNKNOWN when never told."""

    position: Position = field(default_factory=Position)
    heard_ms: int = 0
    log_time_ms: int = UNKNOWN


def hint_text(hint: Hint) -> str:
    """The hint as commit metadata."""
    position = hint.position
    return json.dumps(
        {
            "metered_offset": position.metered_offset,
            "epoch": position.epoch,
            "next": position.next,
            "heard_ms": hint.heard_ms,
            "log_time_ms": hint.log_time_ms,
        }
    )


def read_hint(text: str | None) -> Hint:
    """The hint in commit metadata; an empty one when it cannot be read: it is only a hint."""
    try:
        said = json.loads(text or "{}")
        return Hint(
            position=Position(
                metered_offset=int(said["metered_offset"]),
                epoch=int(said["epoch"]),
                next=int(said["next"]),
            ),
            heard_ms=int(said["heard_ms"]),
            log_time_ms=int(said["log_time_ms"]),
        )
    except (ValueError, KeyError, TypeError):
        return Hint()

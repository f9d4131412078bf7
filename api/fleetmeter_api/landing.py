"""How far the lander has come, as its consumer group's commits tell; joins no group."""

import asyncio
import json
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from fleetmeter_api.kafka import client_options
from fleetmeter_api.settings import ApiSettings
from fleetmeter_schemas.errors import Unavailable
from fleetmeter_schemas.topics import METERED, SESSIONS

ASK_SECONDS: Final = 2.0


class LanderCommits:
    """Asks the broker for the lander's committed positions."""

    def __init__(self, settings: ApiSettings) -> None:
        group_id = f"{settings.namespace}.lander"
        self._metered = METERED.full_name(settings.namespace)
        self._sessions = SESSIONS.full_name(settings.namespace)
        self._consumer = Consumer(
            client_options(settings) | {"group.id": group_id, "enable.auto.commit": False}
        )

    async def events_next(self, partition: int) -> int:
        """First raw offset of which the tables may lack the event; -1: none has landed."""
        committed = await self._committed(self._metered, partition)
        return next_in(committed.metadata)

    async def snapshots_offset(self, partition: int) -> int:
        """Offset of sessions.v1 before which all snapshots are in the tables; -1: none is."""
        committed = await self._committed(self._sessions, partition)
        return max(committed.offset, -1)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    async def _committed(self, topic: str, partition: int) -> TopicPartition:
        return await asyncio.to_thread(self._ask, topic, partition)

    def _ask(self, topic: str, partition: int) -> TopicPartition:
        try:
            (found,) = self._consumer.committed(
                [TopicPartition(topic, partition)], timeout=ASK_SECONDS
            )
        except KafkaException as error:
            raise Unavailable(f"the lander's position is not known: {error}") from error
        return found


def next_in(metadata: Any) -> int:
    """`next` of the position that the lander committed with its offset; -1 without one."""
    if not metadata:
        return -1
    return int(json.loads(metadata)["next"])

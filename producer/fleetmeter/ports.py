"""What the SDK takes from outside: variables, a way to the log, a source of costs."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetmeter.config import Config
from fleetmeter.transport import Accounts, Transport

if TYPE_CHECKING:
    from fleetmeter.stats import Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The outside, real or made up for a test."""

    environ: Mapping[str, str]
    transport: Callable[[Config, Accounts, Callable[[], None]], Transport]
    stats: "Callable[[Config], Stats | None]"


def kafka_transport(config: Config, accounts: Accounts, on_idle: Callable[[], None]) -> Transport:
    """The way to Kafka."""
    # Imported here, because librdkafka takes 40 ms that `import fleetmeter` need not take.
    from fleetmeter.kafka_transport import KafkaTransport  # noqa: PLC0415

    return KafkaTransport(config, accounts, on_idle)


def api_stats(config: Config) -> "Stats | None":
    """The api as source of costs, where its URL is set."""
    if not config.api_url:
        return None
    # Imported here, because urllib.request takes 20 ms that `import fleetmeter` need not take.
    from fleetmeter.stats import ApiStats  # noqa: PLC0415

    return ApiStats(config.api_url, config.api_key, config.api_timeout_ms)


REAL = Ports(environ=os.environ, transport=kafka_transport, stats=api_stats)

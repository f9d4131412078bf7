"""One Apache Kafka (KRaft, one node) on this machine: configures and starts it; makes no topics."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from fleetmeter_local.java import Java, find_java
from fleetmeter_local.kafka_jars import cache_dir, pinned, prepare
from fleetmeter_schemas.errors import ConfigError

FORMAT_SECONDS_MAX = 60
RECORD_BYTES_MAX = 4 * 1024 * 1024

# After kill -9 the controller waits for the dead broker's session to end before it lets the same id
# in again: 9 s by default.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
num.partitions=4
default.replication.factor=1
min.insync.replicas=1
message.max.bytes={record_bytes_max}
replica.fetch.max.bytes={record_bytes_max}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=33554432
num.network.threads=2
num.io.threads=4
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000
"""

_LOGGING = """\
rootLogger.level=INFO
rootLogger.appenderRef.stdout.ref=STDOUT
appender.stdout.type=Console
appender.stdout.name=STDOUT
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %-5p %c{1} %m%n
logger.config.name=org.apache.kafka.common.config.AbstractConfig
logger.config.level=WARN
logger.clients.name=org.apache.kafka.clients
logger.clients.level=WARN
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker keeps its data and where it listens (127.0.0.1 only)."""

    data_dir: Path
    port: int
    controller_port: int

    @property
    def bootstrap_servers(self) -> str:
        """Return the address that clients start from."""
        return f"127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        """Return the folder of the topics' segments."""
        return self.data_dir / "logs"

    @property
    def properties(self) -> Path:
        """Return the path of `server.properties`."""
        return self.data_dir / "server.properties"

    @property
    def logging(self) -> Path:
        """Return the path of the log4j2 configuration."""
        return self.data_dir / "log4j2.properties"


def configure(broker: Broker) -> None:
    """Write the broker's configuration files; ports may differ from the last time."""
    broker.data_dir.mkdir(parents=True, exist_ok=True)
    text = _PROPERTIES.format(
        port=broker.port,
        controller_port=broker.controller_port,
        # As JSON has it: Java reads such a file as Latin-1, and backslashes as escapes.
        logs=json.dumps(str(broker.logs))[1:-1],
        record_bytes_max=RECORD_BYTES_MAX,
    )
    broker.properties.write_text(text)
    broker.logging.write_text(_LOGGING)


def java_command(broker: Broker, java: Java, jars: list[Path], *main: str) -> list[str]:
    """Return the command line that runs a main class of the broker's jars."""
    return [
        str(java.executable),
        "-Xms256m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={broker.logging}",
        *_quiet(java),
        "-cp",
        os.pathsep.join(map(str, jars)),
        *main,
    ]


def _quiet(java: Java) -> list[str]:
    """Return the options by which a newer Java accepts what Kafka's libraries do."""
    if java.version < 24:  # noqa: PLR2004 - the first version that knows both and warns
        return []
    return ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]


def serve_command(broker: Broker, java: Java, jars: list[Path]) -> list[str]:
    """Return the command line of the broker itself."""
    return java_command(broker, java, jars, "kafka.Kafka", str(broker.properties))


def format_storage(broker: Broker, java: Java, jars: list[Path]) -> None:
    """Format the data folder once; what is formatted already keeps its cluster id.

    Raises:
        ConfigError: Kafka refuses to format the folder.
    """
    if broker.logs.exists():
        return
    # Beside its place and renamed at the end: a folder formatted by half would never start.
    part = replace(broker, data_dir=broker.data_dir / "format")
    shutil.rmtree(part.data_dir, ignore_errors=True)
    configure(part)
    arguments = ("--cluster-id", _new_cluster_id(), "--config", str(part.properties))
    command = java_command(part, java, jars, "kafka.tools.StorageTool", "format", *arguments)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=FORMAT_SECONDS_MAX
    )
    if done.returncode:
        raise ConfigError(f"Kafka cannot format {broker.logs}: {done.stderr.strip()[-500:]}")
    part.logs.rename(broker.logs)
    shutil.rmtree(part.data_dir)


def _new_cluster_id() -> str:
    """Return a random id in Kafka's form that no option parser takes for an option."""
    return "F" + urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")[1:]


def is_ready(bootstrap_servers: str, seconds_max: float = 1.0) -> bool:
    """Return whether a broker answers at `bootstrap_servers` within `seconds_max`."""
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=seconds_max).brokers)
    except KafkaException:
        return False


def program(broker: Broker) -> list[str]:
    """Return the command line of this module: prepares everything, then becomes the broker."""
    return [
        sys.executable,
        "-m",
        "fleetmeter_local.kafka",
        "--data-dir",
        str(broker.data_dir),
        "--port",
        str(broker.port),
        "--controller-port",
        str(broker.controller_port),
    ]


def main() -> None:
    """Prepare jars and storage, then replace this process by the broker."""
    parser = argparse.ArgumentParser(prog="fleetmeter_local.kafka", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--controller-port", type=int, required=True)
    given = parser.parse_args()
    broker = Broker(
        data_dir=given.data_dir.resolve(), port=given.port, controller_port=given.controller_port
    )
    try:
        java, jars = find_java(), prepare(pinned(), cache_dir())
        configure(broker)
        format_storage(broker, java, jars)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    command = serve_command(broker, java, jars)
    os.execv(command[0], command)  # noqa: S606 - a supervisor must see the broker's own pid


if __name__ == "__main__":
    main()

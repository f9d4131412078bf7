"""The settings of all processors, read from the environment; connects to nothing.

Every field is an environment variable: `FLEETMETER_` and the field's name in capitals.
docs/settings.md is held against this file by a test.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.topics import checked_namespace

ENVIRONMENT_PREFIX = "FLEETMETER_"
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def _namespace(text: str) -> str:
    """Turn the contract's error into the one that pydantic collects."""
    try:
        return checked_namespace(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error


class ProcessorSettings(BaseSettings):
    """What every processor needs."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    namespace: Annotated[str, AfterValidator(_namespace)] = Field(
        default="fleetmeter",
        max_length=60,
        description="Prefix of topics, groups and transactional ids, and the store's database.",
    )
    bootstrap_servers: str = Field(
        default="127.0.0.1:9092",
        min_length=1,
        description="Kafka brokers to start from, `host:port`, separated by commas.",
    )
    kafka_security_protocol: SecurityProtocol = Field(
        default="PLAINTEXT", description="How to speak to the brokers."
    )
    kafka_sasl_mechanism: SaslMechanism | None = Field(
        default=None, description="How to log in at the brokers; empty: not at all."
    )
    kafka_sasl_username: str | None = Field(default=None, description="Who logs in there.")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="With what password.")
    kafka_ssl_ca_location: str | None = Field(
        default=None, description="File of the certificates that brokers are checked against."
    )
    ops_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address on which /metrics, /health and /ready are served.",
    )
    ops_port: int = Field(
        default=0, ge=0, le=65535, description="TCP port of the same; 0 takes a free one."
    )
    instance_id: str = Field(
        default="0",
        pattern=r"^[A-Za-z0-9._-]{1,60}$",
        description="Tells processes of one kind apart. A restart under the same id keeps its "
        "partitions.",
    )
    log_level: LogLevel = Field(default="INFO", description="Least severe log line written.")


class StoreSettings(ProcessorSettings):
    """What a processor that speaks to ClickHouse needs besides."""

    store_url: str = Field(
        default="http://127.0.0.1:8123",
        pattern=r"^https?://[^/\s]+/?$",
        description="ClickHouse's HTTP interface, `http://host:port`.",
    )
    store_user: str = Field(default="default", description="Who logs in there.")
    store_password: SecretStr = Field(
        default=SecretStr(""), description="With what password or token."
    )


class MeterSettings(ProcessorSettings):
    """What the meter needs besides."""

    meter_flush_wait_ms: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="How long records of a partition are gathered for one block, milliseconds.",
    )
    meter_block_bytes_max: int = Field(
        default=1_000_000,
        ge=1_000,
        le=3_000_000,
        description="Raw bytes after which a block ends, bytes.",
    )
    meter_delivery_ms_max: int = Field(
        default=60_000,
        ge=1_000,
        le=600_000,
        description="How long a block may be on its way before the process ends, milliseconds.",
    )


class SessionsSettings(ProcessorSettings):
    """What the sessions processor needs besides."""

    sessions_transaction_snapshots_max: int = Field(
        default=10_000,
        ge=1,
        le=50_000,
        description="Snapshots after which a transaction ends.",
    )
    sessions_member_timeout_ms: int = Field(
        default=20_000,
        ge=1_000,
        le=300_000,
        description="Silence after which the brokers give this process's partitions to others, "
        "milliseconds.",
    )


class LanderSettings(StoreSettings):
    """What the lander needs besides."""

    lander_batch_bytes_max: int = Field(
        default=50_000_000,
        ge=1_000,
        le=500_000_000,
        description="Bytes after which a batch is inserted, bytes.",
    )
    lander_batch_wait_ms: int = Field(
        default=2_000,
        ge=10,
        le=60_000,
        description="How long a batch is gathered while more is waiting, milliseconds.",
    )
    lander_batch_quiet_ms: int = Field(
        default=300,
        ge=10,
        le=60_000,
        description="How long it is gathered once nothing more is waiting, milliseconds.",
    )
    lander_insert_timeout_ms: int = Field(
        default=60_000,
        ge=1_000,
        le=280_000,
        description="How long one attempt of an insert may take, milliseconds.",
    )
    lander_retry_wait_ms_max: int = Field(
        default=10_000,
        ge=10,
        le=300_000,
        description="Longest wait between two attempts of an insert, milliseconds.",
    )
    lander_member_timeout_ms: int = Field(
        default=20_000,
        ge=1_000,
        le=300_000,
        description="Silence after which the brokers give this process's partitions to others, "
        "milliseconds.",
    )


class MigrateSettings(StoreSettings):
    """What the migration needs besides."""

    partitions: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Partitions of events, metered and sessions, fixed when the topics are made; "
        "empty: 4, or what there is.",
    )
    replication: int = Field(default=1, ge=1, le=9, description="Replicas of every topic made.")


ALL = (
    ProcessorSettings,
    StoreSettings,
    MeterSettings,
    SessionsSettings,
    LanderSettings,
    MigrateSettings,
)

"""The api's settings, read from the environment; connects to nothing.

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


class ApiSettings(BaseSettings):
    """What the api needs."""

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
    store_url: str = Field(
        default="http://127.0.0.1:8123",
        pattern=r"^https?://[^/\s]+/?$",
        description="ClickHouse's HTTP interface, `http://host:port`.",
    )
    store_user: str = Field(default="default", description="Who logs in there.")
    store_password: SecretStr = Field(
        default=SecretStr(""), description="With what password or token."
    )
    store_connections: int = Field(
        default=8, ge=1, le=64, description="Queries that run at the same time."
    )
    store_timeout_ms: int = Field(
        default=20_000,
        ge=100,
        le=300_000,
        description="How long a query may stay silent, milliseconds.",
    )
    api_host: str = Field(
        default="127.0.0.1", min_length=1, description="Address on which the api is served."
    )
    api_port: int = Field(
        default=8000, ge=0, le=65535, description="TCP port of the same; 0 takes a free one."
    )
    api_requests_max: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Requests answered at the same time; one more gets 503.",
    )
    api_exports_max: int = Field(
        default=4, ge=1, le=64, description="Exports that are streamed at the same time."
    )
    tail_sessions_max: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Recently changed sessions kept in memory.",
    )
    tail_bytes_max: int = Field(
        default=128_000_000,
        ge=1_000,
        le=8_000_000_000,
        description="Bytes that their snapshots may take, encoded, bytes.",
    )
    tail_records_back: int = Field(
        default=12_000,
        ge=100,
        le=1_000_000,
        description="Records of each partition of sessions.v1 read at the start. A transaction "
        "holds 10,000 and ends with a checkpoint, so more than that finds one.",
    )
    log_level: LogLevel = Field(default="INFO", description="Least severe log line written.")


ALL = (ApiSettings,)

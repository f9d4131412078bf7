"""What every librdkafka client of a processor is built from; builds none itself."""

from typing import Any

from fleetmeter_processors.settings import ProcessorSettings


def client_options(settings: ProcessorSettings) -> dict[str, Any]:
    """Return librdkafka's options for address and security; the caller adds its own to it."""
    options: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        # A dead broker is back within seconds here; librdkafka's own limit is ten of them. Half of
        # the lower one is also the pause between its attempts to find any broker at all.
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2_000,
    }
    password = settings.kafka_sasl_password
    optional = {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": password.get_secret_value() if password is not None else None,
        "ssl.ca.location": settings.kafka_ssl_ca_location,
    }
    return options | {name: value for name, value in optional.items() if value is not None}


def group_id(settings: ProcessorSettings, process: str) -> str:
    """Return the consumer group of a process."""
    return f"{settings.namespace}.{process}"


def group_instance_id(settings: ProcessorSettings, process: str) -> str:
    """Return the static member id of this process in its group."""
    return f"{settings.namespace}-{process}-{settings.instance_id}"

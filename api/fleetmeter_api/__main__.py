"""The api's process: settings, logs, uvicorn, exit status. `python -m fleetmeter_api`."""

import logging
import signal
import socket
import sys
import threading
import time
from typing import Final, NoReturn

import structlog
import uvicorn
from confluent_kafka import KafkaException
from pydantic import ValidationError
from structlog.typing import Processor

from fleetmeter_api.app import create_app, real_ports
from fleetmeter_api.settings import ENVIRONMENT_PREFIX, ApiSettings
from fleetmeter_schemas.errors import ConfigError

EXIT_CONFIG: Final = 2
EXIT_CRASHED: Final = 70  # EX_SOFTWARE of sysexits.h
SHUTDOWN_SECONDS: Final = 10

log = structlog.get_logger()


def main() -> NoReturn:
    """Serve until a signal comes.

    Exit status: 0 asked to stop; 2 wrong settings, or the port is taken; 70 a reader crashed.
    """
    try:
        settings = ApiSettings()
    except ValidationError as error:
        _refuse(_sentence(error))
    _configure_logs(settings.log_level)
    listening = _listen(settings)
    try:
        server = uvicorn.Server(_config(settings))
    except KafkaException as error:
        _refuse(f"Kafka's client refuses the settings: {error.args[0].str()}")
    statuses = _stop_on_crash(server)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops on them, and then raises them again for whoever handled them before.
        signal.signal(number, lambda *_: None)
    log.info("api.started", host=settings.api_host, port=listening.getsockname()[1])
    server.run(sockets=[listening])
    log.info("api.stopped")
    sys.exit(statuses[0] if statuses else 0)


def _listen(settings: ApiSettings) -> socket.socket:
    """The listening socket; the process ends where it cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
        return socket.create_server(
            (settings.api_host, settings.api_port), family=family, backlog=2048
        )
    except OSError as error:
        _refuse(f"cannot listen on {settings.api_host}:{settings.api_port}: {error.strerror}")


def _config(settings: ApiSettings) -> uvicorn.Config:
    app = create_app(settings, real_ports(settings, _now_ms))
    return uvicorn.Config(
        app,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _stop_on_crash(server: uvicorn.Server) -> list[int]:
    """A reader that crashed leaves an api that answers old data: stop, and be started again.

    Returns:
        The exit statuses of readers that crashed, to be filled later.
    """
    statuses: list[int] = []

    def crashed(info: threading.ExceptHookArgs) -> None:
        if isinstance(info.exc_value, ConfigError):
            sys.stderr.write(f"fleetmeter api: {info.exc_value}\n")
            statuses.append(EXIT_CONFIG)
        else:
            log.error("api.crashed", exc_info=info.exc_value)
            statuses.append(EXIT_CRASHED)
        server.should_exit = True

    threading.excepthook = crashed
    return statuses


def _configure_logs(level: str) -> None:
    """Log to stderr: lines for people on a terminal, JSON otherwise; foreign loggers alike."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    removal = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[removal, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _sentence(error: ValidationError) -> str:
    """What is wrong with which variables; values may be secrets and are left out."""
    wrong = (
        f"{ENVIRONMENT_PREFIX}{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
    return "; ".join(wrong)


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"fleetmeter api: {sentence}\n")
    sys.exit(EXIT_CONFIG)


if __name__ == "__main__":
    main()

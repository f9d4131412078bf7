"""How every processor begins and ends: settings, logs, signals, ops server, exit status.

Does none of a processor's work.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import structlog
from pydantic import ValidationError
from structlog.typing import FilteringBoundLogger, Processor

from fleetmeter_processors.ops import Ops
from fleetmeter_processors.settings import ENVIRONMENT_PREFIX, ProcessorSettings
from fleetmeter_schemas.errors import ConfigError

EXIT_CONFIG = 2
EXIT_CRASHED = 70  # EX_SOFTWARE of sysexits.h
COLLECT_SECONDS = 600.0

S = TypeVar("S", bound=ProcessorSettings)


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The process was asked to stop while it waited for something; `main` exits with 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What `main` gives to a processor: when to stop, where to tell how it goes."""

    stopping: threading.Event
    ops: Ops
    log: FilteringBoundLogger

    def pause(self, seconds: float) -> None:
        """Wait so long; raises Stopped when asked to stop before that."""
        if self.stopping.wait(seconds):
            raise Stopped


def main(name: str, settings_type: type[S], run: Callable[[S, Runtime], None]) -> NoReturn:
    """Run a processor until it returns, and exit.

    Exit status: 0 done or asked to stop; 2 wrong settings, in one line on stderr; 70 a crash.
    """
    try:
        settings = settings_type()
    except ValidationError as error:
        _refuse(name, _sentence(error))
    configure_logs(settings.log_level)
    runtime = Runtime(
        stopping=threading.Event(), ops=Ops(), log=structlog.get_logger().bind(process=name)
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.stopping.set())
    try:
        _serve_ops(settings, runtime)
        run(settings, runtime)
    except Stopped:
        pass
    except ConfigError as error:
        _refuse(name, str(error))
    except Exception:  # the top of a process
        runtime.log.exception("process.crashed")
        _crash()
    runtime.ops.stop()
    runtime.log.info("process.stopped")
    sys.exit(0)


def configure_logs(level: str) -> None:
    """Log to stderr: lines for people on a terminal, JSON otherwise; foreign loggers alike."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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


def _serve_ops(settings: ProcessorSettings, runtime: Runtime) -> None:
    try:
        runtime.ops.start(settings.ops_host, settings.ops_port)
    except OSError as error:
        where = f"{settings.ops_host}:{settings.ops_port}"
        raise ConfigError(f"cannot serve /health on {where}: {error.strerror}") from error
    runtime.log.info("process.started", ops_port=runtime.ops.port)


def _sentence(error: ValidationError) -> str:
    """Return what is wrong with which variables; values may be secrets and are left out."""
    wrong = (
        f"{ENVIRONMENT_PREFIX}{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
    return "; ".join(wrong)


def _refuse(name: str, sentence: str) -> NoReturn:
    line = " ".join(sentence.split())
    sys.stderr.write(f"fleetmeter {name}: {line}\n")
    sys.exit(EXIT_CONFIG)


def _crash() -> NoReturn:
    """End at once: a thread that hangs in a client must not keep a crashed process alive."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(EXIT_CRASHED)


def collect_rarely() -> None:
    """Look for garbage in cycles every ten minutes only, from now on.

    For processes that hold many small objects and make hardly a cycle: looking through them again
    and again took a tenth of their time.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    threading.Thread(target=_collect, name="collect", daemon=True).start()


def _collect() -> NoReturn:
    while True:
        time.sleep(COLLECT_SECONDS)
        gc.collect()

"""Our own logs and metrics. Logs are events with stable names; metrics live on a registry that is passed in."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Literal, TextIO, TypeAlias

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector

from rollbackd import __version__

LogFormat: TypeAlias = Literal["json", "console"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(fmt: LogFormat, level: LogLevel) -> None:
    """Write structured events to standard error: JSON, a line each, or lines for people.

    Tracebacks are the plain ones: structlog's own show local variables, which hold secrets, and take half a second.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.types.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    if fmt == "console":
        plain = structlog.dev.plain_traceback
        renderers = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_names: _Lines(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # What libraries log through the standard library goes the same way, from warnings upwards.
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)
    logging.captureWarnings(capture=True)


class _Lines:
    """Writes lines, and loses those that cannot be written: a log on a full disk must not take the daemon with it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.write(message + "\n")
            self._file.flush()

    debug = info = warning = error = critical = exception = log = msg


class _FromLibraries(logging.Handler):
    """Passes on what libraries log as events of our own shape."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log = structlog.get_logger("rollbackd.libraries")
        log.log(record.levelno, "library_said", library=record.name, message=record.getMessage(), exc_info=error)


class Metrics:
    """What the daemon counts about itself. Labels are bounded in number: services, sources, rules, states."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        Info("rollbackd_build", "The running version.", registry=registry).info({"version": __version__})
        self.events = Counter("rollbackd_events_total", "Events fed to the engine.", ["type"], registry=registry)
        self.dropped = Counter(
            "rollbackd_source_dropped_total",
            "What a source saw but could not use, by reason.",
            ["service", "source", "reason"],
            registry=registry,
        )
        self.source_up = Gauge(
            "rollbackd_source_up", "1 while a source can be read.", ["service", "source"], registry=registry
        )
        self.source_events = Counter(
            "rollbackd_source_events_total", "Events a source gave.", ["service", "source"], registry=registry
        )
        self.queued = Gauge("rollbackd_queued_events", "Events waiting for the engine.", registry=registry)
        self.watches = Gauge("rollbackd_open_watches", "Deployments being watched.", registry=registry)
        self.decisions = Counter(
            "rollbackd_decisions_total", "Decisions made.", ["service", "action", "rule"], registry=registry
        )
        self.rollbacks = Counter(
            "rollbackd_rollbacks_total", "Rollbacks that ended, by how.", ["service", "state"], registry=registry
        )
        self.ready = Gauge("rollbackd_target_ready", "1 while a revert would work.", ["service"], registry=registry)
        self.ledger_up = Gauge("rollbackd_ledger_up", "1 while the ledger can be written.", registry=registry)
        self.config_ok = Gauge("rollbackd_config_ok", "0 while a changed file is refused.", registry=registry)
        self.task_crashes = Counter(
            "rollbackd_task_crashes_total", "Tasks that ended by an error.", ["task"], registry=registry
        )
        self.recorder_lost = Counter(
            "rollbackd_recording_lost_total", "Events the recording could not take.", registry=registry
        )
        self.ledger_up.set(1)

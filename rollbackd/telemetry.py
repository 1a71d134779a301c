"""Our own logs and metrics. Logs are events with stable names; metrics live on a registry that is passed in."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TypeAlias

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector

from rollbackd import __version__

LogFormat: TypeAlias = Literal["json", "console"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(fmt: LogFormat, level: LogLevel) -> None:
    """Write structured events to standard error: JSON, a line each, or lines for people."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.types.Processor] = [
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(),
    ]
    if fmt == "console":
        renderers = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback)]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # what libraries log through the standard library goes the same way, from warnings upwards
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


_plain_traceback = structlog.dev.plain_traceback


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
        self.config_ok.set(1)

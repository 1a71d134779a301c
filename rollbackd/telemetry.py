"""Our own logs and metrics. Logs are events with stable names; metrics live on a registry that is passed in."""

from __future__ import annotations

import contextlib
import logging
import sys
from dataclasses import dataclass
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
        renderers = [
            structlog.processors.format_exc_info,
            _printable,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),
        ]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_names: _Lines(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # What libraries log through the standard library goes the same way, from warnings upwards.
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)
    logging.captureWarnings(capture=True)


def _printable(_logger: object, _name: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """What services and callers wrote must not steer the terminal that shows it. JSON escapes it anyway."""
    return {str(_plain(name)): _plain(fact) for name, fact in event.items()}


def _plain(fact: object) -> object:
    if fact is None or isinstance(fact, bool | int | float):
        return fact
    text = fact if isinstance(fact, str) else repr(fact)
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)


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
    """Passes on what libraries log as events of our own shape; what repeats itself, only a few times a minute."""

    OFTEN = 5
    WINDOW_S = 60.0
    REMEMBERED = 1000

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], _Said] = {}

    def emit(self, record: logging.LogRecord) -> None:
        left_out = self._left_out(record)
        if left_out is None:
            return
        error = record.exc_info[1] if record.exc_info else None
        more = {"left_out": left_out} if left_out else {}
        log = structlog.get_logger("rollbackd.libraries")
        log.log(
            record.levelno, "library_said", library=record.name, message=record.getMessage(), exc_info=error, **more
        )

    def _left_out(self, record: logging.LogRecord) -> int | None:
        """How many like this were left out since the last one that was not; None where this one is left out, too."""
        like = (record.name, str(record.msg))
        said = self._said.get(like)
        if said is None or record.created - said.since >= self.WINDOW_S:
            if said is None and len(self._said) >= self.REMEMBERED:
                self._said.clear()
            self._said[like] = _Said(record.created)
            return said.left_out if said is not None else 0
        if said.times < self.OFTEN:
            said.times += 1
            return 0
        said.left_out += 1
        return None


@dataclass
class _Said:
    """How often something was said since a moment."""

    since: float
    times: int = 1
    left_out: int = 0


class Metrics:
    """What the daemon counts about itself. Labels are bounded in number: services, sources, rules, states."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        Info("rollbackd_build", "The running version.", registry=registry).info({"version": __version__})
        self.events = Counter("rollbackd_events_total", "Events fed to the engine.", ["type"], registry=registry)
        self.refused = Counter(
            "rollbackd_events_refused_total",
            "Events of services beyond the number that can be remembered.",
            registry=registry,
        )
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

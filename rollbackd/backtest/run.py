"""The backtest itself: window after window, page after page, so that memory does not grow with the time looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rollbackd.backtest.alerts import FIRING, AlertHistory
from rollbackd.backtest.deployments import Deployment
from rollbackd.backtest.history import SignalHistory
from rollbackd.backtest.judging import Trial
from rollbackd.backtest.prometheus import LONGEST_PAGE_S, Prometheus
from rollbackd.backtest.report import Judgement
from rollbackd.backtest.selector import Match
from rollbackd.backtest.windows import Window
from rollbackd.config.schema import Config
from rollbackd.errors import Permanent
from rollbackd.metrics.presets import PRESETS, Meaning, NamesMetrics
from rollbackd.metrics.promql import named
from rollbackd.model import AnyEvent
from rollbackd.recording import Recorder


@dataclass(frozen=True)
class Saving:
    """Where recordings are kept, and the configuration's text that goes beside each."""

    folder: Path
    config: bytes


@dataclass
class _Service:
    """One service's series in one window, and what is made of them."""

    name: str
    matchers: str
    signals: SignalHistory
    alerts: AlertHistory


class Backtest:
    """Judges deployments by the history of a server. `told` hears which window of how many comes next."""

    def __init__(
        self,
        prometheus: Prometheus,
        config: Config,
        match: Match,
        step: float,
        saving: Saving | None = None,
        told: Callable[[int, int, Window], None] = lambda _number, _of, _window: None,
    ) -> None:
        self._prometheus, self._config, self._match, self._step = prometheus, config, match, step
        self._saving, self._told = saving, told
        self._good: dict[str, str] = {}

    async def run(self, wanted: Sequence[Deployment], windows: Sequence[Window]) -> AsyncIterator[Judgement]:
        """The judgements of the wanted deployments, in order of time.

        Raises Temporary where the server is not to be had, Permanent where it refuses, and what a recorder raises.
        """
        for number, window in enumerate(windows, start=1):
            self._told(number, len(windows), window)
            for judgement in await self._judge(number, window, wanted):
                yield judgement

    async def _judge(self, number: int, window: Window, wanted: Sequence[Deployment]) -> list[Judgement]:
        trial = Trial(window, self._config.policy_for, self._config.fleet, self._good)
        services = [self._service(name) for name in self._names(window)]
        path = self._path(number, window)
        recorder = Recorder(path) if path is not None else None
        try:
            async for event in self._events(window, trial, services):
                if recorder is not None:
                    recorder.write(event)
                trial.feed(event)
        finally:
            if recorder is not None:
                recorder.close()
        self._good |= trial.good()
        nothing = {one.name: f"{{{one.matchers}}}" for one in services if not one.signals.found}
        return trial.judgements(wanted, nothing, path.name if path is not None else None)

    def _names(self, window: Window) -> list[str]:
        """All configured services, which tell whether a trouble is shared, and those that were deployed."""
        return list(dict.fromkeys([*self._config.services, *(one.service for one in window.deployments)]))

    def _service(self, name: str) -> _Service:
        match, meanings = _named_by(self._config, name)
        matchers = self._match.of(name, match)
        signals = SignalHistory(name, meanings, match, self._step)
        return _Service(name, matchers, signals, AlertHistory(name))

    def _path(self, number: int, window: Window) -> Path | None:
        """The window's recording, with its configuration beside it: replay looks for one there."""
        if self._saving is None:
            return None
        moment = datetime.fromtimestamp(window.start, UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self._saving.folder / f"{number:04d}-{moment}.jsonl"
        beside = path.with_name(f"{path.name}.yaml")
        try:
            self._saving.folder.mkdir(parents=True, exist_ok=True)
            for one in (path, beside):
                one.touch(mode=0o600, exist_ok=False)
            beside.write_bytes(self._saving.config)
        except FileExistsError:
            raise Permanent(f"{self._saving.folder} holds recordings already: give --save a new folder") from None
        except OSError as error:
            raise Permanent(f"cannot write to {self._saving.folder}: {error.strerror}") from None
        return path

    async def _events(self, window: Window, trial: Trial, services: Sequence[_Service]) -> AsyncIterator[AnyEvent]:
        """Everything that happened in the window, in order of time."""
        alerts = [event for one in services for event in await self._alerts(one, window)]
        begin = window.start
        while begin < window.end:
            end = min(begin + LONGEST_PAGE_S, window.end)
            events: list[AnyEvent] = [event for event in alerts if begin < event.t <= end]
            for one in services:
                selector = named(one.signals.metrics, one.matchers)
                async for rows in self._prometheus.pages(selector, begin, end):
                    events += one.signals.take(rows)
            told = [event for event in trial.deployments if begin < event.t <= end or event.t == begin == window.start]
            # sorting keeps the order of equals: what was counted up to a deployment's very moment was before it
            for event in sorted([*events, *told], key=lambda event: event.t):
                yield event
            begin = end

    async def _alerts(self, one: _Service, window: Window) -> list[AnyEvent]:
        async for rows in self._prometheus.pages(FIRING % one.matchers, window.start, window.end):
            one.alerts.take(rows)
        return list(one.alerts.events(window.end))


def _named_by(config: Config, service: str) -> tuple[dict[str, str], list[Meaning]]:
    """How a service's series are told and read: as its first source that reads metrics says, else by every preset."""
    streams = config.services[service].streams if service in config.services else ()
    for block in streams:
        if isinstance(block.settings, NamesMetrics):
            return dict(block.settings.match), block.settings.meanings()
    return {}, [meaning for row in PRESETS for meaning in row.meanings()]

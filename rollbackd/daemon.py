"""The one place that knows everybody: builds the parts in a straight line, tears them down last-in-first-out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from rollbackd import __version__
from rollbackd.aiokit import Clock, Tasks
from rollbackd.config.blocks import Catalog
from rollbackd.config.loading import Loaded
from rollbackd.config.schema import Config
from rollbackd.config.watching import Reloader
from rollbackd.engine import Engine
from rollbackd.errors import Permanent, Temporary
from rollbackd.intake.base import Intake, IntakeContext
from rollbackd.intake.desk import Desk
from rollbackd.ledger.base import ConfigStamp, Ledger, LedgerContext, StoredDecision
from rollbackd.live.backend import LiveBackend
from rollbackd.live.fleet import Fleet
from rollbackd.live.pipeline import Pipeline
from rollbackd.live.pushed import Pushed
from rollbackd.live.rollbacks import EngineVerifier, Rollbacks
from rollbackd.live.told import Teller, Told
from rollbackd.model import WatchChange
from rollbackd.notify.base import Notifier, NotifierContext
from rollbackd.notify.outbox import Outbox
from rollbackd.recording import Recorder
from rollbackd.rollback.executor import Executor, Limits
from rollbackd.sdnotify import SystemdNotifier
from rollbackd.telemetry import Metrics
from rollbackd.web.app import build_app
from rollbackd.web.auth import Authenticator, Token
from rollbackd.web.connections import Gate, most_connections
from rollbackd.web.meter import Meter
from rollbackd.web.server import WebServer

HOUR = 3600.0
SETTLE_S = 1.0
"""How often intakes are asked for what has become certain meanwhile."""
DRAIN_S = 5.0
"""How long events that were taken in may take to reach the engine when the daemon stops."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.daemon")


class Daemon:
    """The daemon for one configuration file. `run` returns when it was asked to stop.

    `record` names a recording in the place of the configuration's.
    """

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        catalog: Catalog,
        clock: Clock,
        systemd: SystemdNotifier | None = None,
        record: Path | None = None,
    ) -> None:
        self._path, self._loaded, self._catalog, self._clock = path, loaded, catalog, clock
        self._systemd = systemd or SystemdNotifier()
        self._record = record or loaded.config.record
        self._stop = asyncio.Event()
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry)
        self._meter = Meter(self._registry)
        self._notifiers: dict[str, Notifier] = {}
        self._reloader = Reloader(path, catalog, loaded, self._apply, clock, refused=self._refused)
        self._metrics.config_ok.set_function(lambda: 0 if self._reloader.problem else 1)

    @property
    def _config(self) -> Config:
        return self._loaded.config

    @property
    def url(self) -> str:
        """Where it serves, once ready."""
        return self._server.url

    def stop(self) -> None:
        """Ask it to stop, as SIGTERM does."""
        self._stop.set()

    async def run(self) -> None:
        """Start everything, serve until asked to stop, take everything down.

        Raises Permanent or Temporary where it cannot start, and what an essential part died of.
        """
        async with AsyncExitStack() as stack:
            self._listen_to_signals(stack)
            tasks = await self._start(stack)
            self._systemd.send(f"READY=1\nSTATUS=watching {len(self._config.services)} services")
            log.info("ready", version=__version__, services=list(self._config.services), url=self.url)
            tasks.failed.add_done_callback(lambda _failed: self.stop())
            await self._stop.wait()
            self._systemd.send("STOPPING=1")
            log.info("stopping")
            if tasks.failed.done():
                raise tasks.failed.result()

    async def _start(self, stack: AsyncExitStack) -> Tasks:
        clock, config = self._clock, self._config
        _make_dir(config.data_dir)
        ledger = self._build_ledger(config)
        await ledger.open()
        stack.push_async_callback(ledger.close)

        engine = Engine(lambda name: self._config.policy_for(name), config.fleet)
        recorder = Recorder(self._record) if self._record is not None else None
        if recorder is not None:
            stack.callback(recorder.close)
        self._notifiers = await self._build_notifiers(config)
        stack.push_async_callback(self._close_notifiers)
        tasks = Tasks(clock, lambda name, _error: self._metrics.task_crashes.labels(name.split(":")[0]).inc())
        stack.push_async_callback(tasks.close)
        teller = Teller(lambda: tuple(self._notifiers), clock)
        self._outbox = Outbox(ledger, self._notifiers, clock)
        executor = Executor(ledger, clock, Limits(), teller.rollback, lambda _rollback: self._outbox.nudge())

        pipeline = Pipeline(
            engine,
            ledger,
            clock,
            tasks,
            self._metrics,
            recorder=recorder,
            stamp=self._stamp,
            mode_for=lambda name: self._config.mode_for(name),
            told=teller.outcomes,
            act=self._act,
            configured=lambda name: name in self._config.services,
        )
        waiting = await pipeline.restore()
        self._fleet = Fleet(self._catalog, engine, pipeline, clock, tasks, self._metrics, config.data_dir)
        self._rollbacks = Rollbacks(
            ledger,
            executor,
            EngineVerifier(engine, pipeline, clock),
            clock,
            tasks,
            self._metrics,
            policy_for=lambda name: self._config.policy_for(name),
            mode_for=lambda name: self._config.mode_for(name),
            place_for=self._fleet.place,
            on_end=self._rollback_ended,
        )
        self._engine, self._pipeline, self._ledger, self._teller = engine, pipeline, ledger, teller
        self._metrics.watches.set(engine.open_watches)

        stack.push_async_callback(self._save)
        self._fleet.set_pauses({one.service: one for one in await ledger.pauses()})
        stack.push_async_callback(self._fleet.stop)
        self._fleet.exchange(config)
        self._fleet.decided(reversed(await ledger.decisions(limit=1000)))
        for item in waiting:
            self._fleet.submit_accepted(item)
        stack.push_async_callback(self._rollbacks.stop)
        await self._rollbacks.resume()

        self._pushed = Pushed(lambda name: name in self._config.services, clock)
        self._backend = LiveBackend(
            engine,
            ledger,
            pipeline,
            self._fleet,
            self._rollbacks,
            self._pushed,
            clock,
            stamp=self._stamp,
            mode_for=lambda name: self._config.mode_for(name),
            config_problem=lambda: self._reloader.problem,
            more_problems=lambda: (*self._rollbacks.problems, *executor.problems),
        )
        self._auth = Authenticator(_tokens(config), config.auth.anonymous)
        self._desk = Desk(self._build_intakes(config))
        stack.callback(self._desk.close)
        app = build_app(
            self._backend,
            self._desk,
            self._auth,
            self._registry,
            clock=clock,
            deliveries_per_second=lambda: self._config.limits.deliveries_per_second,
            allowed_hosts=lambda: self._config.auth.allowed_hosts,
            meter=self._meter,
        )
        gate = Gate(most_connections(), self._meter.turned_away)
        self._server = WebServer(app, config.listen.host, config.listen.port, gate=gate)
        stack.push_async_callback(self._server.stop)
        await self._server.start()

        tasks.essential("outbox", self._outbox.run())
        tasks.essential("snapshots", pipeline.snapshots())
        stack.push_async_callback(_end, tasks.restarted("reload", self._reloader.run))
        tasks.restarted("housekeeping", self._keep_house)
        stack.push_async_callback(_end, tasks.restarted("settling", self._settle))
        if self._systemd.watchdog_s is not None:
            tasks.essential("watchdog", self._watchdog(self._systemd.watchdog_s))
        return tasks

    # -- parts made of the configuration

    def _build_ledger(self, config: Config) -> Ledger:
        adapter = self._catalog.load("ledger", config.ledger.name)
        ledger: Ledger = adapter.build(config.ledger.settings, LedgerContext(data_dir=str(config.data_dir)))
        return ledger

    async def _build_notifiers(self, config: Config) -> dict[str, Notifier]:
        built: dict[str, Notifier] = {}
        try:
            for block in config.notify:
                context = NotifierContext(name=block.label, clock=self._clock)
                built[block.label] = self._catalog.load("notifier", block.name).build(block.settings, context)
        except BaseException:
            await _close_all(built)
            raise
        return built

    def _build_intakes(self, config: Config) -> Mapping[str, Intake]:
        context = IntakeContext(services=self._fleet)
        return {
            block.name: self._catalog.load("intake", block.name).build(block.settings, context)
            for block in config.intake
        }

    async def _close_notifiers(self) -> None:
        await _close_all(self._notifiers)

    def _stamp(self) -> ConfigStamp:
        return self._loaded.stamp

    # -- reload

    async def _apply(self, loaded: Loaded) -> None:
        """Put a new configuration in force; what can fail is done before anything is changed."""
        old, new = self._config, loaded.config
        fixed = ("listen", "data_dir", "ledger", "record", "log", "intake")
        changed = [name for name in fixed if getattr(old, name) != getattr(new, name)]
        if changed:
            raise Permanent(f"{', '.join(changed)} changed, which takes effect at a restart only: restart the daemon")
        gone = [name for name in old.services if name not in new.services]
        if gone and not new.services:
            raise Permanent(
                f"no service is left in it, {', '.join(gone)} would go unwatched: a file cut short? "
                "To watch nothing, stop the daemon"
            )
        before = self._notifiers
        notifiers = await self._build_notifiers(new) if new.notify != old.notify else before
        try:
            former = self._fleet.exchange(new)
        except BaseException:
            if notifiers is not before:
                await _close_all(notifiers)
            raise
        # Nothing is awaited from the exchange until all is in force: no part meets another one's former settings.
        self._loaded = loaded
        self._engine.use(lambda name: self._config.policy_for(name), new.fleet)
        self._auth.replace(_tokens(new), new.auth.anonymous)
        if notifiers is not before:
            self._notifiers = notifiers
            self._outbox.use(notifiers)
        self._systemd.send(f"STATUS=watching {len(new.services)} services")
        if gone:
            log.warning("services_no_longer_watched", services=gone)
        await asyncio.gather(*(running.ended() for running in former))
        if notifiers is not before:
            await _close_all(before)

    async def _refused(self, problem: str) -> None:
        await self._ledger.enqueue(self._teller.config_refused(str(self._path), problem))
        self._outbox.nudge()

    def _rollback_ended(self) -> None:
        if self._reloader.problem is not None:  # perhaps the rollback was what stood in the way
            self._reloader.request()

    # -- what runs on the side

    async def _act(self, decisions: Sequence[StoredDecision], changes: Sequence[WatchChange]) -> None:
        for change in changes:
            log.info(
                "watch_changed",
                service=change.service,
                version=change.version,
                state=change.state,
                reason=change.reason,
            )
            place = self._fleet.place(change.service)
            if place is not None and change.state == "opened":
                place.decision_id = None
                place.deployment_seen()
        self._metrics.watches.set(self._engine.open_watches)
        self._outbox.nudge()
        self._fleet.decided(decisions)
        await self._rollbacks.decided(decisions)

    async def _keep_house(self) -> None:
        """Forget what is too old, and tell of sources that stay down; never ends."""
        pruned_at = self._clock.now()
        untold: Told = []
        while True:
            await self._clock.sleep(10.0)
            self._pushed.tell(self._fleet.names, self._metrics.source_up)
            untold += self._teller.sources(self._fleet.names, self._backend.sources)
            try:
                if untold:
                    await self._ledger.enqueue(untold)
                    untold = []
                    self._outbox.nudge()
                if self._clock.now() - pruned_at > HOUR:
                    pruned_at = self._clock.now()
                    await self._ledger.prune(pruned_at - self._config.limits.keep)
            except Temporary as error:
                log.warning("housekeeping_postponed", error=str(error))

    async def _settle(self) -> None:
        """Take from intakes what becomes certain without a further delivery; never ends."""
        while True:
            await self._clock.sleep(SETTLE_S)
            for name in self._desk.intakes:
                reading = await self._desk.settled(name, self._clock.now())
                if reading.observed:
                    view = await self._backend.deliver(name, reading, self._clock.now(), "rollbackd")
                    self._meter.delivery(name, view.accepted, view.duplicates, view.dropped)

    async def _watchdog(self, every: float) -> None:
        while True:
            self._systemd.send("WATCHDOG=1")
            await self._clock.sleep(every / 2)

    async def _save(self) -> None:
        """Feed what was taken in, and keep the engine's state."""
        await self._pipeline.drain(DRAIN_S)
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._pipeline.commit()
        except TimeoutError:
            log.error("state_not_saved", problem=self._pipeline.problem)

    def _listen_to_signals(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGHUP: self._reloader.request,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
            stack.callback(loop.remove_signal_handler, number)


async def _close_all(notifiers: Mapping[str, Notifier]) -> None:
    """Close each; what goes wrong then is logged, since nothing is lost by it."""
    for name, notifier in notifiers.items():
        try:
            await notifier.close()
        except Exception:
            log.exception("notifier_not_closed", notifier=name)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=DRAIN_S)


def _tokens(config: Config) -> list[Token]:
    return [Token(one.name, one.token.reveal, frozenset(one.scopes)) for one in config.auth.tokens]


def _make_dir(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Permanent(
            f"data_dir {path} cannot be made: {error.strerror}; "
            "set `data_dir` to a folder where the daemon's user may write"
        ) from error

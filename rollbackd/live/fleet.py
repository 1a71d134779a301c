"""The configured services while they run: built from the configuration, started, exchanged at a reload, stopped."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from rollbackd.aiokit import Clock, Tasks
from rollbackd.config.blocks import Catalog
from rollbackd.config.schema import Block, Config, Service
from rollbackd.engine import Engine
from rollbackd.errors import Permanent, Temporary
from rollbackd.ledger.base import InboxItem, Mode, Pause, StoredDecision
from rollbackd.live.pipeline import Pipeline
from rollbackd.live.place import Place
from rollbackd.live.streams import Stream
from rollbackd.model import DeploymentEvent
from rollbackd.sources.base import Commons, SourceContext
from rollbackd.targets.base import Target, TargetContext
from rollbackd.telemetry import Metrics

STOP_WITHIN_S = 10.0
"""How long a service's tasks may take to end; one that takes longer is left to the end of the daemon."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.fleet")


@dataclass
class Running:
    """One service's parts and their tasks."""

    settings: Service
    place: Place
    streams: tuple[Stream, ...]
    mode: Mode = "act"
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def leave(self) -> None:
        """Begin to stop, and be seen no more."""
        for task in self.tasks:
            task.cancel()
        for stream in self.streams:
            stream.forget()
        self.place.forget()

    async def ended(self) -> None:
        """Return once it has stopped; what goes wrong then is logged, since nothing is lost by it."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=STOP_WITHIN_S)
        try:
            if self.place.target is not None:
                await self.place.target.close()
        except Exception:
            log.exception("target_not_closed", service=self.place.service)


class Fleet:
    """All configured services."""

    def __init__(
        self,
        catalog: Catalog,
        engine: Engine,
        pipeline: Pipeline,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        data_dir: Path,
    ) -> None:
        self._catalog, self._engine, self._pipeline = catalog, engine, pipeline
        self._clock, self._tasks, self._metrics = clock, tasks, metrics
        self._targets_dir, self._sources_dir = data_dir / "targets", data_dir / "sources"
        self._commons = Commons()
        self._running: dict[str, Running] = {}
        self._known: frozenset[str] = frozenset()
        self._pauses: dict[str | None, Pause] = {}

    # -- who is there

    def known(self) -> frozenset[str]:
        """The names of all configured services: the same object as long as they are the same."""
        return self._known

    @property
    def names(self) -> list[str]:
        """The names in the order of the configuration."""
        return list(self._running)

    def place(self, service: str) -> Place | None:
        """Where the service runs."""
        running = self._running.get(service)
        return running.place if running is not None else None

    def streams(self, service: str) -> tuple[Stream, ...]:
        """The service's sources."""
        running = self._running.get(service)
        return running.streams if running is not None else ()

    def submit_accepted(self, item: InboxItem) -> None:
        """Pass on a pushed event that is in the ledger: a deployment by the place where it is said to have been."""
        place = self.place(item.event.service)
        if isinstance(item.event, DeploymentEvent) and place is not None:
            place.announced(item, item.event)
        else:
            self._pipeline.submit_accepted(item)

    def decided(self, decisions: Iterable[StoredDecision]) -> None:
        """Note what was decided, in order of time, where it was."""
        for stored in decisions:
            place = self.place(stored.decision.service)
            if place is not None:
                place.decided(stored)

    # -- start, exchange, stop

    def exchange(self, config: Config) -> list[Running]:
        """Make the configuration's services the running ones; what did not change goes on undisturbed.

        Returns what no longer runs, whose end is to be awaited once everything else of the configuration is in force
        as well: nothing is awaited here, so that no part acts under the settings of another configuration.
        Everything that can fail is done first: where it raises, nothing was changed.
        """
        changed = {
            name: settings
            for name, settings in config.services.items()
            if name not in self._running or _wiring(self._running[name].settings) != _wiring(settings)
        }
        gone = [name for name in self._running if name not in config.services]
        for name, running in self._running.items():
            turned = name in gone or running.mode != config.mode_for(name)
            if running.place.rollback_id is not None and (turned or name in changed):
                raise Temporary(f"a rollback of {name} is running: its settings cannot change until it ends")
        built = self._build_all(changed)
        former = [self._running.pop(name) for name in (*gone, *changed) if name in self._running]
        for running in former:
            running.leave()
            running.place.hand_over()
        for name, fresh in built.items():
            self._start(name, fresh)
        self._running = {name: self._running[name] for name in config.services}
        if self._known != self._running.keys():
            self._known = frozenset(self._running)
        for name, settings in config.services.items():
            running = self._running[name]
            running.settings, running.mode = settings, config.mode_for(name)
            running.place.shadow = running.mode == "shadow"
            running.place.tell()
        return former

    def _build_all(self, changed: Mapping[str, Service]) -> dict[str, Running]:
        built: dict[str, Running] = {}
        try:
            for name, settings in changed.items():
                built[name] = self._build(name, settings)
        except BaseException:
            for name, running in built.items():
                self._tasks.once(f"discard:{name}", running.ended())
            raise
        return built

    def _build(self, name: str, settings: Service) -> Running:
        target: Target | None = None
        if settings.target is not None:
            state_dir = self._targets_dir / name
            _make(state_dir)
            context = TargetContext(service=name, clock=self._clock, state_dir=state_dir)
            target = self._catalog.load("target", settings.target.name).build(settings.target.settings, context)
        kind = settings.target.name if settings.target is not None else None
        place = Place(name, kind, target, self._engine, self._pipeline, self._clock, self._metrics)
        streams = tuple(
            Stream(
                service=name,
                label=block.label,
                kind=block.name,
                source=self._catalog.load("source", block.name).build(block.settings, self._context(name, block)),
                pipeline=self._pipeline,
                clock=self._clock,
                metrics=self._metrics,
            )
            for block in settings.streams
        )
        return Running(settings, place, streams)

    def _context(self, service: str, block: Block) -> SourceContext:
        label = re.sub(r"[^\w.-]", "_", block.label)
        folder = self._sources_dir / service / f"{label}-{hashlib.sha256(block.label.encode()).hexdigest()[:8]}"
        return SourceContext(service, self._clock, folder, self._commons, lambda: self._pipeline.counted_until(service))

    def _start(self, name: str, running: Running) -> None:
        running.place.paused = self._pauses.get(name, self._pauses.get(None))
        for stream in running.streams:
            stream.show()
            running.tasks.append(self._tasks.restarted(f"source:{name}:{stream.label}", stream.run))
        if running.place.target is not None:
            running.tasks.append(self._tasks.restarted(f"changes:{name}", running.place.follow))
            running.tasks.append(self._tasks.restarted(f"target:{name}", running.place.look))
        self._running[name] = running
        log.info("service_watched", service=name, target=running.place.kind, sources=[s.label for s in running.streams])

    async def stop(self) -> None:
        """Stop all services, side by side."""
        for running in self._running.values():
            running.leave()
        await asyncio.gather(*(running.ended() for running in self._running.values()))

    # -- pauses

    def set_pauses(self, pauses: Mapping[str | None, Pause]) -> None:
        """Which services are paused now; None stands for all."""
        self._pauses = dict(pauses)
        for name, running in self._running.items():
            running.place.paused = self._pauses.get(name, self._pauses.get(None))
            running.place.tell()

    @property
    def pauses(self) -> Mapping[str | None, Pause]:
        """The pauses in force."""
        return self._pauses


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Permanent(f"{folder}, where a target keeps what it did, cannot be made: {error.strerror}") from error


def _wiring(settings: Service) -> tuple[object, ...]:
    """What decides whether a service's parts must be built anew; the policy is none of it."""
    return settings.target, settings.streams

"""One connection to a Docker engine, over which the containers of a service are followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from rollbackd.docker.containers import Choice, Container, Happening, Image, Summary, VersionPart, version_of
from rollbackd.docker.engine import Answer, Engine, EngineFault
from rollbackd.docker.output import MAX_PIECE, NotFramed
from rollbackd.logs.formats import LineReader
from rollbackd.sources.base import Sink, SourceContext
from rollbackd.sources.container_output import ALL, ContainerOutput, Place, parts_of
from rollbackd.sources.keeping import Keeper
from rollbackd.sources.records import Teller

MOST_CONTAINERS = 100
"""Containers followed at one time; further ones are counted."""

MOST_PLACES = 1000
"""Containers whose place is remembered, those that have stopped included; beyond, the longest known are forgotten."""

TICK_S = 0.5
"""A record is over when nothing was added to it between two ticks."""

PING_S = 15.0
"""How often an engine from which nothing comes is asked whether it is there."""

AGAIN_S = 1.0
"""How soon an output that ended, though its container runs, is asked for again."""

_MAX_EVENT = 1024 * 1024
_UNSUPPORTED = 501
_BOTH = {"stdout": "1", "stderr": "1", "timestamps": "1"}

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources")


@dataclass(frozen=True)
class Wanted:
    """Whose output to read, and how."""

    choice: Choice
    version: Sequence[VersionPart]
    version_label: str
    reader: LineReader
    max_line: int


class Kept(msgspec.Struct):
    """What is remembered: the engine's time when it was heard last, in Unix seconds, and the place in each output."""

    heard: int = 0
    places: dict[str, Place] = {}

    def put(self, container: str, place: Place) -> None:
        self.places[container] = place
        while len(self.places) > MOST_PLACES:
            del self.places[next(iter(self.places))]


class Session:
    """One connection to an engine, until it is lost."""

    def __init__(
        self,
        wanted: Wanted,
        context: SourceContext,
        engine: Engine,
        kept: Kept,
        keeper: Keeper[Kept],
        sink: Sink,
        teller: Teller,
    ) -> None:
        self._wanted, self._context, self._clock = wanted, context, context.clock
        self._engine, self._kept, self._keeper, self._sink, self._teller = engine, kept, keeper, sink, teller
        self._lock = asyncio.Lock()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._outputs: dict[str, ContainerOutput] = {}
        self._opened: dict[str, asyncio.Event] = {}
        self._started_again: set[str] = set()
        self._unreadable: dict[str, str] = {}

    async def run(self) -> None:
        """Follow what runs now and what starts later. Raises a group of EngineFault."""
        wanted = {"type": ["container"], "event": ["start", "die", "destroy"]}
        params = {"filters": msgspec.json.encode(wanted).decode()}
        async with self._engine.stream("/events", params) as events, asyncio.TaskGroup() as group:
            self._group = group
            await self._look_around(events.moment)
            await asyncio.gather(*(one.wait() for one in self._opened.values()))  # up means that it would see a line
            self._show()
            group.create_task(self._tick())
            group.create_task(self._ping())
            await self._hear(events)

    def remember(self) -> None:
        """Note the place in each output that is followed."""
        for name, output in self._outputs.items():
            if name in self._kept.places:
                self._kept.put(name, output.place)

    async def _look_around(self, moment: int) -> None:
        """Follow what is there: at the very first time from now on, later from where reading ended.

        Stopped ones too: what they said while nobody listened, and their end, from which a restart goes on.
        """
        heard = self._kept.heard
        listed = await self._engine.get("/containers/json", list[Summary], {"all": "1"})
        for found in sorted(listed, key=lambda one: one.state == "exited"):
            if not self._wanted.choice.may_take(found):
                continue
            place = self._kept.places.pop(found.id, None)
            self._kept.put(found.id, place or Place((heard or moment) * 10**9))
            if found.state != "exited" or len(self._following) < MOST_CONTAINERS:
                self._follow(found.id, new_only=not heard)
        self._kept.heard = moment

    async def _hear(self, events: Answer) -> None:
        rest = b""
        async for data in events.chunks():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _MAX_EVENT:
                raise EngineFault(f"{self._engine.shown}: an event is larger than {_MAX_EVENT} bytes")
            for line in lines:
                self._heard(line)
        raise EngineFault(f"{self._engine.shown}: the engine closed the stream of events")

    def _heard(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            happening = msgspec.json.decode(line, type=Happening)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._sink.dropped("not_an_event")
            return
        container, said = happening.actor.id, happening.actor.attributes
        if happening.action == "start" and self._wanted.choice.takes(said.get("image", ""), said.get("name", ""), said):
            self._started_again.add(container)
            if container not in self._following:
                self._follow(container)
        elif happening.action in ("die", "destroy"):
            self._unreadable.pop(container, None)
            if happening.action == "destroy":
                self._kept.places.pop(container, None)

    def _follow(self, container: str, *, new_only: bool = False) -> None:
        if len(self._following) >= MOST_CONTAINERS:
            self._sink.dropped("too_many_containers")
            return
        self._opened[container] = asyncio.Event()
        self._following[container] = self._group.create_task(self._read(container, new_only=new_only))

    async def _read(self, name: str, *, new_only: bool) -> None:
        """Read one container's output for as long as it runs."""
        try:
            while True:
                self._started_again.discard(name)
                try:
                    runs = await self._read_once(name, new_only=new_only)
                except EngineFault as fault:
                    runs = self._go_on(name, fault)
                if not runs and name not in self._started_again:
                    return
                await self._clock.sleep(AGAIN_S)
        finally:
            if (output := self._outputs.pop(name, None)) is not None and name in self._kept.places:
                self._kept.put(name, output.place)
            del self._following[name]
            self._opened.pop(name).set()

    async def _read_once(self, name: str, *, new_only: bool) -> bool:
        """Read until the engine ends the stream; whether the container still runs. Raises EngineFault."""
        output = self._outputs.get(name)
        if output is None:
            container = await self._engine.get(f"/containers/{name}/json", Container)
            if not self._wanted.choice.takes(container.settings.image, container.name, container.settings.labels or {}):
                self._kept.places.pop(name, None)
                return False
            place = self._kept.places.get(name, Place())
            output = await self._output(container, await self._end(container, place) if new_only else place)
            self._kept.put(name, output.place)
            self._outputs[name] = output
        async with self._lock:
            output.begin()
        params = {**_BOTH, "follow": "1", **output.place.since}
        async with self._engine.stream(f"/containers/{name}/logs", params) as answer:
            self._unreadable.pop(name, None)
            self._opened[name].set()
            async for data in answer.chunks():
                async with self._lock:
                    try:
                        await output.take(data)
                    except NotFramed as error:
                        raise EngineFault(str(error), answer.status) from None
                await asyncio.sleep(0)  # a long backlog leaves turns to others
        if (await self._engine.get(f"/containers/{name}/json", Container)).runs:
            return True
        async with self._lock:
            await output.finish()
        return False

    async def _end(self, container: Container, otherwise: Place) -> Place:
        """The place after everything that the container has said so far."""
        parts, said, last = parts_of(container), 0, None
        async with self._engine.stream(f"/containers/{container.id}/logs", {**_BOTH, "tail": "1"}) as answer:
            async for data in answer.chunks():
                said += len(data)
                with suppress(NotFramed):
                    last = next((piece.stamp for piece in parts.feed(data) if piece.stamp is not None), last)
                if said > MAX_PIECE:
                    break
        if last is not None:
            return Place(last, ALL)
        return otherwise if said else Place()

    async def _output(self, container: Container, place: Place) -> ContainerOutput:
        version = await self._version(container)
        log.info("container_followed", service=self._context.service, container=container.shown, version=version)
        wanted = self._wanted
        return ContainerOutput(container, version, place, wanted.reader, wanted.max_line, self._sink, self._teller)

    def _go_on(self, name: str, fault: EngineFault) -> bool:
        """Whether to try this container again."""
        self._opened[name].set()
        output = self._outputs.get(name)
        shown = output.container.shown if output is not None else name[:12]
        if fault.status == 404:
            if output is None:  # it was gone before anything of it was read
                self._sink.dropped("container_removed")
            return False
        if fault.status and name not in self._unreadable:  # without one, it is the engine that is not there
            self._unreadable[name] = f"the output of container {shown} cannot be read: {fault}"
            log.warning("container_unreadable", service=self._context.service, container=shown, reason=str(fault))
            if fault.status == _UNSUPPORTED:
                self._sink.dropped("unreadable_log_driver")
        return fault.status != _UNSUPPORTED

    async def _version(self, container: Container) -> str | None:
        order = self._wanted.version
        before = order[: order.index("digest")] if "digest" in order else order
        found = version_of(container, (), before, self._wanted.version_label)
        if found is not None or "digest" not in order:
            return found
        try:
            image = await self._engine.get(f"/images/{container.image}/json", Image)
        except EngineFault:  # the image was removed, or a proxy does not let it be asked for: its id still names it
            image = Image()
        return version_of(container, image.digests or (), order, self._wanted.version_label)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            async with self._lock:
                for output in list(self._outputs.values()):
                    await output.settle()
            self._show()
            self.remember()
            await self._keeper.keep(self._kept)

    async def _ping(self) -> None:
        while True:
            await self._clock.sleep(PING_S)
            self._kept.heard = await self._engine.moment()

    def _show(self) -> None:
        """Up, unless there are containers to be read and none that can be."""
        if self._unreadable and self._unreadable.keys() >= self._outputs.keys():
            self._sink.down(next(iter(self._unreadable.values())))
        else:
            self._sink.up()

"""Source `docker_logs`: what the containers of a service print, followed through the Docker Engine API."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Self

from pydantic import Field, model_validator

from rollbackd.adapter import Adapter
from rollbackd.docker.containers import (
    COMPOSE_PROJECT,
    COMPOSE_SERVICE,
    OCI_VERSION,
    SWARM_SERVICE,
    Choice,
    VersionPart,
    split,
)
from rollbackd.docker.engine import Engine, EngineAddress, EngineFault, EngineTls
from rollbackd.fields import Model, Size
from rollbackd.logs.formats import Format, LineReader
from rollbackd.sources.base import Sink, Source, SourceContext
from rollbackd.sources.docker_session import Kept, Session, Wanted
from rollbackd.sources.keeping import Keeper
from rollbackd.sources.records import Teller

RETRY_S = 2.0


class DockerLogsConfig(Model):
    """The containers of a service: those that fulfil everything that is named here."""

    image: Annotated[str, Field(min_length=1)] | None = None
    """Their image, without a tag: that is the release."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """The container's name."""
    compose_project: Annotated[str, Field(min_length=1)] | None = None
    """Their project in Docker Compose."""
    compose_service: Annotated[str, Field(min_length=1)] | None = None
    """Their service in Docker Compose."""
    swarm_service: Annotated[str, Field(min_length=1)] | None = None
    """Their service in a swarm, as far as it runs on this engine."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels that they carry, each with its value."""
    host: EngineAddress = "unix:///var/run/docker.sock"
    """The engine: `unix:///path` or `tcp://host:port`."""
    tls: EngineTls | None = None
    """TLS to an engine that listens on TCP."""
    version: Annotated[tuple[VersionPart, ...], Field(min_length=1)] = ("tag", "digest")
    """What names the release: the first of these that says something. A tag `latest` says nothing."""
    version_label: str = OCI_VERSION
    """The label that `label` in `version` means."""
    version_field: str | None = None
    """The field of JSON or logfmt lines that names the release; it goes before the image's."""
    format: Format = "auto"
    """What lines are; `auto` tells each line for itself."""
    max_line: Annotated[Size, Field(ge=256, le=1024 * 1024)] = 64 * 1024
    """Longer lines are cut, and counted as `line_too_long`."""

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if not (self.image or self.name or self._labels()):
            raise ValueError(
                "say whose logs: `image`, `name`, `compose_project`, `compose_service`, `swarm_service` or `labels`"
            )
        if self.image is not None and any(split(self.image)[1:]):
            raise ValueError("name the image without its tag: the tag is the release, and every release is followed")
        if self.tls is not None and self.host.startswith("unix:"):
            raise ValueError("`tls` is for an engine on TCP: a unix socket has none")
        return self

    def _labels(self) -> dict[str, str]:
        named = {
            COMPOSE_PROJECT: self.compose_project,
            COMPOSE_SERVICE: self.compose_service,
            SWARM_SERVICE: self.swarm_service,
        }
        return {**self.labels, **{label: value for label, value in named.items() if value is not None}}

    def choice(self) -> Choice:
        """Which containers these are."""
        return Choice(self.image or "", self.name or "", self._labels())


class DockerLogs:
    """Follows the service's containers on one engine. Their places outlast a run that crashed, and the daemon."""

    def __init__(self, config: DockerLogsConfig, context: SourceContext) -> None:
        self._config, self._context, self._clock = config, context, context.clock
        self._keeper = Keeper(Kept, context.state_dir, context.clock)
        self._kept: Kept | None = None

    async def run(self, sink: Sink) -> None:
        with closing(self._keeper):
            if self._kept is None:
                self._kept = await self._keeper.load() or Kept()
            teller = Teller(self._context, sink)
            while True:
                began = self._clock.monotonic()
                fault = await self._until_lost(self._kept, sink, teller)
                if self._clock.monotonic() - began <= RETRY_S:  # else whether it can be reached again tells more
                    sink.down(str(fault))
                    await self._clock.sleep(RETRY_S)

    async def _until_lost(self, kept: Kept, sink: Sink, teller: Teller) -> EngineFault:
        """Connect, and follow until the connection is lost; why it was."""
        config = self._config
        reader = LineReader(config.format, config.version_field)
        wanted = Wanted(config.choice(), config.version, config.version_label, reader, config.max_line)
        session, faults = None, list[EngineFault]()
        try:
            async with Engine(config.host, config.tls) as engine:
                session = Session(wanted, self._context, engine, kept, self._keeper, sink, teller)
                await session.run()
        except* EngineFault as lost:
            faults += _leaves(lost)
        finally:
            if session is not None:
                session.remember()
                await self._keeper.keep_now(kept)
        return faults[0]


def _leaves(group: BaseExceptionGroup[EngineFault]) -> list[EngineFault]:
    found: list[EngineFault] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found


def build(config: DockerLogsConfig, context: SourceContext) -> Source:
    """Make the source; the engine is not asked before it runs."""
    return DockerLogs(config, context)


ADAPTER = Adapter(config=DockerLogsConfig, build=build, shorthand="image")

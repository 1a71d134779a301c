"""What the targets on a Docker engine ask and order there, and what it means where an effect is there already."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec
from pydantic import Field

from rollbackd.docker.commands import Commands, Json, Missing
from rollbackd.docker.engine import ANSWER_WITHIN_S, EngineAddress, EngineTls
from rollbackd.fields import Model
from rollbackd.targets.docker_shape import Inspected, decoded, understood

T = TypeVar("T")

STOP_GRACE_S = 10
"""How long the engine waits between SIGTERM and SIGKILL where the container does not say."""


class EngineConfig(Model):
    """How to reach an engine; every target there has it."""

    host: EngineAddress = "unix:///var/run/docker.sock"
    """Where the engine listens: `unix:///path` or `tcp://host:2376`."""
    tls: EngineTls | None = Field(default=None)
    """TLS to an engine on TCP: `{ca_file: PATH, cert_file: PATH, key_file: PATH}`."""


class ImageShown(msgspec.Struct, frozen=True):
    """The part of `GET /images/NAME/json` that is read here."""

    id: str = msgspec.field(name="Id")
    digests: list[str] | None = msgspec.field(name="RepoDigests", default=None)
    created: str = msgspec.field(name="Created", default="")


class Published(msgspec.Struct, frozen=True):
    """A port in a list of containers."""

    number: int = msgspec.field(name="PublicPort", default=0)
    kind: str = msgspec.field(name="Type", default="")


class ListedHost(msgspec.Struct, frozen=True):
    """What a list says of a container's host configuration."""

    network: str = msgspec.field(name="NetworkMode", default="")


class Listed(msgspec.Struct, frozen=True):
    """A container as `GET /containers/json` lists it."""

    id: str = msgspec.field(name="Id")
    names: list[str] | None = msgspec.field(name="Names", default=None)
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    ports: list[Published] | None = msgspec.field(name="Ports", default=None)
    host: ListedHost = msgspec.field(name="HostConfig", default=ListedHost())

    @property
    def shown(self) -> str:
        return (self.names or [self.id[:12]])[0].lstrip("/")


class _Named(msgspec.Struct, frozen=True):
    name: str = msgspec.field(name="Name", default="")


class _Volumes(msgspec.Struct, frozen=True):
    volumes: list[_Named] | None = msgspec.field(name="Volumes", default=None)


class _Made(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="Id")


class Docker(Commands):
    """An engine. Its methods raise Missing, Refused and EngineFault, as `Commands` does."""

    async def read(self, path: str, kind: type[T], params: Mapping[str, str] | None = None) -> T:
        """The answer to a GET, as that type."""
        return as_type(await self.ask(path, params), kind, path)

    async def container(self, name: str) -> tuple[Inspected, Json] | None:
        """The container of that name or id; None where there is none."""
        try:
            return decoded(await self.ask(f"/containers/{name}/json"))
        except Missing:
            return None

    async def containers(self, *labels: str) -> list[Listed]:
        """Containers with all these labels, whether they run or not."""
        filters = msgspec.json.encode({"label": list(labels)} if labels else {}).decode()
        return await self.read("/containers/json", list[Listed], {"all": "1", "filters": filters})

    async def image(self, name: str) -> ImageShown | None:
        """The image of that name or id; None where the engine does not have it."""
        try:
            return await self.read(f"/images/{name}/json", ImageShown)
        except Missing:
            return None

    async def images(self) -> set[str]:
        """The ids of all images."""
        return {one.id for one in await self.read("/images/json", list[_Made], {"all": "1"})}

    async def networks(self) -> set[str]:
        return {one.name for one in await self.read("/networks", list[_Named])}

    async def volumes(self) -> set[str]:
        return {one.name for one in (await self.read("/volumes", _Volumes)).volumes or ()}

    async def create(self, name: str, body: Json) -> str:
        """Make a container that does not run yet; its id."""
        path = "/containers/create"
        return as_type(await self.call("POST", path, {"name": name}, body), _Made, path).id

    async def connect(self, network: str, container: str, endpoint: Json) -> None:
        await self.call(
            "POST", f"/networks/{network}/connect", body={"Container": container, "EndpointConfig": endpoint}
        )

    async def start(self, container: str) -> None:
        """Start it; where it runs, nothing happens."""
        await self.call("POST", f"/containers/{container}/start")

    async def stop(self, found: Inspected) -> None:
        """Stop it as it wants to be stopped; where it does not run or is gone, nothing happens."""
        within = ANSWER_WITHIN_S + (found.settings.stop_timeout or STOP_GRACE_S)
        with suppress(Missing):
            await self.call("POST", f"/containers/{found.id}/stop", within=within)

    async def remove(self, container: str) -> None:
        """Remove it, whether it runs or not, and leave its volumes; where it is gone, nothing happens."""
        with suppress(Missing):
            await self.call("DELETE", f"/containers/{container}", {"force": "1"})

    async def rename(self, container: str, name: str) -> None:
        await self.call("POST", f"/containers/{container}/rename", {"name": name})


def as_type(raw: bytes, kind: type[T], path: str) -> T:
    """An answer as that type. Raises Permanent where no engine would answer so."""
    with understood(path):
        return msgspec.json.decode(raw, type=kind)

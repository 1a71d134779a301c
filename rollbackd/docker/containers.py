"""What the engine says of containers, which of them belong to a service, and which release each one runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
SWARM_SERVICE = "com.docker.swarm.service.name"
OCI_VERSION = "org.opencontainers.image.version"

VersionPart: TypeAlias = Literal["tag", "digest", "label"]

_DIGEST = re.compile(r"@([a-z0-9+._-]+:[0-9a-f]{32,})$")
_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


class Summary(msgspec.Struct, frozen=True):
    """A container as `GET /containers/json` lists it."""

    id: str = msgspec.field(name="Id")
    image: str = msgspec.field(name="Image", default="")
    names: list[str] | None = msgspec.field(name="Names", default=None)
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    state: str = msgspec.field(name="State", default="")


class Settings(msgspec.Struct, frozen=True):
    """How a container was made. `image` is the reference that was named then."""

    image: str = msgspec.field(name="Image", default="")
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    tty: bool = msgspec.field(name="Tty", default=False)


class State(msgspec.Struct, frozen=True):
    """Whether a container runs."""

    running: bool = msgspec.field(name="Running", default=False)
    restarting: bool = msgspec.field(name="Restarting", default=False)


class Container(msgspec.Struct, frozen=True):
    """A container as `GET /containers/ID/json` shows it. `image` is the id of its image."""

    id: str = msgspec.field(name="Id")
    settings: Settings = msgspec.field(name="Config")
    state: State = msgspec.field(name="State")
    name: str = msgspec.field(name="Name", default="")
    image: str = msgspec.field(name="Image", default="")

    @property
    def shown(self) -> str:
        """Its name as people know it."""
        return self.name.lstrip("/") or self.id[:12]

    @property
    def runs(self) -> bool:
        return self.state.running or self.state.restarting


class Image(msgspec.Struct, frozen=True):
    """An image as `GET /images/ID/json` shows it."""

    digests: list[str] | None = msgspec.field(name="RepoDigests", default=None)


class Actor(msgspec.Struct, frozen=True):
    """Whom an event is about; a container's attributes are its image, its name and all its labels."""

    id: str = msgspec.field(name="ID", default="")
    attributes: dict[str, str] = msgspec.field(name="Attributes", default_factory=dict)


class Happening(msgspec.Struct, frozen=True):
    """One line of `GET /events`."""

    action: str = msgspec.field(name="Action", default="")
    actor: Actor = msgspec.field(name="Actor", default=Actor())


@dataclass(frozen=True)
class Choice:
    """Which containers belong to a service: those that fulfil all that is said. Empty fields say nothing."""

    image: str = ""
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def takes(self, image: str, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a container of that image reference, name and labels belongs to it."""
        return (
            (not self.image or repository(image) == repository(self.image))
            and (not self.name or name.lstrip("/") == self.name)
            and all(labels.get(key) == value for key, value in self.labels.items())
        )

    def may_take(self, listed: Summary) -> bool:
        """The same of a listed one; a list shows an id in place of the image's name where the tag has moved on."""
        image = self.image if _ID.fullmatch(listed.image) else listed.image
        return any(self.takes(image, name, listed.labels or {}) for name in listed.names or [""])


def repository(reference: str) -> str:
    """An image reference without tag and digest, in full: `shop:v1` is `docker.io/library/shop`."""
    name = split(reference)[0]
    first, slash, rest = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    if "." not in first and ":" not in first and first != "localhost":
        return f"docker.io/{name}"
    return name if first != "index.docker.io" else f"docker.io/{rest}"


def split(reference: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image reference; what it does not have is empty."""
    digest = ""
    if (found := _DIGEST.search(reference)) is not None:
        reference, digest = reference[: found.start()], found[1]
    head, slash, last = reference.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag, digest


def version_of(
    container: Container, digests: Sequence[str], order: Sequence[VersionPart], label: str = OCI_VERSION
) -> str | None:
    """The release that a container runs, by the first part of `order` that says something.

    A tag `latest`, or none, says nothing. `digests` are those of the container's image in its repositories; one
    that was never in any has its own id.
    """
    name, tag, digest = split(container.settings.image)
    is_id = _ID.fullmatch(container.settings.image) is not None
    for part in order:
        found: str | None = None
        if part == "tag" and tag != "latest" and not is_id:
            found = tag
        elif part == "label":
            found = (container.settings.labels or {}).get(label, "").strip()
        elif part == "digest":
            known = {repository(one): split(one)[2] for one in digests}
            found = digest or known.get(repository(name)) or container.image
        if found:
            return found[:500]
    return None

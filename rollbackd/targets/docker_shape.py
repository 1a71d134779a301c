"""What a container is made of: from what the engine shows of one, to what it takes to make another that is the same.

`GET /containers/ID/json` shows a container's whole configuration, merged with its image's; `POST /containers/create`
takes it back, apart from what belongs to the one container alone (its id as host name and alias, the addresses it got).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import msgspec

from rollbackd.docker.commands import Json
from rollbackd.errors import Permanent

OURS = "io.rollbackd."
KEY_LABEL, NAME_LABEL, TARGET_LABEL = f"{OURS}key", f"{OURS}name", f"{OURS}target"
"""On what a revert made: the order's key, the name it is to have in the end, the target it was made for."""
RESTORED_LABEL = f"{OURS}restored"
"""In place of the key, on what was made again of the situation before it."""

SHORTEST_SECRET = 6
"""What is shorter, such as `1` or `true`, stands in messages anyway."""

COMPOSE = "com.docker.compose."
COMPOSE_NUMBER = f"{COMPOSE}container-number"
REVISION_LABEL = "org.opencontainers.image.revision"

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_FRACTION = re.compile(r"\.\d+")
_OF_ONE_CONTAINER = ("ContainerIDFile", "ConsoleSize")


class Health(msgspec.Struct, frozen=True):
    """What the container's own check says: `starting`, `healthy`, `unhealthy`, or `none`."""

    status: str = msgspec.field(name="Status", default="none")


class State(msgspec.Struct, frozen=True):
    """How a container is. `started` is RFC 3339."""

    status: str = msgspec.field(name="Status", default="")
    running: bool = msgspec.field(name="Running", default=False)
    restarting: bool = msgspec.field(name="Restarting", default=False)
    exit_code: int = msgspec.field(name="ExitCode", default=0)
    error: str = msgspec.field(name="Error", default="")
    started: str = msgspec.field(name="StartedAt", default="")
    out_of_memory: bool = msgspec.field(name="OOMKilled", default=False)
    health: Health | None = msgspec.field(name="Health", default=None)


class Settings(msgspec.Struct, frozen=True):
    """The part of `Config` that is read here. `image` is the reference that was named."""

    image: str = msgspec.field(name="Image", default="")
    hostname: str = msgspec.field(name="Hostname", default="")
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    stop_timeout: int | None = msgspec.field(name="StopTimeout", default=None)


class Port(msgspec.Struct, frozen=True):
    """Where a port of the container is published."""

    ip: str = msgspec.field(name="HostIp", default="")
    number: str = msgspec.field(name="HostPort", default="")


class Host(msgspec.Struct, frozen=True):
    """The part of `HostConfig` that is read here."""

    network: str = msgspec.field(name="NetworkMode", default="")
    pid: str = msgspec.field(name="PidMode", default="")
    ipc: str = msgspec.field(name="IpcMode", default="")
    volumes_from: list[str] | None = msgspec.field(name="VolumesFrom", default=None)
    ports: dict[str, list[Port] | None] | None = msgspec.field(name="PortBindings", default=None)
    auto_remove: bool = msgspec.field(name="AutoRemove", default=False)
    binds: list[str] | None = msgspec.field(name="Binds", default=None)
    mounts: list[Json] | None = msgspec.field(name="Mounts", default=None)


class Mount(msgspec.Struct, frozen=True):
    """What is mounted, and where: a volume by its name, or a folder of the host, the `source`."""

    kind: str = msgspec.field(name="Type", default="")
    name: str = msgspec.field(name="Name", default="")
    source: str = msgspec.field(name="Source", default="")
    destination: str = msgspec.field(name="Destination", default="")
    writable: bool = msgspec.field(name="RW", default=True)


class Attached(msgspec.Struct, frozen=True):
    """The networks a container is in, by name."""

    networks: dict[str, Json | None] | None = msgspec.field(name="Networks", default=None)


class Inspected(msgspec.Struct, frozen=True):
    """A container as `GET /containers/ID/json` shows it, as far as it is read here."""

    id: str = msgspec.field(name="Id")
    name: str = msgspec.field(name="Name")
    image: str = msgspec.field(name="Image")
    created: str = msgspec.field(name="Created")
    state: State = msgspec.field(name="State")
    settings: Settings = msgspec.field(name="Config")
    host: Host = msgspec.field(name="HostConfig")
    mounts: list[Mount] | None = msgspec.field(name="Mounts", default=None)
    attached: Attached = msgspec.field(name="NetworkSettings", default=Attached())
    restarts: int = msgspec.field(name="RestartCount", default=0)

    @property
    def shown(self) -> str:
        """Its name as people know it."""
        return self.name.lstrip("/")

    @property
    def labels(self) -> Mapping[str, str]:
        return self.settings.labels or {}

    @property
    def health(self) -> str:
        """What its own check says; `none` where it has no check."""
        return self.state.health.status if self.state.health is not None else "none"

    @property
    def well(self) -> bool:
        """Whether it runs, and its own check, if any, has nothing against it."""
        return self.state.running and not self.state.restarting and self.health in ("none", "healthy")

    @property
    def writes_to(self) -> set[str]:
        """The volumes and folders of the host that it may write to."""
        return {one.name or one.source for one in self.mounts or () if one.writable and one.kind in ("volume", "bind")}

    @property
    def published(self) -> set[str]:
        """The host's ports it asks for, such as `8080/tcp`; those the engine may choose are left out."""
        taken: set[str] = set()
        for port, places in (self.host.ports or {}).items():
            taken |= {f"{one.number}/{port.partition('/')[2] or 'tcp'}" for one in places or () if one.number}
        return taken


class Shape(msgspec.Struct, frozen=True):
    """All that is needed to make a container again: `config` and `host` as the engine takes them, networks by name."""

    config: Json
    host: Json
    networks: dict[str, Json]

    @property
    def fingerprint(self) -> str:
        """The same for two containers that were made the same way, of whatever image."""
        labels = _labels(self.config)
        kept = {name: text for name, text in labels.items() if not name.startswith((COMPOSE, OURS))}
        config = {**self.config, "Labels": kept}
        config.pop("Image", None)
        return hashed([config, self.host, self.networks])

    @property
    def seen(self) -> Inspected:
        """The shape as if it were a container, to read what it asks for."""
        nothing: Json = {"Id": "", "Name": "", "Image": "", "Created": "", "State": {}}
        networks: Json = {"Networks": self.networks}
        whole: Json = {**nothing, "Config": self.config, "HostConfig": self.host, "NetworkSettings": networks}
        return msgspec.convert(whole, Inspected)

    def body(self, image: str, labels: Mapping[str, str], volumes: Iterable[str]) -> Json:
        """What `POST /containers/create` takes.

        `volumes` are the volumes without a name of the container it replaces, as `volume:destination`: those that it
        has a place for are taken over.

        One network alone, as engines before 25.0 take no more; it is to be connected to the others after that.
        """
        first = self.first_network
        networks = {} if first is None else {first: self.networks[first]}
        data = {where: volume for volume, _, where in (one.partition(":") for one in volumes)}
        mounts = [
            {**one, "Source": data.pop(str(one.get("Target")))} if _takes(one, data) else one
            for one in msgspec.convert(self.host.get("Mounts"), list[Json] | None) or ()
        ]
        binds = [
            *(msgspec.convert(self.host.get("Binds"), list[str] | None) or ()),
            *(f"{volume}:{where}" for where, volume in data.items() if where in _names(self.config.get("Volumes"))),
        ]
        return {
            **self.config,
            "Image": image,
            "Labels": {**_labels(self.config), **labels},
            "HostConfig": {**self.host, "Binds": binds, "Mounts": mounts},
            "NetworkingConfig": {"EndpointsConfig": networks},
        }

    @property
    def first_network(self) -> str | None:
        """The network it is made in."""
        mode = str(self.host.get("NetworkMode", ""))
        wanted = "bridge" if mode == "default" else mode
        return wanted if wanted in self.networks else next(iter(self.networks), None)


def decoded(raw: bytes) -> tuple[Inspected, Json]:
    """A container as far as it is read, and as it is. Raises Permanent where an engine would not answer so."""
    with understood("/containers/ID/json"):
        whole = msgspec.json.decode(raw, type=Json)
        return msgspec.convert(whole, Inspected), whole


@contextmanager
def understood(path: str) -> Iterator[None]:
    """Turns what cannot be read of the answer to `path` into Permanent."""
    try:
        yield
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Permanent(f"the answer to {path} is not what a Docker engine answers: what is listening there?") from None


def shape_of(found: Inspected, whole: Json) -> Shape:
    """How to make the container again. Raises Permanent where an engine would not show it so."""
    with understood("/containers/ID/json"):
        return _shape_of(found, whole)


def _shape_of(found: Inspected, whole: Json) -> Shape:
    config = dict(msgspec.convert(whole.get("Config"), Json))
    host = dict(msgspec.convert(whole.get("HostConfig"), Json))
    for name in _OF_ONE_CONTAINER:
        host.pop(name, None)
    shares = found.host.network.startswith("container:")
    if shares or found.settings.hostname == found.id[:12] or host.get("UTSMode") == "host":
        config.pop("Hostname", None)
    if shares:
        config.pop("ExposedPorts", None)
    config["Labels"] = {
        name: text for name, text in found.labels.items() if not name.startswith(OURS) and name != COMPOSE_NUMBER
    }
    host["Binds"] = [bind for bind in found.host.binds or () if not _ANONYMOUS.fullmatch(bind.partition(":")[0])]
    if found.host.mounts:
        host["Mounts"] = [_mount(one) for one in found.host.mounts]
    host["Links"] = _links(msgspec.convert(host.get("Links"), list[str] | None))
    networks = {} if shares else (found.attached.networks or {})
    return Shape(config, host, {name: _endpoint(one or {}, found) for name, one in networks.items()})


def anonymous_volumes(found: Inspected) -> list[str]:
    """The volumes without a name that a container has its data in, as `volume:destination`."""
    return [
        f"{mount.name}:{mount.destination}"
        for mount in found.mounts or ()
        if mount.kind == "volume" and _ANONYMOUS.fullmatch(mount.name)
    ]


def seconds(text: str) -> float | None:
    """A moment as the engine writes it, in Unix seconds; None where there is none (the year 1)."""
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(lambda found: found[0][:7].ljust(7, "0"), text))
        return moment.timestamp() if moment.year > 1 and moment.tzinfo is not None else None
    except ValueError:
        return None


def given(config: Json) -> set[str]:
    """What the environment of a container or a task holds that may be a secret: it is not to be repeated anywhere."""
    environment = config.get("Env")
    values = {str(one).partition("=")[2] for one in environment} if isinstance(environment, list) else set()
    return {value for value in values if len(value) >= SHORTEST_SECRET}


def _labels(config: Json) -> dict[str, str]:
    return msgspec.convert(config.get("Labels"), dict[str, str] | None) or {}


def _links(links: list[str] | None) -> list[str] | None:
    """`/db:/app/database` is shown where `db:database` was written."""
    if links is None:
        return None
    pairs = (link.partition(":") for link in links)
    return [f"{other.lstrip('/')}:{alias.rpartition('/')[2]}" for other, _, alias in pairs]


def _mount(mount: Json) -> Json:
    """A mount without the volume that is named by no one: Compose writes down which one it took over."""
    anonymous = mount.get("Type") == "volume" and _ANONYMOUS.fullmatch(str(mount.get("Source", "")))
    return {name: one for name, one in mount.items() if name != "Source" or not anonymous}


def _takes(mount: Json, data: Mapping[str, str]) -> bool:
    return mount.get("Type") == "volume" and not mount.get("Source") and mount.get("Target") in data


def _names(value: object) -> set[str]:
    """The names in an object of the API; none where it is no object."""
    return {str(name) for name in value} if isinstance(value, dict) else set()


def _endpoint(shown: Json, found: Inspected) -> Json:
    """Of a container's place in a network, what was asked for: aliases and fixed addresses."""
    aliases = msgspec.convert(shown.get("Aliases"), list[str] | None) or []
    own = {found.id[:12], found.shown}
    kept: Json = {"Aliases": [alias for alias in aliases if alias not in own]}
    for name in ("IPAMConfig", "Links", "DriverOpts"):
        if shown.get(name):
            kept[name] = shown[name]
    return kept


def hashed(value: object) -> str:
    """A hash that two objects of the API share where they ask for the same. Raises Permanent for one nested too deeply.

    Engines differ in whether they write out what was not asked for, so what says nothing is left out.
    """
    try:
        return hashlib.sha256(msgspec.json.encode(_without_nothing(value), order="deterministic")).hexdigest()
    except RecursionError:
        raise Permanent("what was answered is nested as no Docker engine answers: what is listening there?") from None


def _without_nothing(value: object) -> object:
    if isinstance(value, dict):
        kept = {str(name): _without_nothing(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one not in (None, "", 0, False, [], {})}
    if isinstance(value, list):
        return [_without_nothing(one) for one in value]
    return value

"""What a Swarm manager says of a service and its tasks, and whether two specifications are the same release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from rollbackd.docker.commands import Json, Missing
from rollbackd.docker.containers import split
from rollbackd.errors import Permanent
from rollbackd.targets.docker_engine import Docker
from rollbackd.targets.docker_shape import OURS, given, hashed, understood

_NOT_OF_THE_RELEASE = ("Mode", "UpdateConfig", "RollbackConfig")
"""How many tasks and how they are replaced: whoever scales a service deploys nothing."""


class ContainerSpec(msgspec.Struct, frozen=True):
    """The part of a task's `ContainerSpec` that is read here."""

    image: str = msgspec.field(name="Image", default="")
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    secrets: list[Json] | None = msgspec.field(name="Secrets", default=None)
    configs: list[Json] | None = msgspec.field(name="Configs", default=None)


class TaskSpec(msgspec.Struct, frozen=True):
    """The part of a `TaskTemplate` that is read here."""

    container: ContainerSpec = msgspec.field(name="ContainerSpec", default=ContainerSpec())
    networks: list[Json] | None = msgspec.field(name="Networks", default=None)
    force: int = msgspec.field(name="ForceUpdate", default=0)


class ServiceSpec(msgspec.Struct, frozen=True):
    """The part of a service's `Spec` that is read here."""

    task: TaskSpec = msgspec.field(name="TaskTemplate")
    name: str = msgspec.field(name="Name", default="")
    labels: dict[str, str] | None = msgspec.field(name="Labels", default=None)
    mode: Json = msgspec.field(name="Mode", default_factory=dict)


class Version(msgspec.Struct, frozen=True):
    """What an update has to name, so that nobody else's is overwritten."""

    index: int = msgspec.field(name="Index", default=0)


class UpdateStatus(msgspec.Struct, frozen=True):
    """How the newest update goes: `updating`, `paused` or `completed`, and the same with `rollback_` before it."""

    state: str = msgspec.field(name="State", default="")
    started: str = msgspec.field(name="StartedAt", default="")
    message: str = msgspec.field(name="Message", default="")


class Counts(msgspec.Struct, frozen=True):
    """How many tasks there are, and are to be."""

    running: int = msgspec.field(name="RunningTasks", default=0)
    desired: int = msgspec.field(name="DesiredTasks", default=0)


class Shown(msgspec.Struct, frozen=True):
    """A service as `GET /services` lists it."""

    id: str = msgspec.field(name="ID")
    version: Version = msgspec.field(name="Version")
    spec: Json = msgspec.field(name="Spec")
    created: str = msgspec.field(name="CreatedAt", default="")
    updated: str = msgspec.field(name="UpdatedAt", default="")
    status: UpdateStatus | None = msgspec.field(name="UpdateStatus", default=None)
    counts: Counts | None = msgspec.field(name="ServiceStatus", default=None)


class ContainerStatus(msgspec.Struct, frozen=True):
    """The container of a task, on whatever node."""

    id: str = msgspec.field(name="ContainerID", default="")


class TaskStatus(msgspec.Struct, frozen=True):
    """How a task is."""

    state: str = msgspec.field(name="State", default="")
    container: ContainerStatus | None = msgspec.field(name="ContainerStatus", default=None)


class Task(msgspec.Struct, frozen=True):
    """A task as `GET /tasks` lists it."""

    spec: Json = msgspec.field(name="Spec")
    status: TaskStatus = msgspec.field(name="Status")
    desired: str = msgspec.field(name="DesiredState", default="")


@dataclass(frozen=True)
class Service:
    """A service as it is now: `spec` to be read, `whole` to be handed back."""

    shown: Shown
    spec: ServiceSpec
    whole: Json

    @property
    def state(self) -> str:
        """How the newest update goes; empty where there never was one."""
        return self.shown.status.state if self.shown.status is not None else ""

    @property
    def mark(self) -> str:
        """Tells a deployment from a later one of the same release, and nothing else."""
        return (self.shown.status.started if self.shown.status is not None else "") or self.shown.created

    @property
    def reference(self) -> str:
        return self.spec.task.container.image

    @property
    def digest(self) -> str | None:
        """The digest that the image is pinned to, where a registry was asked for it."""
        return split(self.reference)[2] or None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.whole)


async def service(docker: Docker, name: str) -> Service | None:
    """The service of that name; None where there is none. Raises EngineFault where this is no manager."""
    params = {"filters": msgspec.json.encode({"name": [name]}).decode(), "status": "1"}
    for shown in await docker.read("/services", list[Shown], params):
        found = read(shown)
        if found.spec.name == name:
            return found
    return None


def read(shown: Shown) -> Service:
    """The service that was shown. Raises Permanent where no manager would show it so."""
    with understood("/services"):
        return Service(shown, msgspec.convert(shown.spec, ServiceSpec), shown.spec)


async def tasks(docker: Docker, name: str) -> list[Task]:
    params = {"filters": msgspec.json.encode({"service": [name]}).decode()}
    return await docker.read("/tasks", list[Task], params)


def fingerprint(spec: Json) -> str:
    """The same for two specifications that run the same way, of whatever image, in whatever number."""
    kept = {name: part for name, part in spec.items() if name not in _NOT_OF_THE_RELEASE}
    labels = _object(spec.get("Labels"))
    kept["Labels"] = {name: text for name, text in labels.items() if not name.startswith(OURS)}
    kept["TaskTemplate"] = _plain_task(_object(spec.get("TaskTemplate")), with_image=False)
    return hashed(kept)


def same_task(task: Json, template: Json) -> bool:
    """Whether a task runs what the template asks for."""
    return hashed(_plain_task(task, with_image=True)) == hashed(_plain_task(template, with_image=True))


def in_place(found: Sequence[Task], service: Service) -> bool:
    """Whether all tasks that are to run do run as the service now says, and no other does."""
    template = _object(service.whole.get("TaskTemplate"))
    running = 0
    for task in found:
        alive = task.status.state in ("running", "starting", "preparing", "ready", "assigned", "accepted")
        if task.status.state == "running" and task.desired == "running" and same_task(task.spec, template):
            running += 1
        elif alive and (task.status.state == "running" or task.desired == "running"):
            return False
    counts = service.shown.counts
    if counts is not None:
        return running >= counts.desired
    replicas = _object(service.spec.mode.get("Replicated")).get("Replicas", 1)
    return running >= (replicas if isinstance(replicas, int) else 1)


async def missing_parts(docker: Docker, spec: ServiceSpec) -> list[str]:
    """What the specification names and the swarm does not have any more, each as a word and a name."""
    container = spec.task.container
    wanted = {
        "networks": {str(one.get("Target")) for one in spec.task.networks or ()},
        "secrets": {str(one.get("SecretID")) for one in container.secrets or ()},
        "configs": {str(one.get("ConfigID")) for one in container.configs or ()},
    }
    gone = []
    for kind, ids in wanted.items():
        for one in sorted(ids):
            try:
                await docker.ask(f"/{kind}/{one}")
            except Missing:
                gone.append(f"{kind.removesuffix('s')} {one}")
    return gone


def reverted(old: Json, now: Service, labels: dict[str, str]) -> Json:
    """The earlier specification, in as many tasks as there are to be now."""
    template = dict(_object(old.get("TaskTemplate")))
    template["ForceUpdate"] = now.spec.task.force
    kept = {name: text for name, text in _object(old.get("Labels")).items() if not name.startswith(OURS)}
    if not template:
        raise Permanent("what is kept of that release is no specification of a service")
    return {**old, "TaskTemplate": template, "Mode": now.spec.mode, "Labels": {**kept, **labels}}


def secrets(spec: Json) -> set[str]:
    """What the tasks are given that is not to be repeated anywhere."""
    return given(_object(_object(spec.get("TaskTemplate")).get("ContainerSpec")))


def _plain_task(task: Json, *, with_image: bool) -> Json:
    plain = {name: part for name, part in task.items() if name not in ("ForceUpdate", "Runtime")}
    if not with_image:
        container = dict(_object(task.get("ContainerSpec")))
        container.pop("Image", None)
        plain["ContainerSpec"] = container
    return plain


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}

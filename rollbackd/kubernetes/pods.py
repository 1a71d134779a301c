"""Pods and pod templates, as far as we look at them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from rollbackd.kubernetes.objects import Condition, Meta


class Waiting(msgspec.Struct, frozen=True):
    """Why a container is not running."""

    reason: str = ""
    message: str = ""


class Terminated(msgspec.Struct, frozen=True, rename="camel"):
    """How a container ended."""

    reason: str = ""
    exit_code: int = 0
    finished_at: datetime | None = None


class ContainerState(msgspec.Struct, frozen=True):
    """What a container does: running where it neither waits nor has ended."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What the kubelet says of a container. `image_id` is empty until its image is there."""

    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A pod's status."""

    phase: str = ""
    conditions: Sequence[Condition] = ()
    container_statuses: Sequence[ContainerStatus] = ()
    init_container_statuses: Sequence[ContainerStatus] = ()


class Pod(msgspec.Struct, frozen=True):
    """A pod."""

    metadata: Meta
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Whether it may get traffic."""
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions)

    @property
    def over(self) -> bool:
        """Whether nothing of it runs or will run again."""
        return self.status.phase in ("Succeeded", "Failed")


# -- pod templates: what a pod needs, by name


class Reference(msgspec.Struct, frozen=True):
    """The name of something in the same namespace."""

    name: str = ""
    optional: bool = False


class NamedSecret(msgspec.Struct, frozen=True, rename="camel"):
    """A volume's Secret, which is named by another field than everywhere else."""

    secret_name: str = ""
    optional: bool = False


class Claim(msgspec.Struct, frozen=True, rename="camel"):
    """A volume's PersistentVolumeClaim."""

    claim_name: str = ""


class Projection(msgspec.Struct, frozen=True, rename="camel"):
    """One of the parts of a projected volume."""

    config_map: Reference | None = None
    secret: Reference | None = None


class Projected(msgspec.Struct, frozen=True):
    """A volume made of parts."""

    sources: Sequence[Projection] = ()


class Volume(msgspec.Struct, frozen=True, rename="camel"):
    """A volume, as far as it needs something."""

    config_map: Reference | None = None
    secret: NamedSecret | None = None
    persistent_volume_claim: Claim | None = None
    projected: Projected | None = None


class ValueFrom(msgspec.Struct, frozen=True, rename="camel"):
    """Where a variable's value comes from."""

    config_map_key_ref: Reference | None = None
    secret_key_ref: Reference | None = None


class Variable(msgspec.Struct, frozen=True, rename="camel"):
    """An environment variable, as far as it needs something."""

    value_from: ValueFrom | None = None


class VariablesFrom(msgspec.Struct, frozen=True, rename="camel"):
    """Where many variables come from."""

    config_map_ref: Reference | None = None
    secret_ref: Reference | None = None


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """A container of a template."""

    name: str = ""
    image: str = ""
    env: Sequence[Variable] = ()
    env_from: Sequence[VariablesFrom] = ()


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The spec of a template."""

    containers: Sequence[Container] = ()
    init_containers: Sequence[Container] = ()
    volumes: Sequence[Volume] = ()
    service_account_name: str = ""
    image_pull_secrets: Sequence[Reference] = ()


class Template(msgspec.Struct, frozen=True):
    """A pod template."""

    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()

"""Target `compose`: a service of a Compose project on a Docker engine, all its containers."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import StringConstraints

from rollbackd.adapter import Adapter
from rollbackd.docker.containers import COMPOSE_PROJECT, COMPOSE_SERVICE
from rollbackd.targets.base import Target, TargetContext
from rollbackd.targets.docker_group import Choice, Containers, ContainersConfig

_Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,199}$")]


class ComposeConfig(ContainersConfig):
    """What an operator writes under `target: {compose: ...}`."""

    project: _Name
    """The project's name, as in `docker compose ls`."""
    service: _Name
    """The service's name in the Compose file."""


def build(config: ComposeConfig, context: TargetContext) -> Target:
    """A target on this configuration; nothing is asked of the engine before it is used."""
    labels = (f"{COMPOSE_PROJECT}={config.project}", f"{COMPOSE_SERVICE}={config.service}")
    return Containers(config, Choice(shown=f"{config.project}/{config.service}", labels=labels), context)


ADAPTER: Adapter[ComposeConfig, TargetContext, Target] = Adapter(ComposeConfig, build)

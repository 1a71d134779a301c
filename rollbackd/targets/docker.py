"""Target `docker`: one container on a Docker engine, by its name."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from rollbackd.adapter import Adapter
from rollbackd.targets.base import Target, TargetContext
from rollbackd.targets.docker_group import Choice, Containers, ContainersConfig


class DockerConfig(ContainersConfig):
    """What an operator writes under `target: {docker: ...}`."""

    container: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}$")]
    """The container's name, as in `docker ps`."""


def build(config: DockerConfig, context: TargetContext) -> Target:
    """A target on this configuration; nothing is asked of the engine before it is used."""
    return Containers(config, Choice(shown=config.container, name=config.container), context)


ADAPTER: Adapter[DockerConfig, TargetContext, Target] = Adapter(DockerConfig, build, shorthand="container")

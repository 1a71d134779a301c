"""What the daemon remembers of deployments: all three lists together, and the part that belongs to one id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from rollbackd.cli.client import Client, decode
from rollbackd.cli.command import RefusedByDaemon
from rollbackd.web.views import DecisionView, DeploymentView, RollbackView

MOST = 1000
"""How far back `show` looks: the most that the API lists at once."""

Item = TypeVar("Item", DeploymentView, DecisionView, RollbackView)


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Deployments, decisions and rollbacks, each list newest first."""

    deployments: tuple[DeploymentView, ...] = ()
    decisions: tuple[DecisionView, ...] = ()
    rollbacks: tuple[RollbackView, ...] = ()


def fetch(client: Client, service: str | None, limit: int) -> Story:
    """The newest of each list. Raises RefusedByDaemon, Unreachable."""
    return Story(
        deployments=decode(client.get("deployments", service=service, limit=limit), tuple[DeploymentView, ...]),
        decisions=decode(client.get("decisions", service=service, limit=limit), tuple[DecisionView, ...]),
        rollbacks=decode(client.get("rollbacks", service=service, limit=limit), tuple[RollbackView, ...]),
    )


def about(story: Story, wanted: str) -> Story:
    """The deployment that the id belongs to, with its decisions and its rollback.

    The id is that of a deployment, a decision or a rollback, or the end of one. Where it names a decision, the other
    decisions about the deployment are left out. Raises RefusedByDaemon where there is none, or more than one.
    """
    decisions = _named(story.decisions, wanted)
    deployments = {_of_decision(one) for one in decisions}
    deployments |= {_of(one) for one in _named(story.deployments, wanted)}
    deployments |= {_of(one) for one in _named(story.rollbacks, wanted)}
    if not deployments:
        raise RefusedByDaemon(
            f"there is no deployment, decision or rollback `{wanted}` among the last {MOST}: "
            "`rollbackd history` lists them"
        )
    if len(deployments) > 1:
        raise RefusedByDaemon(f"`{wanted}` fits more than one id: give more of it")
    deployment = deployments.pop()
    return Story(
        deployments=tuple(one for one in story.deployments if _of(one) == deployment),
        decisions=tuple(decisions) or tuple(one for one in story.decisions if _of_decision(one) == deployment),
        rollbacks=tuple(one for one in story.rollbacks if _of(one) == deployment),
    )


def _named(items: Sequence[Item], wanted: str) -> list[Item]:
    fits: tuple[Callable[[str], bool], ...] = (lambda name: name == wanted, lambda name: name.endswith(f"-{wanted}"))
    for fit in fits:
        if found := [item for item in items if fit(item.id)]:
            return found
    return []


def _of(view: DeploymentView | RollbackView) -> tuple[str, str, float]:
    return view.service, view.version, view.deployed_at


def _of_decision(view: DecisionView) -> tuple[str, str, float]:
    return view.decision.service, view.decision.version, view.decision.deployed_at

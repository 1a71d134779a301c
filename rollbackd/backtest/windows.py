"""Which stretches of history are needed: around each deployment, those that touch as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from rollbackd.backtest.deployments import Deployment
from rollbackd.decide.policy import Policy

MARGIN_S = 60.0
"""More than the baseline before a deployment, since the first look at a counter tells nothing; and after its bake,
which ends with the first event beyond it."""


@dataclass
class Window:
    """A stretch of time, and the deployments within it in order of time."""

    start: float
    end: float
    deployments: list[Deployment] = field(default_factory=list)


def windows(
    judged: Iterable[Deployment],
    every: Sequence[Deployment],
    policy_for: Callable[[str], Policy],
    baseline: float,
    step: float,
    now: float,
) -> list[Window]:
    """The windows that judging these deployments takes, with all deployments that fall into each.

    Each begins `baseline` before a deployment and ends with its bake, or now.
    """
    found: list[Window] = []
    around = [_around(one, policy_for(one.service), baseline, step, now) for one in judged]
    for start, end in sorted(around):
        if found and start <= found[-1].end:
            found[-1].end = max(found[-1].end, end)
        else:
            found.append(Window(start, end))
    for window in found:
        window.deployments = sorted(one for one in every if window.start < one.deployed_at <= window.end)
    return found


def _around(one: Deployment, policy: Policy, baseline: float, step: float, now: float) -> tuple[float, float]:
    margin = MARGIN_S + 2 * step
    watched = max(policy.bake + policy.verify_for, policy.verify_within)
    start = max(0.0, one.deployed_at - baseline - margin)
    return start, max(min(one.deployed_at + watched + margin, now), one.deployed_at)

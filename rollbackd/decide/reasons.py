"""The words of a decision: why, and what else it might have been."""

from __future__ import annotations

from collections.abc import Sequence

from rollbackd.decide.watch import Watch
from rollbackd.detect.base import Rule, Scene
from rollbackd.model import Action, Decision, Evidence, GuardAnswer

NAMED = 5
"""Services named at most when they were compared."""


def decision_of(
    watch: Watch,
    guilty: Rule,
    scene: Scene,
    to: str | None,
    action: Action,
    answers: tuple[GuardAnswer, ...],
    compared: Sequence[str],
) -> Decision:
    """The decision about a watch that `guilty` convicts, with everything it rests on; `compared` are other services."""
    found = guilty.evidence(scene)
    return Decision(
        t=scene.now,
        service=watch.service,
        version=watch.version,
        action=action,
        to=to,
        rule=found.rule,
        reason=reason_of(found, action, answers, watch.deployed_at),
        deployed_at=watch.deployed_at,
        evidence=watch.evidence(scene),
        considered=considered(found, scene, watch.finished_at, compared),
        guards=answers,
    )


def reason_of(found: Evidence, action: Action, answers: Sequence[GuardAnswer], deployed_at: float) -> str:
    """One sentence: what got worse, since when, and where the decision is not to roll back, why not."""
    began = f", {_after(found.onset, deployed_at)}" if found.onset is not None else ""
    refusals = "; ".join(answer.reason for answer in answers if answer.verdict != "pass")
    return f"{found.summary}{began}" + ("" if action == "rollback" else f"; not rolled back: {refusals}")


def considered(found: Evidence, scene: Scene, finished_at: float | None, compared: Sequence[str]) -> tuple[str, ...]:
    """The other explanations, and why each was set aside."""
    said = []
    if found.onset is not None:
        said.append(f"It had begun before the deployment: no, it began {_after(found.onset, scene.deployed_at)}.")
    age = scene.now - scene.deployed_at
    if age > scene.warmup:
        said.append(f"It is a warm-up: no, {age:.0f} s after the deployment it goes on.")
    else:
        said.append("It is a warm-up: no, it is far worse than any warm-up is allowed to be.")
    if scene.history.counted(scene.beside(scene.history.counts), scene.deployed_at, scene.now)[1]:
        said.append("The old release shares it: no, the old release beside it does not show it.")
    if compared:
        names = ", ".join(compared[:NAMED]) + (f" and {len(compared) - NAMED} more" if len(compared) > NAMED else "")
        said.append(f"A cause shared by other services: no, none of them was in the same trouble ({names}).")
    else:
        said.append("A cause shared by other services: cannot be told, no other service is watched.")
    if finished_at is None:
        said.append("The deployment has not been reported finished.")
    return tuple(said)


def _after(moment: float, deployed_at: float) -> str:
    seconds = moment - deployed_at
    return f"{seconds:.0f} s after the deployment" if seconds >= 1 else "with the deployment"

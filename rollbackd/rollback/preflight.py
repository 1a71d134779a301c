"""A last look at the target before anything is done to it."""

from __future__ import annotations

from rollbackd.ledger.base import RollbackPlan
from rollbackd.targets.base import Target


async def objections(target: Target, plan: RollbackPlan) -> str:
    """Why the plan must not be carried out; empty when nothing stands against it. Raises what the target raises."""
    current = await target.current()
    if current is None:
        return f"nothing is deployed any more, {plan.version} was expected: the target was changed by someone else"
    if current.version == plan.to:
        return f"{plan.to} is in place already: the target was changed by someone else"
    if current.version != plan.version:
        return f"{current.version} is in place, not {plan.version}: the target was changed by someone else since"
    readiness = await target.readiness(plan.to)
    return "" if readiness.ready else f"not ready to go back to {plan.to}: {'; '.join(readiness.problems)}"

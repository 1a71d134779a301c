"""Whether a revert would work right now, found out by asking."""

from __future__ import annotations

from rollbackd.aiokit import Clock
from rollbackd.kubernetes.kinds import DEPLOYMENT
from rollbackd.targets.kubernetes.needs import missing
from rollbackd.targets.kubernetes.road import Roads
from rollbackd.targets.kubernetes.view import View


async def problems(view: View, to: str, roads: Roads, clock: Clock) -> list[str]:
    """What is in the way of a revert to release `to`, a sentence each."""
    look = await view.look_once_taken_up(clock)
    if look is None:
        return [f"nothing is deployed: there is no {await view.what()}"]
    workload = look.workload
    road = await roads.of(workload)
    found = await road.problems(look, to)
    if look.staged:
        found.append("the Deployment is paused with a pod template that was never rolled out: somebody prepares it")
    if view.kind is not DEPLOYMENT and workload.spec.update_strategy.type == "OnDelete":
        found.append(
            "its updateStrategy is OnDelete: whatever is put back, pods are replaced only when somebody deletes them"
        )
    revision = look.find(to)
    if revision is None:
        found.append(look.gone(to))
    else:
        found += [f"release {to}: {gap}" for gap in await missing(view.api, await view.namespace(), revision.pod)]
    return found

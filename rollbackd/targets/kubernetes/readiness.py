"""Whether a revert would work right now, found out by asking."""

from __future__ import annotations

from rollbackd.kubernetes.kinds import DEPLOYMENT, STATEFUL_SET
from rollbackd.kubernetes.objects import Review
from rollbackd.targets.kubernetes.needs import missing
from rollbackd.targets.kubernetes.owners import keeper
from rollbackd.targets.kubernetes.view import Look, View


async def problems(view: View, to: str, *, refuse_managed: bool) -> list[str]:
    """What is in the way of a revert to release `to`, a sentence each."""
    look = await view.look()
    if look is None:
        return [f"nothing is deployed: there is no {await view.what()}"]
    found = []
    workload = look.workload
    kept_by = keeper(workload.metadata)
    if refuse_managed and kept_by is not None:
        found.append(kept_by.problem)
    if look.staged:
        found.append("the Deployment is paused with a pod template that was never rolled out: somebody prepares it")
    if view.kind is not DEPLOYMENT and workload.spec.update_strategy.type == "OnDelete":
        found.append(
            "its updateStrategy is OnDelete: whatever is put back, pods are replaced only when somebody deletes them"
        )
    found += await _rights(view)
    revision = look.find(to)
    if revision is None:
        found.append(gone(to, look))
    else:
        found += [f"release {to}: {gap}" for gap in await missing(view.api, await view.namespace(), revision.pod)]
    return found


def gone(to: str, look: Look) -> str:
    """That a release is kept no longer."""
    kept = ", ".join(look.names[one.identity] for one in look.revisions[:10])
    return f"there is no revision of release {to[:80]!r} (there are {kept}): raise revisionHistoryLimit to keep more"


async def _rights(view: View) -> list[str]:
    """The rights that a revert needs and we lack."""
    wanted = [("patch", "apps", view.kind.plural, view.name)]
    if view.kind is STATEFUL_SET:
        wanted.append(("delete", "", "pods", ""))
    lacking = []
    for verb, group, resource, name in wanted:
        attributes = {"namespace": await view.namespace(), "verb": verb, "group": group, "resource": resource}
        if name:
            attributes["name"] = name
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        review = await view.api.post(path, body, Review, "an access review")
        if not review.status.allowed:
            place = f"{resource} {name}".strip()
            lacking.append(f"we may not {verb} {place}: docs/targets/kubernetes.md lists the rights that are needed")
    return lacking

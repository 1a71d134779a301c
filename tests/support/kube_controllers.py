"""The controllers and the kubelet of the small Kubernetes: each call brings its objects one step nearer to the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable

from tests.support.kube_store import Object, Store, digest, owner, short_hash

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
_NOT_COPIED = ("deployment.kubernetes.io/", "kubectl.kubernetes.io/last-applied-configuration")


class Controllers:
    """Deployments alone. `stalled`: revisions are taken up, but pods are not replaced.

    `broken` names images whose pods never become ready; `moved` maps an image to the digest its tag points to by now.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.stalled = self.off = False
        self.broken: set[str] = set()
        self.moved: dict[str, str] = {}
        self.on_complete: Callable[[Object], None] = lambda _deployment: None

    def run(self) -> None:
        """Look at every Deployment."""
        for deployment in self._store.all("deployments"):
            if not self.off:
                self._reconcile(deployment)

    def _reconcile(self, deployment: Object) -> None:
        newest = self._newest(deployment)
        deployment = self._store.get("deployments", deployment["metadata"]["name"])
        if newest is not None and not self.stalled and not deployment["spec"].get("paused"):
            self._replace_pods(deployment, newest)
        before = deployment.get("status")
        deployment["status"] = self._status(deployment, newest)
        self._store.put("deployments", deployment)
        if _complete(deployment) and (before is None or not _complete({**deployment, "status": before})):
            self.on_complete(deployment)

    def _own(self, deployment: Object) -> list[Object]:
        uid = deployment["metadata"]["uid"]
        sets = self._store.all("replicasets")
        return [one for one in sets if one["metadata"]["ownerReferences"][0]["uid"] == uid]

    def _newest(self, deployment: Object) -> Object | None:
        """The ReplicaSet of the Deployment's template, numbered highest; while paused, none is made."""
        mark = short_hash(deployment["spec"]["template"])
        own = self._own(deployment)
        highest = max((int(one["metadata"]["annotations"][REVISION]) for one in own), default=0)
        found = next((one for one in own if one["metadata"]["labels"][HASH] == mark), None)
        if found is None and deployment["spec"].get("paused"):
            return next((one for one in own if one["metadata"]["annotations"][REVISION] == str(highest)), None)
        if found is None:
            found = self._new_set(deployment, mark)
            number = highest + 1
        else:
            at = int(found["metadata"]["annotations"][REVISION])
            number = at if at == highest else highest + 1
        notes = deployment["metadata"].get("annotations", {})
        copied = {name: value for name, value in notes.items() if not name.startswith(_NOT_COPIED)}
        found["metadata"]["annotations"] = {**found["metadata"]["annotations"], **copied, REVISION: str(number)}
        found = self._store.put("replicasets", found)
        deployment["metadata"]["annotations"] = {**notes, REVISION: str(number)}
        self._store.put("deployments", deployment)
        return found

    @staticmethod
    def _new_set(deployment: Object, mark: str) -> Object:
        template = copy.deepcopy(deployment["spec"]["template"])
        template["metadata"]["labels"][HASH] = mark
        name = f"{deployment['metadata']['name']}-{mark}"
        labels = template["metadata"]["labels"]
        owners = owner("Deployment", deployment["metadata"])
        meta = {"name": name, "labels": labels, "annotations": {}, "ownerReferences": owners}
        return {"metadata": meta, "spec": {"template": template}}

    def _replace_pods(self, deployment: Object, newest: Object) -> None:
        name, wanted = newest["metadata"]["name"], deployment["spec"]["replicas"]
        image = newest["spec"]["template"]["spec"]["containers"][0]["image"]
        ready = image not in self.broken
        there = {one["metadata"]["name"] for one in self._store.all("pods")}
        for at in range(wanted):
            if f"{name}-{at}" in there:
                continue
            meta = {
                "name": f"{name}-{at}",
                "labels": newest["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": owner("ReplicaSet", newest["metadata"]),
            }
            self._store.put("pods", {"metadata": meta, "status": pod_status(image, self.moved.get(image), ready=ready)})
        if ready:
            self._drop_others(deployment, name)

    def _drop_others(self, deployment: Object, name: str) -> None:
        others = {one["metadata"]["name"] for one in self._own(deployment)} - {name}
        for pod in self._store.all("pods"):
            if pod["metadata"]["ownerReferences"][0]["name"] in others:
                self._store.delete("pods", pod["metadata"]["name"])

    def _status(self, deployment: Object, newest: Object | None) -> Object:
        sets = {one["metadata"]["name"] for one in self._own(deployment)}
        pods = [one for one in self._store.all("pods") if one["metadata"]["ownerReferences"][0]["name"] in sets]
        ready = [one for one in pods if one["status"]["conditions"][0]["status"] == "True"]
        new = [
            one
            for one in pods
            if newest is not None and one["metadata"]["ownerReferences"][0]["name"] == newest["metadata"]["name"]
        ]
        return {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(new),
            "availableReplicas": len(ready),
        }


def pod_status(image: str, pulled: str | None, *, ready: bool) -> Object:
    """What a kubelet says of a pod that runs, or crashes. `pulled` is its image's digest, if not the usual one."""
    container = {
        "name": "app",
        "image": image,
        "imageID": f"{image.partition(':')[0]}@{pulled or digest(image)}",
        "ready": ready,
        "restartCount": 0 if ready else 3,
        "state": {"running": {}} if ready else {"waiting": {"reason": "CrashLoopBackOff"}},
    }
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [container],
    }


def _complete(deployment: Object) -> bool:
    status, wanted = deployment["status"], deployment["spec"]["replicas"]
    counts = (status["updatedReplicas"], status["replicas"], status["availableReplicas"])
    return counts == (wanted, wanted, wanted) and status["observedGeneration"] == deployment["metadata"]["generation"]

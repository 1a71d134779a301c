"""Argo Rollouts on the small Kubernetes: a canary that waits at half of its pods until it is promoted or aborted.

As the real controller does it (tests/system/kubernetes/test_rollouts.py): what a Rollout asks for is `currentPodHash`,
what was promoted last `stableRS`; a new template resets abort and promotion, and the stable one skips all steps.
"""

from __future__ import annotations

import copy

from tests.support.kube_controllers import pod_status
from tests.support.kube_store import Object, Store, owner, short_hash

REVISION = "rollout.argoproj.io/revision"
HASH = "rollouts-pod-template-hash"


class RolloutController:
    """`off`: nothing is taken up. `hasty`: it says that it has observed a spec, and not yet which revision that is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.off = self.hasty = False
        self.broken: set[str] = set()
        self.moved: dict[str, str] = {}
        self._turns = 0

    def run(self) -> None:
        """Look at every Rollout."""
        for rollout in self._store.all("rollouts"):
            if self.hasty:
                rollout["status"]["observedGeneration"] = str(rollout["metadata"]["generation"])
                self._store.put("rollouts", rollout)
            elif not self.off:
                self._reconcile(rollout)

    def _reconcile(self, rollout: Object) -> None:
        mark = self._take_up(rollout)
        status = rollout["status"]
        if status["currentPodHash"] != mark:
            status |= {"currentPodHash": mark, "abort": False, "promoteFull": False}
        status.setdefault("stableRS", mark)
        if status.get("promoteFull") and not rollout["spec"].get("paused"):
            status["stableRS"] = mark
        stable = status["stableRS"]
        status["promoteFull"] = bool(status.get("promoteFull")) and mark != stable
        wanted = rollout["spec"]["replicas"]
        canary = 0 if mark == stable or status.get("abort") else wanted // 2
        ready = self._pods(rollout, {mark: canary} | {stable: wanted - canary})
        if mark == stable:
            status["phase"] = "Healthy" if ready else "Progressing"
        else:
            status["phase"] = "Degraded" if status.get("abort") else "Paused"
        status["conditions"] = [self._progressing(status)]
        status["observedGeneration"] = str(rollout["metadata"]["generation"])
        self._store.put("rollouts", rollout)

    def _progressing(self, status: Object) -> Object:
        """Aborted or not, and since when, to the second as Kubernetes has it: each turn is in a second of its own."""
        aborted = bool(status.get("abort"))
        value, reason = ("False", "RolloutAborted") if aborted else ("True", "NewReplicaSetAvailable")
        before: list[Object] = status.get("conditions", [])
        if before and before[0]["status"] == value:
            return before[0]
        self._turns += 1
        at = f"2026-01-01T00:{self._turns // 60:02}:{self._turns % 60:02}Z"
        return {"type": "Progressing", "status": value, "reason": reason, "lastTransitionTime": at}

    def _take_up(self, rollout: Object) -> str:
        """The ReplicaSet of its template, numbered highest; its hash."""
        mark = short_hash(rollout["spec"]["template"])
        rollout.setdefault("status", {"currentPodHash": mark})
        uid = rollout["metadata"]["uid"]
        sets = self._store.all("replicasets")
        own = [one for one in sets if one["metadata"]["ownerReferences"][0]["uid"] == uid]
        highest = max((int(one["metadata"]["annotations"][REVISION]) for one in own), default=0)
        found = next((one for one in own if one["metadata"]["labels"][HASH] == mark), None)
        if found is None:
            template = copy.deepcopy(rollout["spec"]["template"])
            template["metadata"]["labels"][HASH] = mark
            labels, owners = template["metadata"]["labels"], owner("Rollout", rollout["metadata"])
            name = f"{rollout['metadata']['name']}-{mark}"
            meta = {"name": name, "labels": labels, "annotations": {REVISION: "0"}, "ownerReferences": owners}
            found = {"metadata": meta, "spec": {"template": template}}
        at = int(found["metadata"]["annotations"][REVISION])
        number = str(at if at == highest and at else highest + 1)
        found["metadata"]["annotations"][REVISION] = number
        self._store.put("replicasets", found)
        rollout["metadata"].setdefault("annotations", {})[REVISION] = number
        return mark

    def _pods(self, rollout: Object, counts: dict[str, int]) -> bool:
        """So many pods of each revision, by its hash; whether all are ready."""
        ready = True
        for found in self._store.all("replicasets"):
            wanted = counts.get(found["metadata"]["labels"].get(HASH, ""), 0)
            name, image = found["metadata"]["name"], found["spec"]["template"]["spec"]["containers"][0]["image"]
            good = image not in self.broken
            ready = ready and (good or not wanted)
            there = [one["metadata"]["name"] for one in self._store.all("pods")]
            for at in range(rollout["spec"]["replicas"]):
                if at >= wanted and f"{name}-{at}" in there:
                    self._store.delete("pods", f"{name}-{at}")
                elif at < wanted and f"{name}-{at}" not in there:
                    labels = found["spec"]["template"]["metadata"]["labels"]
                    owners = owner("ReplicaSet", found["metadata"])
                    meta = {"name": f"{name}-{at}", "labels": labels, "ownerReferences": owners}
                    status = pod_status(image, self.moved.get(image), ready=good)
                    self._store.put("pods", {"metadata": meta, "status": status})
        return ready

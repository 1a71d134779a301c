"""Who else looks after a workload, and would put back what we undo."""

from __future__ import annotations

from dataclasses import dataclass

from rollbackd.kubernetes.objects import Meta


@dataclass(frozen=True)
class Keeper:
    """What looks after a workload. `cure` completes a sentence that says what to do instead."""

    tool: str
    name: str
    cure: str

    @property
    def problem(self) -> str:
        """Why we leave the workload alone, as a sentence."""
        named = f"{self.tool} {self.name}".strip()
        return f"{named} looks after it and would undo the revert: {self.cure}, or set `if_managed: revert`"


def keeper(meta: Meta) -> Keeper | None:
    """By the labels and annotations that each tool documents.

    Argo CD: https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/ · Flux:
    https://fluxcd.io/flux/components/kustomize/kustomizations/#role-based-access-control and helmreleases · Helm:
    https://helm.sh/docs/topics/charts_hooks/ (labels and annotations that `helm install` adds).
    """
    labels, notes = meta.labels, meta.annotations
    if tracked := notes.get("argocd.argoproj.io/tracking-id"):
        return Keeper("Argo CD application", tracked.partition(":")[0], "roll the application back")
    if instance := labels.get("argocd.argoproj.io/instance"):
        return Keeper("Argo CD application", instance, "roll the application back")
    if name := labels.get("kustomize.toolkit.fluxcd.io/name"):
        return Keeper("Flux kustomization", name, "revert the commit it applies")
    if name := labels.get("helm.toolkit.fluxcd.io/name"):
        return Keeper("Flux Helm release", name, "revert the commit it applies")
    if release := notes.get("meta.helm.sh/release-name"):
        return Keeper("Helm release", release, f"use `helm rollback {release}`")
    owner = meta.controller
    return Keeper(owner.kind, owner.name, "revert there") if owner is not None else None

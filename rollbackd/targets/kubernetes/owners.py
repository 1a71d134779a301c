"""Who else looks after a workload, and would put back what we undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rollbackd.kubernetes.objects import Meta

Tool: TypeAlias = Literal["argocd", "flux_kustomization", "flux_helm_release", "helm", "controller"]

_CALLED: dict[Tool, tuple[str, str]] = {
    "argocd": ("Argo CD application", "configure `owners.argocd`, or roll the application back"),
    "flux_kustomization": ("Flux kustomization", "revert the commit it applies"),
    "flux_helm_release": ("Flux Helm release", "revert the commit it applies"),
    "helm": ("Helm release", "use `helm rollback {name}`"),
}
"""What people call each, and what they would do by hand."""


@dataclass(frozen=True)
class Keeper:
    """What looks after a workload. `namespace` is its own, where it is known; `kind` that of a controller's object.

    `name` is empty where it is known to be a tool's without naming what of it.
    """

    tool: Tool
    name: str
    namespace: str | None = None
    kind: str = ""

    @property
    def what(self) -> str:
        """It, in words."""
        return f"{_CALLED[self.tool][0] if self.tool in _CALLED else self.kind} {self.name}".strip()

    @property
    def problem(self) -> str:
        """Why we leave the workload alone, as a sentence."""
        if self.tool == "helm" and not self.name:
            return (
                "a Helm release that is not known looks after it: it has Helm's label app.kubernetes.io/managed-by "
                "and no annotation meta.helm.sh/release-name; roll back by hand, or set `if_managed: revert`"
            )
        cure = _CALLED[self.tool][1].format(name=self.name) if self.tool in _CALLED else "revert there"
        return f"{self.what} looks after it and would undo the revert: {cure}, or set `if_managed: revert`"


def keeper(meta: Meta) -> Keeper | None:
    """By the labels and annotations that each tool documents.

    Argo CD: https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/ · Flux:
    https://fluxcd.io/flux/components/kustomize/kustomizations/#role-based-access-control and helmreleases · Helm:
    https://helm.sh/docs/topics/charts_hooks/ (labels and annotations that `helm install` adds).
    """
    labels, notes = meta.labels, meta.annotations
    if tracked := notes.get("argocd.argoproj.io/tracking-id"):
        return Keeper("argocd", tracked.partition(":")[0])
    if instance := labels.get("argocd.argoproj.io/instance"):
        return Keeper("argocd", instance)
    if name := labels.get("kustomize.toolkit.fluxcd.io/name"):
        return Keeper("flux_kustomization", name, labels.get("kustomize.toolkit.fluxcd.io/namespace"))
    if name := labels.get("helm.toolkit.fluxcd.io/name"):
        return Keeper("flux_helm_release", name, labels.get("helm.toolkit.fluxcd.io/namespace"))
    if release := notes.get("meta.helm.sh/release-name"):
        return Keeper("helm", release, notes.get("meta.helm.sh/release-namespace"))
    owner = meta.controller
    if owner is not None:
        return Keeper("controller", owner.name, kind=owner.kind)
    return Keeper("helm", "") if labels.get("app.kubernetes.io/managed-by") == "Helm" else None

"""What an operator writes about those who look after a workload, and the roads over them that follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from rollbackd.fields import Model
from rollbackd.kubernetes.kinds import ROLLOUT
from rollbackd.kubernetes.kubeconfig import ClusterOptions
from rollbackd.targets.base import TargetContext
from rollbackd.targets.git_branch import GitBranch
from rollbackd.targets.kubernetes import helm
from rollbackd.targets.kubernetes.flux import FluxConfig, FluxRoad, Hands
from rollbackd.targets.kubernetes.flux_git import FluxGitRoad
from rollbackd.targets.kubernetes.flux_objects import Flux
from rollbackd.targets.kubernetes.gitops import GitRoad, GitRoadConfig
from rollbackd.targets.kubernetes.helm_program import HelmOptions
from rollbackd.targets.kubernetes.owners import Keeper, Tool
from rollbackd.targets.kubernetes.road import Opens, Road
from rollbackd.targets.kubernetes.view import View


class OwnersConfig(Model):
    """How reverts go over the tools that look after a workload, one field for each way."""

    helm: HelmOptions = HelmOptions()
    """Helm releases, which are reverted by `helm rollback`."""
    flux: FluxConfig | None = None
    """`{}` suspends a Kustomization of Flux while its workload is reverted; it stays so until somebody resumes it."""
    git: GitRoadConfig | None = None
    """The repository that Argo CD or Flux applies: a revert is a commit pushed to it."""


def over(
    config: OwnersConfig, cluster: ClusterOptions, view: View, straight: Road, context: TargetContext
) -> Mapping[Tool, Opens]:
    """The roads over owners, by the owner's tool."""
    found: dict[Tool, Opens] = {"helm": helm.opens(config.helm, cluster, view, straight, context)}
    hands = Hands(view, Flux(view.api), context.clock, context.service)
    # the straight road that Flux's takes itself is not a Rollout's
    suspends = config.flux is not None and view.kind is not ROLLOUT
    if suspends:
        found |= dict.fromkeys(("flux_kustomization", "flux_helm_release"), lambda kept: FluxRoad(kept, hands))
    if (git := config.git) is None:
        return found
    branch = GitBranch(git, TargetContext(context.service, context.clock, context.state_dir / "git"))

    def in_git(kept: Keeper) -> GitRoad:
        return GitRoad(kept, hands, git, branch)

    def both(kept: Keeper) -> FluxGitRoad:
        return FluxGitRoad(kept, hands, FluxRoad(kept, hands), in_git(kept))

    found |= {"argocd": in_git, "flux_helm_release": in_git}
    found["flux_kustomization"] = both if suspends else in_git
    return found

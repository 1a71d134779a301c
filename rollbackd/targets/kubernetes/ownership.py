"""What an operator writes about those who look after a workload, and the roads over them that follow from it."""

from __future__ import annotations

from collections.abc import Mapping

from rollbackd.fields import Model
from rollbackd.kubernetes.kinds import ROLLOUT
from rollbackd.kubernetes.kubeconfig import ClusterOptions
from rollbackd.kubernetes.workloads import Workload
from rollbackd.targets.base import TargetContext
from rollbackd.targets.git_branch import GitBranch
from rollbackd.targets.kubernetes import helm
from rollbackd.targets.kubernetes.argocd import ArgoCD
from rollbackd.targets.kubernetes.argocd_api import ArgoCDOptions
from rollbackd.targets.kubernetes.completion import Completion
from rollbackd.targets.kubernetes.flux import FluxConfig, FluxRoad, Hands
from rollbackd.targets.kubernetes.flux_git import FluxGitRoad
from rollbackd.targets.kubernetes.flux_objects import Flux
from rollbackd.targets.kubernetes.gitops import GitRoad, GitRoadConfig
from rollbackd.targets.kubernetes.helm_program import HelmOptions
from rollbackd.targets.kubernetes.owners import Keeper, Tool
from rollbackd.targets.kubernetes.road import Opens, Straight
from rollbackd.targets.kubernetes.view import View


class OwnersConfig(Model):
    """How reverts go over the tools that look after a workload, one field for each way."""

    helm: HelmOptions = HelmOptions()
    """Helm releases, which are reverted by `helm rollback`."""
    argocd: ArgoCDOptions | None = None
    """Argo CD: the application is rolled back by its API, and its automated sync is turned off for that."""
    flux: FluxConfig | None = None
    """`{}` suspends a Kustomization of Flux while its workload is reverted; it stays so until somebody resumes it."""
    git: GitRoadConfig | None = None
    """The repository that Argo CD or Flux applies: a revert is a commit pushed to it."""


class Owners:
    """The roads over owners that are configured."""

    def __init__(
        self, config: OwnersConfig, cluster: ClusterOptions, view: View, straight: Straight, context: TargetContext
    ) -> None:
        self._completion = Completion(view, straight, context.clock, context.service)
        self._argocd = ArgoCD(config.argocd, view, self._completion, context) if config.argocd is not None else None
        self._hands = Hands(view, Flux(view.api), context.clock, context.service)
        self.over: dict[Tool, Opens] = {"helm": helm.opens(config.helm, cluster, view, straight, context)}
        """What opens the road over each tool. A commit, where a repository is configured, goes before other ways."""
        if self._argocd is not None:
            self.over["argocd"] = self._argocd.road
        # the straight road that Flux's takes itself is not a Rollout's
        suspends = config.flux is not None and view.kind is not ROLLOUT
        if suspends:
            self.over |= dict.fromkeys(("flux_kustomization", "flux_helm_release"), self._suspending)
        if config.git is not None:
            self.over |= self._by_commit(config.git, context, suspends=suspends)

    def _suspending(self, kept_by: Keeper) -> FluxRoad:
        return FluxRoad(kept_by, self._hands)

    def _by_commit(self, git: GitRoadConfig, context: TargetContext, *, suspends: bool) -> Mapping[Tool, Opens]:
        branch = GitBranch(git, TargetContext(context.service, context.clock, context.state_dir / "git"))

        def in_git(kept_by: Keeper) -> GitRoad:
            return GitRoad(kept_by, self._hands, git, branch, self._completion)

        def both(kept_by: Keeper) -> FluxGitRoad:
            return FluxGitRoad(kept_by, self._hands, self._suspending(kept_by), in_git(kept_by))

        return {
            "argocd": in_git,
            "flux_helm_release": in_git,
            "flux_kustomization": both if suspends else in_git,
        }

    async def claim(self, workload: Workload) -> Keeper | None:
        """Who looks after a workload that bears no mark of theirs alone. Raises what requests raise."""
        return await self._argocd.claims(workload) if self._argocd is not None else None

    async def close(self) -> None:
        """Release everything. Safe to call twice."""
        if self._argocd is not None:
            await self._argocd.close()

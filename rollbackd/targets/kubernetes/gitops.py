"""The road `git`: a revert is a commit pushed to the repository that Argo CD or Flux applies.

What is in place is told by the workload all the same. It is settled once git says the good release, the workload is
that release, and the owner, as far as it can be asked, has turned to that commit.
"""

from __future__ import annotations

from typing import Annotated, Self

import msgspec
import structlog
from pydantic import Field, model_validator

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.kubernetes.api import Stale
from rollbackd.kubernetes.objects import Meta
from rollbackd.targets.base import RevertOrder
from rollbackd.targets.git_branch import GitBranch, GitConfig
from rollbackd.targets.kubernetes.completion import Completion
from rollbackd.targets.kubernetes.flux import Hands
from rollbackd.targets.kubernetes.flux_objects import ATTEMPTS, KUSTOMIZATION, FluxObject, Place, commit_of
from rollbackd.targets.kubernetes.owners import Keeper
from rollbackd.targets.kubernetes.view import Look
from rollbackd.targets.versions import shown

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")

REFRESH = "argocd.argoproj.io/refresh"
"""Argo CD takes an Application up at once that has this annotation, and removes it
(https://argo-cd.readthedocs.io/en/stable/user-guide/annotations-and-labels/)."""


class GitRoadConfig(GitConfig):
    """What an operator writes under `owners: {git: ...}`: the settings of the target `git`, and one more."""

    argocd_namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] = "argocd"
    """Where Argo CD's Applications are, so that they can be told to take the commit up at once."""

    @model_validator(mode="after")
    def _names_releases(self) -> Self:
        if self.image is None:
            raise ValueError(
                "`image` is needed: it says what git calls a release, which has to be Kubernetes' own name"
            )
        return self


class ApplicationSync(msgspec.Struct, frozen=True):
    """The commit that Argo CD compares with."""

    revision: str = ""


class ApplicationStatus(msgspec.Struct, frozen=True):
    """What we look at of an Application's status."""

    sync: ApplicationSync = ApplicationSync()


class Application(msgspec.Struct, frozen=True):
    """An Application of Argo CD."""

    metadata: Meta
    status: ApplicationStatus = ApplicationStatus()


class GitRoad:
    """Orders are carried out in git, and the owner takes them to the workload."""

    def __init__(
        self, kept: Keeper, hands: Hands, config: GitRoadConfig, branch: GitBranch, completion: Completion
    ) -> None:
        self._kept, self._hands, self._config, self._branch = kept, hands, config, branch
        self._completion = completion

    @property
    def waits_for_people(self) -> bool:
        """Whether somebody has to merge what is pushed."""
        return self._config.mode == "pull_request"

    # -- whether it would work

    async def problems(self, look: Look, to: str) -> list[str]:
        found = [*(await self._branch.readiness(to)).problems, *await self._completion.problems()]
        if found:
            return found
        if (two := ambiguous(look, to)) is not None:
            return [two]
        release = await self._branch.current()
        told = release.version if release is not None else "nothing"
        if told != look.version:
            cure = "either it is not taken up yet, or `image` and `version` do not name releases alike"
            return [f"git says {shown(told)} and the cluster runs {look.version}: {cure}"]
        return await self._unlike_sources()

    async def _unlike_sources(self) -> list[str]:
        """Where Flux follows another branch than we push to, and that can be told."""
        source = await self._source()
        if source is None or source[1].status.artifact is None:
            return []
        branch, at, _ = source[1].status.artifact.revision.partition("@sha1:")
        if not at or branch == self._config.branch:
            return []
        return [f"{source[0].what} follows {shown(branch)}, not the branch {self._config.branch} of `owners.git`"]

    # -- reverting

    async def carry_out(self, order: RevertOrder) -> None:
        look = await self._hands.view.look_to_revert(self._hands.clock)
        if look.version not in (order.expect, order.to):
            raise Conflict(f"{look.version} is in place, not {order.expect}: somebody else deployed")
        if (two := ambiguous(look, order.to)) is not None:
            raise Permanent(two)
        await self.push(order)
        if not self.waits_for_people:
            await self._completion.carry_out(order)

    async def push(self, order: RevertOrder) -> None:
        """The commit alone, and a word to the owner. Its key is in the commit, so it is made once."""
        await self._branch.revert(order)
        if not self.waits_for_people:
            await self._tell(order)

    async def wanted(self, order: RevertOrder) -> bool:
        """Whether a commit is to be made. Raises Conflict where git says something else, or had this key before."""
        return await self._branch.wanted(order)

    # -- the owner

    async def _tell(self, order: RevertOrder) -> None:
        """Have the owner look now. It would look by itself a little later, so nothing here is a failure."""
        try:
            if self._kept.tool == "argocd":
                await self._refresh()
            else:
                await self._reconcile(order.key)
        except RollbackdError as error:
            log.info("owner_not_asked", service=self._hands.service, owner=self._kept.what, error=str(error))
        else:
            log.info("owner_asked", service=self._hands.service, owner=self._kept.what)

    async def _reconcile(self, key: str) -> None:
        """The source first: what comes from it follows by itself as soon as there is a new commit."""
        chain = await self._hands.flux.upwards(await self._hands.place(self._kept))
        sources = dict.fromkeys(seen.source for _, seen in chain if seen.source is not None)
        token = f"{key}-{self._hands.clock.now():.0f}"
        for place in (*sources, *(place for place, _ in reversed(chain))):
            await self._hands.flux.ask(place, token)

    async def _source(self) -> tuple[Place, FluxObject] | None:
        """The GitRepository behind the owner, nearest first; None where there is none, or we may not know."""
        if self._kept.tool == "argocd":
            return None
        try:
            for _, seen in await self._hands.flux.upwards(await self._hands.place(self._kept)):
                if seen.source is not None:
                    return seen.source, await self._hands.flux.read(seen.source)
        except Permanent:
            return None
        return None

    async def fetched(self) -> bool | None:
        """Whether Flux has the branch's head; None where that cannot be told."""
        source = await self._source()
        artifact = source[1].status.artifact if source is not None else None
        commit = commit_of(artifact.revision) if artifact is not None else ""
        return commit == await self._branch.head() if commit else None

    async def settled(self, look: Look) -> bool:
        if not await self._branch.settled(look.version):
            return False
        turned_to = await self._turned_to()
        if turned_to and turned_to != await self._branch.head():
            raise Temporary(f"{self._kept.what} is still at commit {turned_to[:12]}, not at the branch's head")
        return True

    async def _turned_to(self) -> str:
        """The commit that the owner applies or has applied; empty where we cannot know."""
        try:
            if self._kept.tool == "argocd":
                return (await self._application()).status.sync.revision
            for place, seen in await self._hands.flux.upwards(await self._hands.place(self._kept)):
                if place.kind is KUSTOMIZATION:
                    return commit_of(seen.status.last_attempted_revision)
        except Permanent:
            return ""
        return ""

    # -- Argo CD

    async def _application(self) -> Application:
        return await self._hands.view.api.get(self._address, Application, self._kept.what)

    @property
    def _address(self) -> str:
        # an Application outside of Argo CD's own namespace is tracked as NAMESPACE_NAME
        namespace, _, name = self._kept.name.rpartition("_")
        where = namespace or self._config.argocd_namespace
        return f"/apis/argoproj.io/v1alpha1/namespaces/{where}/applications/{name}"

    async def _refresh(self) -> None:
        for left in reversed(range(ATTEMPTS)):
            meta = (await self._application()).metadata
            value = {**meta.annotations, REFRESH: "normal"}
            annotate = {"op": "add", "path": "/metadata/annotations", "value": value}
            try:
                await self._hands.view.api.patch(self._address, meta, [annotate], self._kept.what)
            except Stale:
                if not left:
                    raise
            else:
                return

    async def close(self) -> None:
        await self._branch.close()


def ambiguous(look: Look, to: str) -> str | None:
    """Why git cannot be asked for this release by name: the cluster knows several that git calls so."""
    twin = next((one for one in look.names.values() if one.startswith(f"{to}-")), None)
    if twin is None or not any(twin == f"{to}-{one.identity}" for one in look.revisions):
        return None
    return f"{twin} has the same image as {to}, so git does not tell them apart: revert in git by hand"

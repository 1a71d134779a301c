"""What a target sees of its workload: the revisions there are, by the names of the releases that they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict
from rollbackd.kubernetes.api import Api
from rollbackd.kubernetes.kinds import DEPLOYMENT
from rollbackd.kubernetes.objects import read
from rollbackd.kubernetes.revisions import Revision, called, plain_template
from rollbackd.kubernetes.subject import NotTakenUp, Subject, WorkloadOptions
from rollbackd.kubernetes.workloads import Workload
from rollbackd.targets.disk import Disk
from rollbackd.targets.kubernetes.memory import Memory

TAKEN_UP_WITHIN_S = 3.0
"""How long controllers may take to see a change before that is told; usually they take milliseconds."""


@dataclass(frozen=True)
class Look:
    """A workload and its revisions, newest first, with their names by identity. `current` is among them.

    `staged`: a paused Deployment has a template that is not rolled out, which somebody prepares.
    """

    workload: Workload
    revisions: Sequence[Revision]
    names: Mapping[str, str]
    current: Revision
    staged: bool

    @property
    def version(self) -> str:
        """The release in place."""
        return self.names[self.current.identity]

    def find(self, version: str) -> Revision | None:
        """The revision of that release."""
        return next((one for one in self.revisions if self.names[one.identity] == version), None)

    def gone(self, version: str) -> str:
        """That a release is kept no longer, as a sentence."""
        kept = ", ".join(self.names[one.identity] for one in self.revisions[:10])
        cure = "raise revisionHistoryLimit to keep more"
        return f"there is no revision of release {version[:80]!r} (there are {kept}): {cure}"


class View(Subject):
    """Reads one workload; changes nothing but the memory of names.

    `by` and `container` say what a release is called by.
    """

    def __init__(
        self, api: Api, options: WorkloadOptions, memory: Memory, disk: Disk, by: str, container: str | None
    ) -> None:
        super().__init__(api, options)
        self.memory, self.disk = memory, disk
        self._by, self._container = by, container

    async def look_once_taken_up(self, clock: Clock) -> Look | None:
        """The same a little later, where the controllers are about to take up a change."""
        until = clock.monotonic() + TAKEN_UP_WITHIN_S
        while True:
            try:
                return await self.look()
            except NotTakenUp:
                if clock.monotonic() > until:
                    raise
            await clock.sleep(0.1)

    async def look_to_revert(self, clock: Clock) -> Look:
        """The same, for who is about to change it. Raises Conflict where nothing is deployed any more."""
        look = await self.look_once_taken_up(clock)
        if look is None:
            raise Conflict(f"{await self.what()} is gone: somebody else deleted it")
        return look

    async def look(self, workload: Workload | None = None) -> Look | None:
        """What is in place and what could be; None where nothing is deployed.

        Raises NotTakenUp, and what requests raise.
        """
        found = workload or await self.workload()
        if found is None:
            return None
        revisions = await self.revisions(found)
        current = await self.current(found, revisions)
        names = await self.disk.run(
            lambda: self.memory.names(revisions, lambda one: called(one, self._by, self._container))
        )
        staged = found.spec.paused and self.kind is DEPLOYMENT and template_of(found) != current.template
        return Look(found, revisions, names, current, staged)


def template_of(workload: Workload) -> dict[str, object]:
    """The pod template of a Deployment, as it came."""
    return plain_template(read(workload.spec.template, dict[str, object], workload.metadata.name), DEPLOYMENT)

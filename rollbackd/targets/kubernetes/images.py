"""Which images a revision's pods run, told by the kubelets and not by tags.

The worst story of the field is a rollback that was called a success while the bad image kept running, because a tag had
been moved. So what pods were seen to run is remembered, and what they run after a revert is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rollbackd.errors import Permanent
from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.revisions import Revision, image_parts, main, running_digest
from rollbackd.targets.kubernetes.view import Look, View

SAMPLE = 20
"""How many pods are looked at to learn which images a revision runs."""


class Images:
    """What is known of the images of one workload's revisions."""

    def __init__(self, view: View, container: str | None) -> None:
        self._view, self._container = view, container

    async def digest(self, revision: Revision) -> str | None:
        """That of the image that is the release; None where nobody has seen it run and the template does not pin it."""
        return (await self._expected(revision)).get(main(revision.pod, self._container).name)

    async def learn(self, look: Look) -> None:
        """Remember what the ready pods of the revision in place run, unless that is known."""
        known = await self._expected(look.current)
        if all(container.name in known for container in look.current.pod.spec.containers):
            return
        seen = digests(pod for pod in await self._view.sample(look.workload, look.current, SAMPLE) if pod.ready)
        found = {name: one.pop() for name, one in seen.items() if len(one) == 1 and name not in known}
        if found:
            identity = look.current.identity
            await self._view.disk.run(lambda: self._view.memory.learn(identity, found))

    async def check(self, look: Look, pods: Iterable[Pod]) -> None:
        """Raises Permanent where these pods of the revision in place run other images than it ran before."""
        expected = await self._expected(look.current)
        for container, running in digests(pods).items():
            wanted = expected.get(container)
            strange = running - {wanted} if wanted is not None else set()
            if strange:
                raise Permanent(
                    f"{look.version} is in place, but its container {container} runs {min(strange)} and not {wanted} "
                    "as it did before: the image's tag was moved, so deploy the old image by its digest"
                )

    async def _expected(self, revision: Revision) -> Mapping[str, str]:
        pinned = {one.name: digest for one in revision.pod.spec.containers if (digest := image_parts(one.image)[1])}
        seen = await self._view.disk.run(lambda: self._view.memory.digests(revision.identity))
        # a pinned index and what a node pulled of it may have two digests, and what was seen is what nodes tell
        return {**pinned, **seen}


def digests(pods: Iterable[Pod]) -> dict[str, set[str]]:
    """What these pods' containers run, by the container's name."""
    found: dict[str, set[str]] = {}
    for pod in pods:
        for one in pod.status.container_statuses:
            if digest := running_digest(one.image_id):
                found.setdefault(one.name, set()).add(digest)
    return found

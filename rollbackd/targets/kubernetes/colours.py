"""A Service and the Deployments that it is switched between (blue/green): which one is live, and which stand by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rollbackd.errors import Permanent
from rollbackd.kubernetes.api import Api, NotThere
from rollbackd.kubernetes.services import EndpointSlice, Service
from rollbackd.kubernetes.subject import NotTakenUp, WorkloadOptions
from rollbackd.kubernetes.workloads import Workload
from rollbackd.model import Release
from rollbackd.targets.disk import Disk
from rollbackd.targets.kubernetes.images import Images
from rollbackd.targets.kubernetes.memory import Memory
from rollbackd.targets.kubernetes.view import Look, View, template_of


@dataclass(frozen=True)
class Colour:
    """One of the Deployments. `value` is what the switched label says of it, `version` the release that it runs."""

    value: str
    version: str
    look: Look
    view: View
    images: Images

    def runs(self, version: str) -> bool:
        """Whether this is the release of that name; the one that it has while it stands by is its own, too."""
        return version in (self.version, f"{self.look.version}-{self.value}")

    @property
    def name(self) -> str:
        """The Deployment's."""
        return self.look.workload.metadata.name

    async def release(self) -> Release:
        """It as a release."""
        current = self.look.current
        digest = await self.images.digest(current)
        return Release(version=self.version, digest=digest, commit=current.commit, created_at=current.created_at)


@dataclass(frozen=True)
class Switch:
    """The Service as it is. `label` is the one that is switched; None where nothing stands by."""

    service: Service
    label: str | None
    live: Colour
    others: Sequence[Colour]

    @property
    def colours(self) -> Sequence[Colour]:
        """All, the newest first."""
        found = [self.live, *self.others]
        return sorted(found, key=lambda one: one.look.current.created_at or 0.0, reverse=True)

    def find(self, version: str) -> Colour | None:
        """The one that runs this release."""
        exact = [one for one in self.colours if one.version == version]
        return next(iter([*exact, *(one for one in self.colours if one.runs(version))]), None)

    def gone(self, version: str) -> str:
        """That nothing runs this release, as a sentence."""
        there = ", ".join(f"{one.version} in {one.name}" for one in self.colours)
        cure = "keep the old one until the new one has proven itself"
        return f"no Deployment stands by that runs release {version[:80]!r} (there is {there}): {cure}"


class Colours:
    """Reads a Service and its Deployments; changes nothing but the memory of names and images."""

    def __init__(
        self,
        api: Api,
        options: WorkloadOptions,
        service: str,
        label: str | None,
        folder: Path,
        disk: Disk,
        by: str,
        container: str | None,
    ) -> None:
        """`label` is the one that is switched, found out where it is None; `by` and `container` are as with a View."""
        self.api, self.name = api, service
        self._options, self._label, self._folder, self._disk = options, label, folder, disk
        self._by, self._container = by, container
        self._views: dict[str, tuple[View, Images]] = {}

    async def namespace(self) -> str:
        """The configured one, else that of the credentials."""
        return self._options.namespace or await self.api.namespace()

    async def path(self) -> str:
        """The Service's address."""
        return f"/api/v1/namespaces/{await self.namespace()}/services/{self.name}"

    async def what(self) -> str:
        """It, in words."""
        return f"Service {await self.namespace()}/{self.name}"

    async def look(self) -> Switch | None:
        """What is live and what stands by; None where there is no such Service.

        Raises Permanent where that cannot be told, NotTakenUp, and what requests raise.
        """
        try:
            service = await self.api.get(await self.path(), Service, await self.what())
        except NotThere:
            return None
        path = f"/apis/apps/v1/namespaces/{await self.namespace()}/deployments"
        deployments, _ = await self.api.all(path, Workload, "Deployments", {})
        labelled = [(labels_of(one), one) for one in deployments]
        selector = service.spec.selector
        live = [one for labels, one in labelled if selector.items() <= labels.items()]
        if not selector or len(live) != 1:
            names = ", ".join(one.metadata.name for one in live) or "none"
            raise Permanent(f"{await self.what()}: it has to select the pods of one Deployment, and selects {names}")
        label = self._label or switched(selector, [labels for labels, _ in labelled], await self.what())
        standing_by = aside(selector, label, labelled) if label is not None else []
        self._forget({live[0].metadata.name, *(one.metadata.name for _, one in standing_by)})
        return await self._switch(service, label, live[0], standing_by)

    async def _switch(
        self, service: Service, label: str | None, live: Workload, standing_by: Sequence[tuple[str, Workload]]
    ) -> Switch:
        value = service.spec.selector.get(label, "") if label is not None else ""
        found = await self._colour(value, live, set())
        taken = {found.version}
        others = []
        for other, workload in sorted(standing_by, key=lambda one: one[0]):
            try:
                colour = await self._colour(other, workload, taken)
            except NotTakenUp:
                continue  # somebody prepares it at this moment
            taken.add(colour.version)
            others.append(colour)
        return Switch(service, label, found, others)

    async def _colour(self, value: str, workload: Workload, taken: set[str]) -> Colour:
        """Where two run one release, the one that stands by has the label's value added to its name."""
        view, images = self._view(workload.metadata.name)
        look = await view.look(workload)
        if look is None:
            raise NotTakenUp(f"{await view.what()} is gone")
        version = look.version if look.version not in taken else f"{look.version}-{value}"
        return Colour(value, version, look, view, images)

    def _view(self, name: str) -> tuple[View, Images]:
        if name not in self._views:
            options = self._options.model_copy(update={"deployment": name})
            memory = Memory(self._folder / name, f"Deployment {self._options.namespace or ''}/{name}")
            view = View(self.api, options, memory, self._disk, self._by, self._container)
            self._views[name] = (view, Images(view, self._container))
        return self._views[name]

    def _forget(self, needed: set[str]) -> None:
        for name in self._views.keys() - needed:
            del self._views[name]

    async def strays(self, colour: Colour) -> bool:
        """Whether the Service's traffic goes anywhere but to ready pods of this Deployment, or nowhere at all."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{await self.namespace()}/endpointslices"
        query = {"labelSelector": f"kubernetes.io/service-name={self.name}"}
        slices, _ = await self.api.all(path, EndpointSlice, "EndpointSlices", query)
        reached = {
            one.target_ref.uid if one.target_ref else "" for part in slices for one in part.endpoints or () if one.ready
        }
        pods = await colour.view.pods(colour.look.workload, colour.look.revisions)
        return not reached or not reached <= {pod.metadata.uid for pod in pods}


def labels_of(workload: Workload) -> Mapping[str, str]:
    """Those of its pods."""
    template = template_of(workload)
    metadata = template.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}


def switched(selector: Mapping[str, str], labelled: Sequence[Mapping[str, str]], what: str) -> str | None:
    """Which label of the selector is switched: the one by which alone Deployments differ that it would select.

    None where it selects the same one whichever label is left out. Raises Permanent where it could be several.
    """
    found = []
    for label in selector:
        rest = {name: value for name, value in selector.items() if name != label}
        values = {labels[label] for labels in labelled if rest.items() <= labels.items() and label in labels}
        if rest and len(values) > 1:
            found.append(label)
    if len(found) > 1:
        raise Permanent(f"{what}: it could be switched by {' or '.join(found)}; set `switch` to one of them")
    return found[0] if found else None


def aside(
    selector: Mapping[str, str], label: str, labelled: Sequence[tuple[Mapping[str, str], Workload]]
) -> list[tuple[str, Workload]]:
    """The Deployments that another value of the label would select, with that value; each alone."""
    rest = {name: value for name, value in selector.items() if name != label}
    by_value: dict[str, list[Workload]] = {}
    for labels, workload in labelled:
        if rest.items() <= labels.items() and label in labels and labels[label] != selector.get(label):
            by_value.setdefault(labels[label], []).append(workload)
    return [(value, found[0]) for value, found in by_value.items() if len(found) == 1]

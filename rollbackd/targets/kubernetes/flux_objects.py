"""Flux's objects as the API server tells of them: what applies a workload, where that comes from, and how far it is.

Source: https://fluxcd.io/flux/components/kustomize/kustomizations/, .../helm/helmreleases/, .../source/gitrepositories/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from rollbackd.kubernetes.api import Api, Stale
from rollbackd.kubernetes.objects import Condition, Meta, read
from rollbackd.targets.kubernetes.owners import Keeper
from rollbackd.targets.kubernetes.rights import Right

REQUESTED = "reconcile.fluxcd.io/requestedAt"
"""What `flux reconcile` sets: the controller takes the object up at once, whatever the value is."""
ATTEMPTS = 5
"""How often a change is worked out anew because the controller wrote its status meanwhile."""
LEVELS = 4
"""How many levels of objects that apply each other are looked at."""


@dataclass(frozen=True)
class FluxKind:
    """A kind of object; `command` is what `flux suspend` and `flux resume` call it."""

    group: str
    version: str
    plural: str
    command: str


KUSTOMIZATION = FluxKind("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "kustomization")
HELM_RELEASE = FluxKind("helm.toolkit.fluxcd.io", "v2", "helmreleases", "helmrelease")
GIT_REPOSITORY = FluxKind("source.toolkit.fluxcd.io", "v1", "gitrepositories", "source git")


@dataclass(frozen=True)
class Place:
    """One object of Flux."""

    kind: FluxKind
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Its address."""
        kind = self.kind
        return f"/apis/{kind.group}/{kind.version}/namespaces/{self.namespace}/{kind.plural}/{self.name}"

    @property
    def what(self) -> str:
        """It, in words."""
        return f"Flux {self.kind.command} {self.namespace}/{self.name}"

    @property
    def resume(self) -> str:
        """What a human types to make it go on."""
        return f"flux resume {self.kind.command} {self.name} -n {self.namespace}"

    def right(self, verb: str) -> Right:
        """The right to do that to it."""
        return Right(verb, self.kind.group, self.kind.plural, self.name)


def kept_by(kept: Keeper, namespace: str) -> Place:
    """Where the object is that applies a workload of this namespace."""
    kind = HELM_RELEASE if kept.tool == "flux_helm_release" else KUSTOMIZATION
    return Place(kind, kept.namespace or namespace, kept.name)


class ManagedField(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of metadata.managedFields."""

    operation: str = ""
    fields_v1: Mapping[str, object] = msgspec.field(default={}, name="fieldsV1")


class FluxMeta(Meta, frozen=True, rename="camel"):
    """Metadata, and who set which field."""

    managed_fields: Sequence[ManagedField] = ()


class SourceRef(msgspec.Struct, frozen=True):
    """Where something comes from."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class FluxSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What we look at of any spec."""

    suspend: bool = False
    source_ref: SourceRef | None = None


class Artifact(msgspec.Struct, frozen=True):
    """What a source fetched last; its revision reads `main@sha1:...`."""

    revision: str = ""


class FluxStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What we look at of any status."""

    conditions: Sequence[Condition] = ()
    observed_generation: int = 0
    last_attempted_revision: str = ""
    artifact: Artifact | None = None


class FluxObject(msgspec.Struct, frozen=True):
    """A Kustomization, HelmRelease or GitRepository."""

    metadata: FluxMeta
    spec: FluxSpec = FluxSpec()
    status: FluxStatus = FluxStatus()

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type."""
        return next((one for one in self.status.conditions if one.type == type_), None)

    @property
    def applying(self) -> bool:
        """Whether its controller is at work and may still write; waiting for health, it has written everything."""
        now = self.condition("Reconciling")
        if now is None or now.status != "True" or now.reason != "Progressing":
            return False
        return not now.message.startswith("Running health checks")

    @property
    def insisted(self) -> bool:
        """Whether a manifest of it says `suspend`, so that who applies that would take a suspension back."""
        applied = [one.fields_v1.get("f:spec") for one in self.metadata.managed_fields if one.operation == "Apply"]
        return any(isinstance(spec, dict) and "f:suspend" in spec for spec in applied)

    @property
    def parent(self) -> Place | None:
        """The Kustomization that applies this object."""
        labels = self.metadata.labels
        name = labels.get(f"{KUSTOMIZATION.group}/name")
        namespace = labels.get(f"{KUSTOMIZATION.group}/namespace") or self.metadata.namespace
        is_self = (name, namespace) == (self.metadata.name, self.metadata.namespace)
        return Place(KUSTOMIZATION, namespace, name) if name and not is_self else None

    @property
    def source(self) -> Place | None:
        """The GitRepository that it applies; None where that is something else."""
        ref = self.spec.source_ref
        if ref is None or ref.kind != "GitRepository":
            return None
        return Place(GIT_REPOSITORY, ref.namespace or self.metadata.namespace, ref.name)


def commit_of(revision: str) -> str:
    """The commit in `main@sha1:...`; empty where there is none, as in the revision of a chart."""
    return revision.rpartition("@sha1:")[2] if "@sha1:" in revision else ""


class Flux:
    """Reads and changes Flux's objects; methods raise what requests raise."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, place: Place) -> FluxObject:
        """The object as it is now."""
        return await self._api.get(place.path, FluxObject, place.what)

    async def change(
        self, place: Place, seen: FluxObject, notes: Mapping[str, str], *operations: Mapping[str, object]
    ) -> FluxObject:
        """Give it these annotations instead of those it had, and more. Raises Stale where it was changed since."""
        annotate = {"op": "add", "path": "/metadata/annotations", "value": notes}
        answer = await self._api.patch(place.path, seen.metadata, [annotate, *operations], place.what)
        return read(answer, FluxObject, place.what)

    async def ask(self, place: Place, token: str) -> None:
        """Have its controller take it up now."""
        for left in reversed(range(ATTEMPTS)):
            seen = await self.read(place)
            try:
                await self.change(place, seen, {**seen.metadata.annotations, REQUESTED: token})
            except Stale:
                if not left:
                    raise
            else:
                return

    async def upwards(self, place: Place) -> list[tuple[Place, FluxObject]]:
        """An object and the Kustomizations above it that apply it, itself first."""
        found: list[tuple[Place, FluxObject]] = []
        at: Place | None = place
        while at is not None and len(found) < LEVELS:
            seen = await self.read(at)
            found.append((at, seen))
            at = seen.parent
        return found

"""The fields of Argo CD's objects that we look at; everything else in an answer is passed over.

Source: https://argo-cd.readthedocs.io/en/stable/operator-manual/application.yaml and the CRDs in its manifests/crds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from rollbackd.kubernetes.objects import Meta

Source: TypeAlias = Mapping[str, object]
"""Where manifests come from, as it came."""

NOTE = "io.rollbackd/rollback"
"""On an application: which revert rolled it back, and the automated sync that it had before."""


class Automated(msgspec.Struct, frozen=True, rename="camel"):
    """spec.syncPolicy.automated."""

    enabled: bool | None = None
    prune: bool = False
    self_heal: bool = False


class SyncPolicy(msgspec.Struct, frozen=True, rename="camel"):
    """When to sync without being told. `automated` is kept as it came, to be compared and given back."""

    automated: Mapping[str, object] | None = None
    sync_options: Sequence[str] = ()

    @property
    def is_automated(self) -> bool:
        """Whether Argo CD syncs by itself."""
        return self.automated is not None and self.automated.get("enabled") is not False


class Ignored(msgspec.Struct, frozen=True, rename="camel"):
    """Differences that are passed over, of an Application's resources or of an ApplicationSet's applications."""

    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    json_pointers: Sequence[str] = ()
    jq_path_expressions: Sequence[str] = ()


class Destination(msgspec.Struct, frozen=True):
    """Where the resources go that name no namespace."""

    namespace: str = ""


class Spec(msgspec.Struct, frozen=True, rename="camel"):
    """What an Application is to be."""

    project: str = "default"
    source: Source | None = None
    sources: Sequence[Source] = ()
    source_hydrator: Mapping[str, object] | None = None
    destination: Destination = Destination()
    sync_policy: SyncPolicy | None = None
    ignore_differences: Sequence[Ignored] = ()


class Synced(msgspec.Struct, frozen=True):
    """One entry of status.history, or what a sync was told: of one source, or of several."""

    id: int = 0
    revision: str = ""
    revisions: Sequence[str] = ()
    source: Source | None = None
    sources: Sequence[Source] = ()

    @property
    def which(self) -> tuple[str, ...]:
        """The revision of each source."""
        return tuple(self.revisions) if self.sources else (self.revision,)

    @property
    def origins(self) -> Sequence[Source]:
        """Its sources."""
        return self.sources or ([self.source] if self.source else [])

    def same(self, other: Synced) -> bool:
        """Whether both put the same in place."""
        return (self.which, list(self.origins)) == (other.which, list(other.origins))


class Operation(msgspec.Struct, frozen=True):
    """What Argo CD is told to do."""

    sync: Synced | None = None


class OperationState(msgspec.Struct, frozen=True, rename="camel"):
    """How far the newest operation is. `started_at` is kept as it came, to be compared."""

    phase: str = ""
    message: str = ""
    started_at: str = ""
    operation: Operation = Operation()


class Resource(msgspec.Struct, frozen=True):
    """One that belongs to an application."""

    kind: str = ""
    name: str = ""
    group: str = ""
    namespace: str = ""


class ApplicationStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What an Application is."""

    history: Sequence[Synced] = ()
    operation_state: OperationState | None = None
    resources: Sequence[Resource] = ()


class Application(msgspec.Struct, frozen=True):
    """An application."""

    metadata: Meta
    spec: Spec = Spec()
    status: ApplicationStatus = ApplicationStatus()
    operation: Operation | None = None

    @property
    def is_automated(self) -> bool:
        """Whether Argo CD syncs it by itself."""
        return self.spec.sync_policy is not None and self.spec.sync_policy.is_automated

    @property
    def automated(self) -> Mapping[str, object] | None:
        """Its automated sync, as it came."""
        return self.spec.sync_policy.automated if self.spec.sync_policy is not None else None

    @property
    def sources(self) -> Sequence[Source]:
        """Where its manifests come from."""
        return self.spec.sources or ([self.spec.source] if self.spec.source is not None else [])

    @property
    def newest(self) -> int | None:
        """The id of its newest sync; None before the first."""
        return self.status.history[-1].id if self.status.history else None

    @property
    def under_way(self) -> Operation | None:
        """The operation that is asked for or running."""
        state = self.status.operation_state
        if self.operation is None and state is not None and state.phase in ("Running", "Terminating"):
            return state.operation
        return self.operation

    def lists(self, group: str, kind: str, namespace: str, name: str) -> bool:
        """Whether this is one of its resources."""
        wanted = Resource(kind, name, group, namespace)
        return any(one == wanted for one in self.status.resources)

    @property
    def note(self) -> Note | None:
        """What a revert of ours left on it; what somebody else wrote there counts for nothing."""
        try:
            return msgspec.json.decode(self.metadata.annotations.get(NOTE, ""), type=Note)
        except (msgspec.MsgspecError, RecursionError):
            return None


class Applications(msgspec.Struct, frozen=True):
    """A list of them."""

    items: Sequence[Application] | None = None


class Note(msgspec.Struct, frozen=True):
    """The annotation NOTE. `id` is that of the history's entry to which the application went back."""

    key: str
    id: int
    why: str = ""
    automated: Mapping[str, object] | None = None


class Manifests(msgspec.Struct, frozen=True):
    """What an application renders to, each a JSON text."""

    manifests: Sequence[str] | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """A rendered or a live object."""

    api_version: str = ""
    kind: str = ""
    metadata: Meta = Meta()
    spec: msgspec.Raw = msgspec.Raw(b"{}")


class Rendered(msgspec.Struct, frozen=True):
    """The spec of a rendered workload."""

    template: Mapping[str, object] = {}


class Live(msgspec.Struct, frozen=True):
    """A live object of an application, a JSON text."""

    manifest: str = ""


class Windows(msgspec.Struct, frozen=True, rename="camel"):
    """Whether the project's sync windows allow a sync by hand now."""

    can_sync: bool = True


class Answer(msgspec.Struct, frozen=True):
    """`yes` or `no`."""

    value: str = ""


# -- what makes applications


class SetSyncPolicy(msgspec.Struct, frozen=True, rename="camel"):
    """What an ApplicationSet does to its applications."""

    applications_sync: str = ""


class SetSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What an ApplicationSet is to be."""

    sync_policy: SetSyncPolicy | None = None
    ignore_application_differences: Sequence[Ignored] = ()


class ApplicationSet(msgspec.Struct, frozen=True):
    """One that makes applications."""

    spec: SetSpec = SetSpec()

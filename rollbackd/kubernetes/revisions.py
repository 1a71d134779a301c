"""Revisions of a workload: what Kubernetes itself keeps of earlier pod templates.

A Deployment's and a Rollout's are its ReplicaSets, those of the other kinds are ControllerRevisions. `identity` is the
hash that the controllers gave the template: it stays the same for as long as the revision is kept, while its number
grows each time the revision is put in place again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from rollbackd.errors import Permanent
from rollbackd.kubernetes.additions import ADDED_FOR_A_TIME, without_additions
from rollbackd.kubernetes.kinds import DAEMON_SET, ROLLOUT, Kind
from rollbackd.kubernetes.objects import Meta, read
from rollbackd.kubernetes.pods import Container, Template
from rollbackd.kubernetes.workloads import ControllerRevision, ReplicaSet, RevisionData

_COMMIT_NOTES = (
    "org.opencontainers.image.revision",
    "app.openshift.io/vcs-ref",
    "git-commit",
    "commit-sha",
)
_VERSION_LABELS = ("app.kubernetes.io/version", "version")
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_TELLS_NOTHING = frozenset({"", "latest", "stable", "main", "master", "edge", "nightly"})
"""Tags that are moved from image to image."""


@dataclass(frozen=True)
class Revision:
    """One pod template. `pod_mark` is what its pods' label says; `own` the name of the object that keeps it."""

    own: str
    uid: str
    identity: str
    pod_mark: str
    number: int
    created_at: float | None
    annotations: Mapping[str, str]
    template: Mapping[str, object]

    @property
    def pod(self) -> Template:
        """The template as far as we look at it. Raises Permanent where it is none."""
        try:
            return msgspec.convert(self.template, Template)
        except msgspec.ValidationError as error:
            raise Permanent(f"revision {self.own} holds no pod template that can be read: {error}") from None

    @property
    def commit(self) -> str | None:
        """The git commit that somebody noted on it."""
        notes = (self.pod.metadata.annotations, self.pod.metadata.labels, self.annotations)
        return next((note[name] for name in _COMMIT_NOTES for note in notes if note.get(name)), None)

    @property
    def change_cause(self) -> str | None:
        """What `kubernetes.io/change-cause` says."""
        return self.annotations.get("kubernetes.io/change-cause")


def of_replica_set(found: ReplicaSet, kind: Kind) -> Revision | None:
    """A Deployment's or Rollout's revision; None where the controller has not numbered it yet."""
    meta = found.metadata
    number = meta.annotations.get(kind.number_note, "")
    mark = meta.labels.get(kind.pod_label)
    if not (number.isascii() and number.isdigit()) or mark is None:
        return None
    template = plain_template(read(found.spec.template, dict[str, object], f"ReplicaSet {meta.name}"), kind)
    if kind is ROLLOUT:
        template = without_additions(template, meta.annotations.get(ADDED_FOR_A_TIME, ""))
    return Revision(meta.name, meta.uid, mark, mark, int(number), meta.created_at, meta.annotations, template)


def of_controller_revision(found: ControllerRevision, kind: Kind) -> Revision:
    """A StatefulSet's or DaemonSet's revision."""
    meta = found.metadata
    data = read(found.data, RevisionData, f"ControllerRevision {meta.name}")
    template = {name: value for name, value in data.spec.template.items() if name != "$patch"}
    identity = meta.name.rpartition("-")[2]
    mark = meta.labels.get(kind.pod_label, identity) if kind is DAEMON_SET else meta.name
    return Revision(meta.name, meta.uid, identity, mark, found.revision, meta.created_at, meta.annotations, template)


def plain_template(template: dict[str, object], kind: Kind) -> dict[str, object]:
    """A pod template without the label that the controller adds to it."""
    metadata = template.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(labels, dict):
        return template
    kept = {name: value for name, value in labels.items() if name != kind.pod_label}
    return {**template, "metadata": {**metadata, "labels": kept}}


def belongs(meta: Meta, owner_uid: str) -> bool:
    """Whether the object is looked after by the one with this uid."""
    return meta.controller is not None and meta.controller.uid == owner_uid


# -- what a release is called


def called(revision: Revision, by: str, container: str | None) -> str:
    """What a release of this template is called, before equal names are told apart.

    `by` is `image_tag` or `label`: what is looked at first. A tag that moves from image to image comes last.
    """
    pod = revision.pod
    tag, digest = image_parts(main(pod, container).image)
    label = next((pod.metadata.labels[name] for name in _VERSION_LABELS if pod.metadata.labels.get(name)), "")
    telling = "" if tag in _TELLS_NOTHING else tag
    first, second = (telling, label) if by == "image_tag" else (label, telling)
    return first or second or (digest or "").removeprefix("sha256:")[:12] or tag or "latest"


def main(pod: Template, container: str | None) -> Container:
    """The container whose image is the release. Raises Permanent where there is none of that name."""
    wanted = container or pod.metadata.annotations.get(_DEFAULT_CONTAINER)
    containers = pod.spec.containers
    found = next((one for one in containers if one.name == wanted), None) if wanted else None
    if found is None and container is not None:
        raise Permanent(f"there is no container `{container}`; set `container` to one of {_names(containers)}")
    if found is None and not containers:
        raise Permanent("the pod template has no containers")
    return found or containers[0]


def _names(containers: object) -> str:
    return ", ".join(one.name for one in containers) if isinstance(containers, list | tuple) else ""


def image_parts(image: str) -> tuple[str, str | None]:
    """Tag and digest of an image reference, as in `registry:5000/shop/checkout:2.4.1@sha256:...`."""
    name, _, digest = image.partition("@")
    _, _, tag = name.rpartition("/")[2].partition(":")
    return tag, digest or None


def running_digest(image_id: str) -> str | None:
    """The digest in a container status' imageID, as in `docker.io/shop/checkout@sha256:...`.

    None where it is an id of another kind, as for an image that was put on a node by hand.
    """
    _, at, digest = image_id.rpartition("@")
    return digest if at and digest.startswith("sha256:") else None

"""Which entry of an application's history put a release in place: the one that renders the very images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from rollbackd.errors import Permanent, Temporary
from rollbackd.kubernetes.kinds import Kind
from rollbackd.kubernetes.pods import Template
from rollbackd.kubernetes.revisions import Revision
from rollbackd.targets.kubernetes.argocd_api import ArgoApi, Query
from rollbackd.targets.kubernetes.argocd_objects import Application, Manifest, Manifests, Rendered, Source, Synced
from rollbackd.targets.kubernetes.view import Look

LOOK_BACK = 30
"""How many entries are looked at; Argo CD keeps ten, unless somebody raised `revisionHistoryLimit`."""
_KEPT = 64
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a workload is among an application's resources."""

    kind: Kind
    namespace: str
    name: str

    def is_of(self, manifest: Manifest, namespace: str) -> bool:
        """Whether this is it; `namespace` is where goes what names none."""
        return (manifest.api_version, manifest.kind, manifest.metadata.name) == (
            self.kind.api,
            self.kind.name,
            self.name,
        ) and (manifest.metadata.namespace or namespace) == self.namespace


class History:
    """Renders entries, each once."""

    def __init__(self, api: ArgoApi, path: str, query: Query) -> None:
        """`path` and `query` are those of the application."""
        self._api, self._path, self._query = api, path, query
        self._rendered: dict[tuple[str, int, tuple[str, ...]], Mapping[str, object] | None] = {}

    async def entry(self, app: Application, look: Look, place: Place, to: str) -> Synced:
        """The newest entry that renders the workload as release `to` has it.

        Raises Permanent where there is none for certain, and Temporary where one of them cannot be rendered just now.
        """
        wanted = look.find(to)
        if wanted is None:
            raise Permanent(look.gone(to))
        images = images_of(wanted.template)
        alike = [one for one in look.revisions if one is not wanted and images_of(one.template) == images]
        kept_from: list[Temporary | Permanent] = []
        for entry in reversed(app.status.history[-LOOK_BACK:]):
            if not _like(entry.origins, app.sources) or app.spec.source_hydrator is not None:
                kept_from.append(Permanent(f"entry {entry.id} has other sources or parameters than it has now"))
                continue
            try:
                template = await self._template(app, entry, place)
            except (Temporary, Permanent) as error:
                kept_from.append(error)
                continue
            if template is not None and images_of(template) == images and _tells(template, wanted, alike):
                return entry
        raise self._none(app, to, kept_from)

    @staticmethod
    def _none(app: Application, to: str, kept_from: Sequence[Temporary | Permanent]) -> Temporary | Permanent:
        what = f"no entry in the history of Argo CD application {app.metadata.name} is known to render release {to}"
        temporary = next((error for error in kept_from if isinstance(error, Temporary)), None)
        if temporary is not None:
            return Temporary(f"{what}: {temporary}", retry_after=temporary.retry_after)
        why = f": {kept_from[0]}" if kept_from else ""
        return Permanent(f"{what}{why}; revert in its repository, or set `owners.git`")

    async def _template(self, app: Application, entry: Synced, place: Place) -> Mapping[str, object] | None:
        """The workload's pod template in this entry; None where it has no such workload."""
        key = (app.metadata.uid, entry.id, entry.which)
        if key not in self._rendered:
            if len(self._rendered) >= _KEPT:
                del self._rendered[next(iter(self._rendered))]
            self._rendered[key] = await self._render(app, entry, place)
        return self._rendered[key]

    async def _render(self, app: Application, entry: Synced, place: Place) -> Mapping[str, object] | None:
        if entry.sources:
            asked = [
                pair
                for number, revision in enumerate(entry.revisions, start=1)
                for pair in (("sourcePositions", str(number)), ("revisions", revision))
            ]
        else:
            asked = [("revision", entry.revision)]
        what = f"the manifests of application {app.metadata.name}"
        answer = await self._api.get(f"{self._path}/manifests", Manifests, what, [*self._query, *asked])
        for text in answer.manifests or ():
            if place.name in text and place.kind.name in text:
                manifest = _decoded(text, Manifest, what)
                if place.is_of(manifest, app.spec.destination.namespace):
                    return _decoded(manifest.spec, Rendered, what).template
        return None


def _decoded(text: str | msgspec.Raw, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        raise Permanent(f"{what} hold one that cannot be read") from None


def _like(origins: Sequence[Source], now: Sequence[Source]) -> bool:
    """Whether they are the same but for the revision, so that Argo CD, which renders today's, renders those."""
    return [_but_revision(one) for one in origins] == [_but_revision(one) for one in now]


def _but_revision(source: Source) -> dict[str, object]:
    return {name: value for name, value in source.items() if name != "targetRevision"}


def images_of(template: Mapping[str, object]) -> dict[str, str] | None:
    """The image of each container, by its name; None where it is no pod template."""
    try:
        spec = msgspec.convert(template, Template).spec
    except msgspec.ValidationError:
        return None
    return {one.name: one.image for one in (*spec.init_containers, *spec.containers)}


def _tells(template: Mapping[str, object], wanted: Revision, alike: Sequence[Revision]) -> bool:
    """Whether it can be no other revision that this renders, where others run the same images.

    One that has more than the wanted one has it from somewhere: it is not what was rendered.
    """
    return not alike or (
        fits(template, wanted.template) and all(not fits(template, one.template) or _less(wanted, one) for one in alike)
    )


def _less(one: Revision, other: Revision) -> bool:
    return fits(one.template, other.template) and not fits(other.template, one.template)


def fits(written: object, found: object) -> bool:
    """Whether Kubernetes can have made `found` of what was `written`, by nothing but adding defaults."""
    if isinstance(written, Mapping):
        return isinstance(found, Mapping) and all(
            value is None or fits(value, found.get(name)) for name, value in written.items()
        )
    if isinstance(written, list):
        return (
            isinstance(found, list)
            and len(written) == len(found)
            and all(fits(one, other) for one, other in zip(written, found, strict=True))
        )
    return written == found

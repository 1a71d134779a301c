"""The releases of a service as one branch of a repository tells them, read from the copy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rollbackd.errors import Permanent
from rollbackd.fields import Model
from rollbackd.targets.disk import Disk
from rollbackd.targets.git_history import Stay, Touch, stays, touches
from rollbackd.targets.git_mirror import DEEPEST, Mirror
from rollbackd.targets.manifest import Expression, Part, value
from rollbackd.targets.versions import fit

KEPT = 50
"""How many commits that touched the service are looked at; releases before them are not known."""

_ENOUGH = 5
"""With so many releases in sight, nobody looks further back."""


class ImageField(Model):
    """A value in a manifest that names the release, such as the image's tag."""

    file: str
    """The manifest in the repository, a YAML file in `path`."""
    key: Expression
    """Where in it: names joined by dots, with `[0]` or `[name=app]` where there is a list."""
    part: Part = "whole"
    """What of an image reference is the version: all of it, its tag or its digest."""


@dataclass(frozen=True)
class Book:
    """What the branch says at `head`: the releases, newest first.

    `fault` is why the release that is in place now cannot be told, as a sentence; None where it can.
    """

    head: str
    listed: tuple[Stay, ...]
    fault: str | None = None

    @property
    def current(self) -> Stay | None:
        """The release in place; None where nothing is deployed. Raises Permanent where it cannot be told."""
        if self.fault is not None:
            raise Permanent(self.fault)
        return self.listed[0] if self.listed and self.listed[0].version is not None else None

    @property
    def version(self) -> str | None:
        """Its name."""
        return self.current.version if self.current is not None else None


class Reader:
    """Reads what was deployed when. Remembers what it read of at most KEPT commits."""

    def __init__(
        self, mirror: Mirror, disk: Disk, path: str, digits: int, image: ImageField | None, depth: int
    ) -> None:
        self._mirror = mirror
        self._disk = disk
        self._path = path
        self._digits = digits
        self._image = image
        self._depth = depth
        self._named: dict[str, str | None] = {}
        self._faults: dict[str, str] = {}

    async def book(self, head: str) -> Book:
        """The releases up to this head. Looks further back while it sees too few of them to go back to."""
        by = self._depth
        while True:
            found = await self._touches(head)
            names = await self._names(found)
            listed = tuple(stays(head, found, names))
            far = await self._mirror.length(head) >= DEEPEST if len(listed) < _ENOUGH else True
            by *= 4
            if far or not await self._mirror.deepen(by):
                break
        fault = self._faults.get(found[0].commit) if found else None
        if not found and await self._mirror.boundary():
            fault = f"the newest {DEEPEST} commits did not touch {self._path}: is it the right `path`?"
        return Book(head, listed, fault)

    async def _touches(self, head: str) -> list[Touch]:
        if self._image is not None:
            return list(touches(await self._mirror.log(head, self._image.file, KEPT, raw=True)))
        found = touches(await self._mirror.log(head, self._path, KEPT, raw=False))
        # where the copy ends, a commit seems to have made all there is
        boundary = await self._mirror.boundary()
        return [touch for touch in found if touch.commit not in boundary]

    async def _names(self, found: list[Touch]) -> dict[str, str | None]:
        known = {touch.commit for touch in found}
        self._named = {commit: name for commit, name in self._named.items() if commit in known}
        self._faults = {commit: fault for commit, fault in self._faults.items() if commit in known}
        new = [touch for touch in found if touch.commit not in self._named]
        if self._image is not None:
            await self._read_values(new, self._image)
        else:
            await self._read_names(new)
        return self._named

    # -- a release is called by its commit

    async def _read_names(self, new: list[Touch]) -> None:
        restores = {touch.commit: touch.restores for touch in new}
        merged = {touch.commit: touch.parents[1:] for touch in new if len(touch.parents) > 1 and not touch.restores}
        if merged:
            branches = [parent for parents in merged.values() for parent in parents]
            tips = {tip.commit: tip.restores for tip in touches(await self._mirror.shown(branches))}
            for commit, parents in merged.items():
                restores[commit] = next((tips[parent] for parent in parents if tips.get(parent)), "")
        for touch in new:
            self._named[touch.commit] = await self._name(touch.commit, restores[touch.commit])

    async def _name(self, commit: str, restores: str) -> str | None:
        here = await self._mirror.at(commit, self._path)
        if here is None:
            return None
        # a message can say anything; the files cannot
        same = bool(restores) and await self._mirror.at(restores, self._path) == here
        return (restores if same else commit)[: self._digits]

    # -- a release is called by a value in its manifest

    async def _read_values(self, new: list[Touch], image: ImageField) -> None:
        await self._mirror.bring([touch.blob for touch in new if touch.blob])
        for touch in new:
            if touch.blob is None:
                self._named[touch.commit] = None
                continue
            manifest = await self._mirror.blob(touch.blob)
            try:
                self._named[touch.commit] = await self._disk.run(partial(_version, manifest, image))
            except Permanent as error:
                self._named[touch.commit] = None
                self._faults[touch.commit] = f"{image.file} at commit {touch.commit[:12]} {error}"


def _version(manifest: bytes, image: ImageField) -> str:
    version = value(manifest, image.key, image.part)
    if not fit(version):
        raise Permanent(f"has no version at `{image.key}`: it is too long, or not plain text")
    return version

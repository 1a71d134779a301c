"""The releases that a target has seen in place, with all that is needed to put one back, in its state folder.

The engine keeps none of it: a container's configuration goes with the container, and a Swarm service keeps one
earlier specification. The file holds what the releases were given, passwords in their environment included, and so it
can be read by the daemon's user alone.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rollbackd.docker.commands import Json
from rollbackd.errors import Permanent
from rollbackd.model import Name, Release
from rollbackd.targets.disk import alone, own_errors, write_whole

MOST_NAMES = 1000
"""So many names of releases are remembered, those whose configuration is forgotten included."""

LARGEST_BYTES = 16 * 1024 * 1024
"""A file beyond that is not ours: the oldest releases are forgotten before it grows so large."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A release as it was found in place.

    `image` is the image's id, `digest` the one in its repository where it has one. `fingerprint` tells configurations
    apart. `called` is what its tag says. `how` is all that is needed to put it back.
    """

    image: str
    digest: str | None
    reference: str
    called: Name
    commit: str | None
    fingerprint: str
    created_at: float | None
    how: Json

    @property
    def identity(self) -> str:
        """The same image, configured the same way, is the same release."""
        return identity(self.image, self.fingerprint)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A release under the name it goes by everywhere."""

    version: Name
    seen: Seen

    @property
    def release(self) -> Release:
        seen = self.seen
        return Release(
            version=self.version, digest=seen.digest or seen.image, commit=seen.commit, created_at=seen.created_at
        )


class _File(msgspec.Struct, kw_only=True):
    """`kept` are newest first. `names` are by identity, in the order in which they were given."""

    kept: list[Kept] = []
    names: dict[str, str] = {}


class KeptReleases:
    """Methods do file I/O, and raise Temporary or Permanent. `keep` releases are kept, of older ones the name alone."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._path = folder / "releases.json"
        self._keep = keep

    def all(self) -> list[Kept]:
        """The releases, the one that was put in place last first."""
        return self._read().kept

    def get(self, version: str) -> Kept | None:
        return next((kept for kept in self._read().kept if kept.version == version), None)

    def find(self, image: str, fingerprint: str) -> Kept | None:
        """The release of that identity."""
        return next((kept for kept in self._read().kept if kept.seen.identity == identity(image, fingerprint)), None)

    def note(self, seen: Seen) -> Kept:
        """Remember what is in place now; its name.

        A release is called by its tag. Where another image had that tag before, the image's digest is added; where the
        same image was configured in another way, the configuration's.
        """
        file = self._read()
        if file.kept and file.kept[0].seen == seen:
            return file.kept[0]
        with alone(self._path):
            return self._note(seen)

    def _note(self, seen: Seen) -> Kept:
        file = self._read()
        version = file.names.get(seen.identity) or _name(seen, file.names)
        kept = Kept(version=version, seen=seen)
        file.names[seen.identity] = version
        file.kept = [kept, *(one for one in file.kept if one.version != version)][: self._keep]
        held = {one.seen.identity for one in file.kept}
        while len(file.names) > MOST_NAMES:
            del file.names[next(name for name in file.names if name not in held)]
        self._write(file)
        return kept

    def problem(self) -> str | None:
        """Why nothing could be looked up, as a sentence; None where it could."""
        try:
            self._read()
        except Permanent as error:
            return str(error)
        return None

    def _read(self) -> _File:
        with own_errors():
            try:
                with self._path.open("rb") as opened:
                    raw = opened.read(LARGEST_BYTES + 1)
            except FileNotFoundError:
                return _File()
        try:
            return msgspec.json.decode(raw, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Permanent(f"{self._path} is not a file of ours: move it away, and releases are learnt anew") from None

    def _write(self, file: _File) -> None:
        while len(content := msgspec.json.encode(file)) > LARGEST_BYTES:
            if not file.kept:
                raise Permanent(f"{self._path} would be larger than {LARGEST_BYTES} bytes")
            file.kept.pop()
        write_whole(self._path, content)


def _name(seen: Seen, names: dict[str, str]) -> str:
    image, configuration = short(seen.digest or seen.image), seen.fingerprint[:8]
    taken = {version: identity.partition(" ")[0] for identity, version in names.items()}
    if seen.called not in taken:
        return seen.called
    if taken[seen.called] != seen.image:
        other = f"{seen.called}@{image}"
        return other if other not in taken else f"{other}+{configuration}"
    return f"{seen.called}+{configuration}"


def short(digest: str) -> str:
    """The first twelve digits of a digest, as Docker shows ids."""
    return digest.rpartition(":")[2][:12]


def identity(image: str, fingerprint: str) -> str:
    """What tells releases apart."""
    return f"{image} {fingerprint}"

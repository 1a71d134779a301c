"""What is remembered of each revision: what it is called, and which images its pods were seen to run.

Kubernetes keeps neither. Names must not change while revisions come and go, and a tag says which image is meant, not
which one runs. Lost, both are found anew: names by age, images from the pods that run then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from rollbackd.errors import Permanent
from rollbackd.kubernetes.revisions import Revision
from rollbackd.targets.disk import alone, own_errors, write_whole

KEEP = 200
"""How many revisions are remembered; Kubernetes itself keeps ten of each workload unless told otherwise."""
_MAX_BYTES = 4 * 1024 * 1024


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A revision. `digests` are those of each container's image, by the container's name."""

    version: str
    digests: Mapping[str, str] = {}


class _Kept(msgspec.Struct, kw_only=True):
    """The file. Revisions stand in the order in which they were seen first."""

    workload: str
    revisions: dict[str, Known]


class Memory:
    """The file in a target's state folder. Methods do file I/O and raise Permanent or Temporary."""

    def __init__(self, folder: Path, workload: str) -> None:
        self._folder, self._path, self._workload = folder, folder / "revisions.json", workload
        self._kept: _Kept | None = None

    def names(self, revisions: Sequence[Revision], call: Callable[[Revision], str]) -> Mapping[str, str]:
        """What each of these is called, by identity: the same as ever, and no two alike.

        A name that is taken already gets the identity added, so the older of two has the plain one.
        """
        kept = self._read()
        if any(revision.identity not in kept.revisions for revision in revisions):
            with alone(self._path):
                kept = self._named(revisions, call)
        return {revision.identity: kept.revisions[revision.identity].version for revision in revisions}

    def _named(self, revisions: Sequence[Revision], call: Callable[[Revision], str]) -> _Kept:
        kept = self._load()
        taken = {known.version for known in kept.revisions.values()}
        for revision in sorted(revisions, key=lambda one: (one.created_at or 0.0, one.number)):
            if revision.identity not in kept.revisions:
                plain = call(revision)
                version = plain if plain not in taken else f"{plain}-{revision.identity}"
                taken.add(version)
                kept.revisions[revision.identity] = Known(version=version)
        self._write(kept, {revision.identity for revision in revisions})
        return kept

    def digests(self, identity: str) -> Mapping[str, str]:
        """The images that its pods were seen to run; empty where none were."""
        known = self._read().revisions.get(identity)
        return known.digests if known is not None else {}

    def learn(self, identity: str, digests: Mapping[str, str]) -> None:
        """Its pods run these. What is known already stays: a tag may have been moved since."""
        with alone(self._path):
            kept = self._load()
            known = kept.revisions.get(identity) or self._read().revisions[identity]
            kept.revisions[identity] = msgspec.structs.replace(known, digests={**digests, **known.digests})
            self._write(kept, {identity})

    def _read(self) -> _Kept:
        if self._kept is None:
            self._kept = self._load()
        return self._kept

    def _load(self) -> _Kept:
        with own_errors():
            try:
                with self._path.open("rb") as file:
                    whole = file.read(_MAX_BYTES)
            except FileNotFoundError:
                return _Kept(workload=self._workload, revisions={})
        try:
            kept = msgspec.json.decode(whole, type=_Kept)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Permanent(f"{self._path}: not a file of ours; move it away, and names are given anew") from None
        return kept if kept.workload == self._workload else _Kept(workload=self._workload, revisions={})

    def _write(self, kept: _Kept, needed: set[str]) -> None:
        surplus = len(kept.revisions) - KEEP
        for identity in [one for one in kept.revisions if one not in needed][: max(surplus, 0)]:
            del kept.revisions[identity]
        self._kept = None  # what is not on disk is not known
        write_whole(self._path, msgspec.json.encode(kept))
        self._kept = kept

"""What one revision of a Helm release holds, read from its manifest, as far as revisions are told apart by it.

Manifests hold Secrets, so nothing of their content gets into a message: objects are compared by a hash of their text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from rollbackd.errors import Permanent

MAX_NODES = 50_000
"""How many values one object may have; the largest that people write, definitions of resources, have some thousand."""
MAX_DEPTH = 60
LASTING = frozenset({"PersistentVolumeClaim", "PersistentVolume", "Namespace", "CustomResourceDefinition"})
"""Kinds that hold what nobody can bring back once they are deleted."""

_BETWEEN = re.compile(r"^---(?:[ \t].*)?$", re.MULTILINE)
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Leaves every scalar the text that it is: what it means, the API server decides by the field it stands in."""


@dataclass(frozen=True)
class Subject:
    """The workload that is looked for, and the namespace of what names none itself."""

    kind: str
    name: str
    namespace: str
    release_namespace: str


@dataclass(frozen=True)
class Held:
    """One revision: its objects' hashes by what they are called, and those that would be lost for good when deleted.

    `template` is the workload's pod template; None where the workload is not in it.
    """

    digest: str
    objects: Mapping[str, str]
    lasting: frozenset[str]
    template: Mapping[str, object] | None


def held(manifest: str, revision: int, subject: Subject) -> Held:
    """Read a manifest. Takes up to seconds for megabytes. Raises Permanent where it is none."""
    objects: dict[str, str] = {}
    lasting, template = set[str](), None
    for text in _BETWEEN.split(manifest):
        for one in _objects(text, revision):
            meta = mapping(one.get("metadata"))
            kind, name = str(one.get("kind", "")), str(meta.get("name", ""))
            called = f"{kind} {name}"
            objects[called if called not in objects else f"{called} in {meta.get('namespace')}"] = _hash(text)
            if kind in LASTING and mapping(meta.get("annotations")).get("helm.sh/resource-policy") != "keep":
                lasting.add(called)
            where = meta.get("namespace") or subject.release_namespace
            if (kind, name, where) == (subject.kind, subject.name, subject.namespace):
                template = mapping(mapping(one.get("spec")).get("template"))
    return Held(_hash(manifest), objects, frozenset(lasting), template)


def _hash(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()


def _objects(text: str, revision: int) -> Iterator[Mapping[str, object]]:
    """The object in a piece of a manifest, or those in the list that it is."""
    try:
        found = _plain(yaml.load(text, _LOADER), [MAX_NODES])  # noqa: S506  a loader that makes texts of everything
    except (yaml.YAMLError, ValueError, RecursionError):
        raise Permanent(f"revision {revision} of the Helm release holds an object that cannot be read") from None
    one = mapping(found)
    if str(one.get("kind", "")).endswith("List") and isinstance(one.get("items"), list):
        yield from (mapping(item) for item in sequence(one["items"]))
    elif one:
        yield one


def _plain(value: object, left: list[int], depth: int = 0) -> object:
    """A copy in which nothing is shared: what a few aliases blow up is refused. Raises ValueError."""
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise ValueError("too large")
    if isinstance(value, dict):
        return {str(name): _plain(one, left, depth + 1) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, left, depth + 1) for one in value]
    return value


def mapping(value: object) -> Mapping[str, object]:
    """It, or an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """It, or an empty one in the place of anything else."""
    return value if isinstance(value, list) else []

"""A small Kubernetes to test against where none can be built: objects with resourceVersions, and controllers.

It honours what the target relies on: one growing resourceVersion, generations that grow with the spec, JSON Patch under
a resourceVersion precondition, and the history of changes that watches are served from. tests/built tells of the real
thing.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]
"""Plural and name; there is one namespace."""

NAMESPACE = "shop"


class Refused(Exception):
    """What the server answers instead of an object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class Store:
    """All objects, and every change to them in order."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.changes: list[tuple[int, str, str, Object]] = []
        self.oldest = 0
        self.listeners: list[Callable[[], None]] = []
        self._version = 0
        self._uids = itertools.count(1)

    @property
    def version(self) -> str:
        """The newest resourceVersion."""
        return str(self._version)

    def get(self, plural: str, name: str) -> Object:
        """A copy of an object. Raises Refused."""
        if (plural, name) not in self.objects:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found')
        return copy.deepcopy(self.objects[plural, name])

    def all(self, plural: str) -> list[Object]:
        """Copies of all objects of a kind, by name."""
        return [copy.deepcopy(one) for (kind, _), one in sorted(self.objects.items()) if kind == plural]

    def put(self, plural: str, new: Object) -> Object:
        """Create or replace an object. A resourceVersion in it has to be the one it has."""
        meta = new["metadata"]
        old = self.objects.get((plural, meta["name"]))
        if old is None:
            meta |= {"uid": f"uid-{next(self._uids)}", "generation": 1, "namespace": NAMESPACE}
            meta.setdefault("creationTimestamp", now())
        else:
            if meta.get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
                raise Refused(409, "Conflict", f"{meta['name']}: the object has been modified")
            if new == old:
                return new
            grown = new.get("spec") != old.get("spec")
            meta |= {"uid": old["metadata"]["uid"], "generation": old["metadata"]["generation"] + grown}
        self._note("ADDED" if old is None else "MODIFIED", plural, new)
        self.objects[plural, meta["name"]] = copy.deepcopy(new)
        return new

    def delete(self, plural: str, name: str) -> None:
        """Delete an object and what it owns."""
        gone = self.get(plural, name)
        del self.objects[plural, name]
        self._note("DELETED", plural, gone)
        uid = gone["metadata"]["uid"]
        for kind, owned in [*self.objects]:
            owners = self.objects.get((kind, owned), {}).get("metadata", {}).get("ownerReferences", [])
            if any(owner["uid"] == uid for owner in owners):
                self.delete(kind, owned)

    def _note(self, type_: str, plural: str, new: Object) -> None:
        self._version += 1
        new["metadata"]["resourceVersion"] = self.version
        self.changes.append((self._version, plural, type_, copy.deepcopy(new)))
        for listener in self.listeners:
            listener()

    def forget(self) -> None:
        """What watches could go on from is too old from now on."""
        self._version += 1
        self.changes, self.oldest = [], self._version

    def since(self, version: int, plural: str) -> Iterator[tuple[int, str, Object]]:
        """Changes after that version. Raises Refused where they are not known any more."""
        if version < self.oldest:
            raise Refused(410, "Expired", f"too old resource version: {version} ({self.oldest})")
        for at, kind, type_, changed in self.changes:
            if at > version and kind == plural:
                yield at, type_, changed

    def patch(self, plural: str, name: str, operations: list[Object]) -> Object:
        """Apply a JSON Patch (RFC 6902; add, replace and remove on objects)."""
        target = self.get(plural, name)
        for operation in operations:
            *folders, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
            place = target
            for folder in folders:
                place = place[folder]
            if operation["op"] in ("replace", "remove") and last not in place:
                raise Refused(422, "Invalid", f"there is no {operation['path']}")
            if operation["op"] == "remove":
                del place[last]
            else:
                place[last] = operation["value"]
        return self.put(plural, target)


def now() -> str:
    """As Kubernetes writes a moment."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def digest(text: str) -> str:
    """What an image of this name has for a digest here."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def short_hash(template: Object) -> str:
    """What a template is told apart by, as the controllers do it."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def owner(kind: str, meta: Object) -> list[Object]:
    """The ownerReferences of what this object looks after."""
    return [{"apiVersion": "apps/v1", "kind": kind, "name": meta["name"], "uid": meta["uid"], "controller": True}]

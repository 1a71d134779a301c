"""Which rights we have, asked of the API server itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rollbackd.kubernetes.api import Api
from rollbackd.kubernetes.objects import Review

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """To do `verb` to one object, or to all of its kind where `name` is empty. `group` is empty for the core's.

    `part` is what of the object, as its `status`; empty for the object itself.
    """

    verb: str
    group: str
    resource: str
    name: str = ""
    part: str = ""


async def lacking(api: Api, namespace: str, rights: Iterable[Right]) -> list[str]:
    """The rights that we lack, a sentence each. Raises what requests raise."""
    found = []
    for right in rights:
        named = {"name": right.name} if right.name else {}
        named |= {"subresource": right.part} if right.part else {}
        asked = {"namespace": namespace, "verb": right.verb, "group": right.group, "resource": right.resource, **named}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        review = await api.post(_REVIEWS, body, Review, "an access review")
        if not review.status.allowed:
            place = " ".join(word for word in (right.resource, right.name, right.part) if word)
            cure = "docs/targets/kubernetes.md lists the rights that are needed"
            found.append(f"we may not {right.verb} {place}: {cure}")
    return found

"""Which rights we have, asked of the API server itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rollbackd.kubernetes.api import Api
from rollbackd.kubernetes.objects import Review

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True)
class Right:
    """To do `verb` to one object, or to all of its kind where `name` is empty. `group` is empty for the core's."""

    verb: str
    group: str
    resource: str
    name: str = ""


async def lacking(api: Api, namespace: str, rights: Iterable[Right]) -> list[str]:
    """The rights that we lack, a sentence each. Raises what requests raise."""
    found = []
    for right in rights:
        named = {"name": right.name} if right.name else {}
        asked = {"namespace": namespace, "verb": right.verb, "group": right.group, "resource": right.resource, **named}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        review = await api.post(_REVIEWS, body, Review, "an access review")
        if not review.status.allowed:
            place = f"{right.resource} {right.name}".strip()
            cure = "docs/targets/kubernetes.md lists the rights that are needed"
            found.append(f"we may not {right.verb} {place}: {cure}")
    return found

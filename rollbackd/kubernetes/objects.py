"""The fields of Kubernetes objects that we look at; everything else in an answer is passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from rollbackd.errors import Permanent

T = TypeVar("T")


class Owner(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of metadata.ownerReferences."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    api_version: str = ""


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """An object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    owner_references: Sequence[Owner] = ()

    @property
    def created_at(self) -> float | None:
        """When it was made, in Unix seconds, to the whole second."""
        return self.creation_timestamp.timestamp() if self.creation_timestamp is not None else None

    @property
    def controller(self) -> Owner | None:
        """What made it and looks after it."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class Thing(msgspec.Struct, frozen=True):
    """Any object, of which only the metadata matters."""

    metadata: Meta


class Requirement(msgspec.Struct, frozen=True):
    """One expression of a label selector."""

    key: str
    operator: str
    values: Sequence[str] = ()

    def text(self) -> str:
        """As it stands in a query."""
        match self.operator:
            case "In" | "NotIn":
                return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
            case other:
                raise Permanent(f"a label selector has the operator {other[:40]}, which is not known here")


class Selector(msgspec.Struct, frozen=True, rename="camel"):
    """A label selector."""

    match_labels: Mapping[str, str] = {}
    match_expressions: Sequence[Requirement] = ()

    def text(self) -> str:
        """As it stands in a query. Raises Permanent for an operator of a later time."""
        equal = [f"{key}={value}" for key, value in self.match_labels.items()]
        return ",".join([*equal, *(one.text() for one in self.match_expressions)])


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One condition of a status."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


# -- answers about answers


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Where a list stands in time, and how to go on where it is not whole."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct, frozen=True):
    """A piece of a list."""

    metadata: ListMeta = ListMeta()
    items: Sequence[msgspec.Raw] | None = None


class Cause(msgspec.Struct, frozen=True):
    """One thing that is wrong with what was sent. Its message, which is not looked at, quotes the value."""

    reason: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True):
    """What the server adds to a refusal: which object it refused, and why."""

    name: str = ""
    group: str = ""
    kind: str = ""
    causes: Sequence[Cause] = ()


class Status(msgspec.Struct, frozen=True):
    """What the server says where it does not answer with an object."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class ReviewStatus(msgspec.Struct, frozen=True):
    """Whether something is allowed."""

    allowed: bool = False
    reason: str = ""


class Review(msgspec.Struct, frozen=True):
    """A SelfSubjectAccessReview with its answer."""

    status: ReviewStatus = ReviewStatus()


def read(raw: bytes | msgspec.Raw, kind: type[T], what: str) -> T:
    """The object in an answer. Raises Permanent where it is none, naming `what` was asked for."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())[:200]
        raise Permanent(f"the API server's answer about {what} is none that can be read: {words}") from None

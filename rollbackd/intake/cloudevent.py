"""CloudEvents 1.0 over HTTP, in all three modes, and what CDEvents put into them.

Protocols: https://github.com/cloudevents/spec (`spec.md`, `bindings/http-protocol-binding.md`,
`formats/json-format.md`) and https://github.com/cdevents/spec (`cloudevents-binding.md`, `continuous-deployment.md`,
`continuous-operations.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated
from urllib.parse import unquote

import msgspec

from rollbackd.intake.base import Accepted, Delivery, Reading, Rejected
from rollbackd.intake.reading import decode, each, moment

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
CONTENT_TYPES = frozenset({STRUCTURED, BATCH, "application/json", "application/cdevents+json"})
"""The last two are of binary mode, in which headers carry the event and the body is its data."""

SERVICE_LABELS = ("service", "subject", "subject_name", "source", "source_name")
"""What an event says of its service, in the order in which it is believed."""
ENVIRONMENTS = ("production", "prod", "live")
"""The environments that count where the operator names none: what happens elsewhere says nothing of production."""

_Needed = Annotated[str, msgspec.Meta(min_length=1)]


def _no_data() -> msgspec.Raw:
    return msgspec.Raw(b"{}")


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event; extension attributes are the sender's business."""

    specversion: str
    id: _Needed
    source: _Needed
    type: _Needed
    subject: str | None = None
    time: str | None = None
    data: msgspec.Raw = msgspec.field(default_factory=_no_data)


BODIES: Mapping[str, object] = {STRUCTURED: CloudEvent, BATCH: list[CloudEvent]}


class CdService(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A service or an environment, as CDEvents refer to one."""

    id: str


class CdContent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the subject of a CDEvent says of itself."""

    environment: CdService | None = None
    service: CdService | None = None
    artifact_id: str | None = None


class CdSubject(msgspec.Struct, frozen=True, kw_only=True):
    """What a CDEvent is about."""

    id: str
    content: CdContent = CdContent()


class CdEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a CDEvent."""

    subject: CdSubject


def read_events(delivery: Delivery, read: Callable[[CloudEvent], Accepted | str]) -> Reading:
    """The events of a delivery, each read by `read`. One that is malformed spoils no other of its batch."""
    kind = delivery.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == BATCH:
        raws = decode(delivery.body, list[msgspec.Raw])
        return each(raws, lambda raw: read(_event(bytes(raw))), "event")
    if kind == STRUCTURED:
        return each([delivery.body], lambda body: read(_event(body)), "")
    return each([delivery], lambda one: read(_checked(_of_headers(one))), "")


def _event(body: bytes) -> CloudEvent:
    return _checked(decode(body, CloudEvent))


def _of_headers(delivery: Delivery) -> CloudEvent:
    """An event in binary mode: its attributes are percent-encoded in headers, its data is the body."""
    told = {
        name: unquote(delivery.headers[f"ce-{name}"]).encode("utf-8", "replace").decode()
        for name in ("specversion", "id", "source", "type", "subject", "time")
        if f"ce-{name}" in delivery.headers
    }
    data = delivery.body or b"{}"
    decode(data, msgspec.Raw)
    try:
        return msgspec.convert({**told, "data": msgspec.Raw(data)}, CloudEvent)
    except msgspec.ValidationError as error:
        raise Rejected(f"the `ce-` headers do not fit: {error}; or send `Content-Type: {STRUCTURED}`") from None


def _checked(event: CloudEvent) -> CloudEvent:
    if event.specversion != "1.0":
        raise Rejected(f"`specversion` is `{event.specversion[:20]}`, and only CloudEvents `1.0` are understood")
    return event


def predicate(event: CloudEvent, prefix: str) -> str | None:
    """What follows the prefix in the event's type, up to a version as CDEvents append it; None for another type."""
    if not event.type.startswith(prefix):
        return None
    return event.type.removeprefix(prefix).partition(".")[0]


def told_at(event: CloudEvent) -> float | None:
    """When it happened, in Unix seconds."""
    return moment(event.time, "$.time") if event.time is not None else None


def labels(event: CloudEvent, service: str | None) -> dict[str, str]:
    """What the event says of its service: what its data names, its subject, its source, and their last parts."""
    subject = event.subject or ""
    return {
        "service": service or "",
        "subject": subject,
        "subject_name": subject.rpartition("/")[2],
        "source": event.source,
        "source_name": event.source.rpartition("/")[2],
        "type": event.type,
    }


def elsewhere(environment: str | None, environments: Iterable[str]) -> bool:
    """Whether it is about an environment that does not count; one that is not named counts."""
    wanted = tuple(environments)
    return bool(wanted and environment is not None and environment not in wanted)

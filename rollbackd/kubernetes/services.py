"""Services and where their traffic goes, as far as we look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rollbackd.kubernetes.objects import Meta


class ServiceSpec(msgspec.Struct, frozen=True):
    """What a Service selects pods by: all of these labels."""

    selector: Mapping[str, str] = {}


class Service(msgspec.Struct, frozen=True):
    """A Service."""

    metadata: Meta
    spec: ServiceSpec = ServiceSpec()


class EndpointConditions(msgspec.Struct, frozen=True):
    """`ready` left out means yes."""

    ready: bool | None = None


class TargetRef(msgspec.Struct, frozen=True):
    """The pod behind an endpoint."""

    uid: str = ""


class Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    """One address that traffic goes to."""

    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetRef | None = None

    @property
    def ready(self) -> bool:
        """Whether it gets traffic."""
        return self.conditions.ready is not False


class EndpointSlice(msgspec.Struct, frozen=True):
    """Some of a Service's endpoints."""

    metadata: Meta
    endpoints: Sequence[Endpoint] | None = None

"""Which other services tell whether a trouble is shared, and what each is to the one in trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rollbackd.decide.blame import Other
from rollbackd.decide.state import ServiceState


def witnesses(
    service: str, services: Mapping[str, ServiceState], depends_on: Callable[[str], tuple[str, ...]]
) -> Iterator[Other]:
    """The other services, those that this one depends on first. `depends_on` names what a service declares to call."""
    declared = depends_on(service)
    first = (name for name in declared if name != service and name in services)
    rest = (name for name in services if name != service and name not in declared)
    for names, is_dependency in ((first, True), (rest, False)):
        for name in names:
            state = services[name]
            yield Other(
                name=name,
                history=state.history,
                deployed_at=state.deployed_at if state.was_deployed_lately else None,
                is_dependency=is_dependency,
                is_caller=service in depends_on(name),
            )

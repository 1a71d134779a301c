"""Whose a pushed stream is: finds the service, and the version, that labels speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from rollbackd.fields import Model
from rollbackd.intake.base import ServiceNames

MAX_VERSION = 500
"""Characters of a version that are kept."""


class Matching(Model):
    """How pushed streams find their service and version."""

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = ("service", "app", "job")
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    version_labels: tuple[str, ...] = ("version",)
    """Labels to look at for the version: the first that is there, and neither empty nor `unknown`, tells it."""
    match: dict[str, Annotated[dict[str, str], Field(min_length=1)]] = Field(default_factory=dict)
    """By service: labels with the values that all must have, for services that the labels above do not name."""


def owner(
    labels: Mapping[str, str],
    known: frozenset[str],
    service_labels: Sequence[str],
    match: Mapping[str, Mapping[str, str]],
) -> str | None:
    """The known service that the labels speak of: by `match` before `service_labels`. None for nobody's."""
    for service, wanted in match.items():
        if service in known and all(labels.get(label) == value for label, value in wanted.items()):
            return service
    for label in service_labels:
        value = labels.get(label)
        if value is not None and value in known:
            return value
    return None


class Matcher:
    """Applies a Matching to labels. What it finds may be remembered as long as `generation` is the same object."""

    def __init__(self, config: Matching, services: ServiceNames) -> None:
        self._labels, self._versions, self._match = config.service_labels, config.version_labels, config.match
        self._services = services

    @property
    def generation(self) -> frozenset[str]:
        """The services as they are now; another object after they changed."""
        return self._services.known()

    def service(self, labels: Mapping[str, str]) -> str | None:
        """The configured service that the labels speak of: by `match` before `service_labels`. None for nobody's."""
        return owner(labels, self._services.known(), self._labels, self._match)

    def version(self, labels: Mapping[str, str]) -> str | None:
        """The version that the labels tell, if any."""
        for label in self._versions:
            value = labels.get(label, "")
            if value and value != "unknown":
                return value[:MAX_VERSION]
        return None

"""Deployments of any sender that posts JSON: the operator says with expressions where in the payload everything is.

A path of its own, since a deployment needs the scope `deploy`: who may tell of alerts must not thereby tell of
deployments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.deploys import deployed
from rollbackd.intake.mapping import (
    Expression,
    Finder,
    HookNames,
    HookSettings,
    MappedHook,
    finder,
    read_items,
    signatures,
)
from rollbackd.intake.reading import RETRY_WINDOW_S, moment

Meaning: TypeAlias = Literal["started", "finished", "failed", "ignored"]

PHASES: Mapping[str, Meaning] = {
    **dict.fromkeys(("started", "running", "in_progress", "pending"), "started"),
    **dict.fromkeys(("finished", "success", "succeeded", "successful", "completed", "deployed"), "finished"),
    **dict.fromkeys(("failed", "failure", "error", "cancelled", "canceled", "aborted"), "failed"),
}
"""What words for a phase mean, where the operator says nothing else."""


class DeploymentHook(MappedHook):
    """Where in the payload everything is."""

    version: Expression
    """The release: a version, image digest or git commit, as the target names it."""
    previous: Expression | None = None
    """The release it takes the place of."""
    phase: Expression | None = None
    """How far it is; left out, every item is a finished deployment."""
    phases: dict[str, Meaning] = Field(default_factory=dict)
    """What further words for a phase mean, whatever their case."""
    at: Expression | None = None
    """When: Unix seconds, milliseconds, or ISO 8601 with an offset. Left out, when it is told of."""
    id: Expression | None = None
    """What tells this deployment from others, such as the pipeline run."""


class Config(HookSettings):
    """Hooks by the part of their path that names them."""

    hooks: Annotated[dict[str, DeploymentHook], Field(min_length=1), HookNames]
    """What each hook's sender posts."""


class _Mapped:
    """A hook's expressions, ready to work."""

    def __init__(self, hook: DeploymentHook) -> None:
        self.items = finder("items", hook.items)
        self.service, self.version = Finder("service", hook.service), Finder("version", hook.version)
        self.previous, self.phase = finder("previous", hook.previous), finder("phase", hook.phase)
        self.at, self.id = finder("at", hook.at), finder("id", hook.id)
        self.services = hook.services
        self.phases = dict(PHASES) | {word.lower(): meaning for word, meaning in hook.phases.items()}

    def meaning(self, item: object) -> Meaning:
        """What its phase means. Raises Rejected for a word that nobody explained."""
        if self.phase is None:
            return "finished"
        word = self.phase.text(item)
        found = self.phases.get(word.lower())
        if found is None:
            raise Rejected(f"nobody says what the phase `{word[:40]!a}` means: add it to `phases`")
        return found


class GenericDeployments(Intake):
    """`POST /hooks/generic/{hook}/deployments`."""

    path = "/hooks/generic/{hook}/deployments"
    scope: Scope = "deploy"
    body: object = dict[str, Any] | list[Any]

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self.signature = signatures("generic_deployments", config.hooks)
        self._hooks = {name: _Mapped(hook) for name, hook in config.hooks.items()}
        self._services = services

    def read(self, delivery: Delivery) -> Reading:
        """The deployments of known services. Dropped: `unknown_service`, `malformed`, `bad_time`, `truncated`, and by
        what the hook says of their phase `ignored`."""
        name = delivery.params.get("hook", "")
        hook = self._hooks.get(name)
        if hook is None:
            raise Rejected(f"no hook `{name[:64]!a}` is configured", status=404, code="unknown_hook")
        return read_items(
            delivery.body, hook.items, lambda item: self._accepted(name, hook, item, delivery.received_at)
        )

    def _accepted(self, name: str, hook: _Mapped, item: object, received_at: float) -> Accepted | str:
        called = hook.service.text(item)
        service = hook.services.get(called, called)
        if service not in self._services.known():
            return "unknown_service"
        phase = hook.meaning(item)
        if phase == "ignored":
            return phase
        found = hook.at.value(item) if hook.at is not None else None
        at = moment(found, "at") if found is not None else None
        version = hook.version.text(item)
        previous = hook.previous.optional_text(item) if hook.previous is not None else None
        identity = hook.id.optional_text(item) if hook.id is not None else None
        if identity is None:
            identity = f"at {at}" if at is not None else f"window {received_at // RETRY_WINDOW_S}"
        return deployed(
            "generic_deployments",
            service=service,
            version=version,
            previous=previous,
            phase=phase,
            at=at,
            received_at=received_at,
            identity=(name, identity),
        )


def build(config: Config, context: IntakeContext) -> GenericDeployments:
    """The intake as configured."""
    return GenericDeployments(config, context.services)


ADAPTER = Adapter(Config, build)

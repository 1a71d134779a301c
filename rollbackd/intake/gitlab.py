"""Deployments as GitLab tells them: its webhook for deployment events.

Protocol: https://docs.gitlab.com/user/project/integrations/webhook_events/#deployment-events, with the secret token of
https://docs.gitlab.com/user/project/integrations/webhooks/. GitLab does not try again at once; a webhook whose answers
keep failing is switched off for a while, so what is none of our business is answered with 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.fields import Secret
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.deploys import DeploySettings, Whose, deployed
from rollbackd.intake.reading import decode
from rollbackd.intake.signature import SecretHeader
from rollbackd.model import Phase

PHASES: Mapping[str, Phase] = {"running": "started", "success": "finished", "failed": "failed"}
"""What a status means to us. A deployment that was `created`, is `blocked` or was `canceled` tells nothing."""


class Project(msgspec.Struct, frozen=True):
    """Where it comes from, as in `acme/checkout`."""

    name: str
    path_with_namespace: str


class Hook(msgspec.Struct, frozen=True):
    """`object_kind: deployment`."""

    status: str
    deployment_id: int
    environment: str
    project: Project
    short_sha: str
    status_changed_at: str | None = None
    environment_tier: str | None = None
    commit_url: str = ""
    ref: str = ""


class _Kind(msgspec.Struct, frozen=True):
    object_kind: str = ""


class Config(DeploySettings):
    """Which of GitLab's deployments count. `services` may ask for `project` (acme/checkout), `environment`, `ref`."""

    secret: Secret | None = None
    """The webhook's secret token. Left out, a token of ours is needed, which GitLab cannot send: so set it."""
    environments: tuple[str, ...] = ("production", "prod", "live")
    """Deployments to environments with other names, and of another tier, are left out; an empty list takes all."""
    version: Literal["sha", "short_sha", "ref"] = "sha"
    """What the target calls a release: the commit, its first 8 digits, or the branch or tag."""


class GitLab(Intake):
    """`POST /hooks/gitlab`."""

    path = "/hooks/gitlab"
    scope: Scope = "deploy"
    body: object = Hook

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._config, self._whose = config, Whose(config, services)
        if config.secret is not None:
            self.signature = SecretHeader("gitlab", config.secret, "x-gitlab-token")

    def read(self, delivery: Delivery) -> Reading:
        """The deployment. Dropped: `other_event`, `other_environment`, `no_change`, `unknown_service`."""
        kind = decode(delivery.body, _Kind).object_kind
        if not kind:
            raise Rejected("the body has no `object_kind`: is this GitLab?")
        found = self._read(decode(delivery.body, Hook), delivery.received_at) if kind == "deployment" else "other_event"
        return Reading(dropped={found: 1}) if isinstance(found, str) else Reading(accepted=(found,))

    def _read(self, hook: Hook, received_at: float) -> Accepted | str:
        wanted = self._config.environments
        if wanted and hook.environment not in wanted and hook.environment_tier not in wanted:
            return "other_environment"
        phase = PHASES.get(hook.status)
        if phase is None:
            return "no_change"
        project = hook.project.path_with_namespace
        said = {"project": project, "environment": hook.environment, "ref": hook.ref}
        service = self._whose.service(said, project.rpartition("/")[2], hook.project.name)
        if service is None:
            return "unknown_service"
        return deployed(
            "gitlab",
            service=service,
            version=self._version(hook),
            phase=phase,
            at=_moment(hook.status_changed_at),
            received_at=received_at,
            identity=(project, hook.deployment_id),
        )

    def _version(self, hook: Hook) -> str:
        """The whole commit stands at the end of its address alone."""
        sha = hook.commit_url.rstrip("/").rpartition("/")[2]
        whole = sha if sha.startswith(hook.short_sha) and hook.short_sha else hook.short_sha
        return {"sha": whole, "short_sha": hook.short_sha, "ref": hook.ref}[self._config.version]


def _moment(text: str | None) -> datetime | None:
    """When the status changed. Raises Rejected for what is no moment."""
    if text is None:
        return None
    try:
        return datetime.strptime(text.replace("UTC", "+0000"), "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        raise Rejected(f"`$.status_changed_at` is no moment as in 2021-04-28 21:50:00 +0200: {text[:40]!a}") from None


def build(config: Config, context: IntakeContext) -> GitLab:
    """The intake as configured."""
    return GitLab(config, context.services)


ADAPTER = Adapter(Config, build)

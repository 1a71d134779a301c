"""Deployments as GitHub tells them: its webhooks `deployment`, `deployment_status` and `workflow_run`.

Protocol: https://docs.github.com/en/webhooks/webhook-events-and-payloads, signed as
https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries says. GitHub does not try again; it
shows what was answered, and a delivery can be sent once more by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec

from rollbackd.adapter import Adapter
from rollbackd.fields import Secret
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.deploys import DeploySettings, Whose, deployed
from rollbackd.intake.reading import decode
from rollbackd.intake.signature import SignedBody
from rollbackd.model import Phase

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]

PHASES: Mapping[str, Phase] = {
    "in_progress": "started",
    "success": "finished",
    "failure": "failed",
    "error": "failed",
}
"""What a deployment's status means to us. `pending`, `queued`, `waiting` and `inactive` mean that nothing moves."""

CONCLUSIONS: Mapping[str, Phase] = {"success": "finished", "failure": "failed", "timed_out": "failed"}
"""The same of a workflow run. One that was cancelled or skipped may have deployed or not: it tells nothing."""


class Repository(msgspec.Struct, frozen=True):
    """Where it comes from, as in `acme/checkout`."""

    name: str
    full_name: str


class Told(msgspec.Struct, frozen=True):
    """A deployment; `payload` is what its maker put there, an object or text."""

    id: int
    sha: str
    ref: str
    environment: str
    created_at: Moment
    task: str = ""
    payload: dict[str, object] | str | None = None


class Status(msgspec.Struct, frozen=True):
    """What became of a deployment, so far."""

    id: int
    state: str
    created_at: Moment


class Run(msgspec.Struct, frozen=True):
    """A run of a workflow."""

    id: int
    name: str | None
    head_sha: str
    head_branch: str | None
    status: str
    conclusion: str | None
    updated_at: Moment
    run_attempt: int = 1


class DeploymentHook(msgspec.Struct, frozen=True):
    """Header `X-GitHub-Event: deployment`."""

    repository: Repository
    deployment: Told


class StatusHook(msgspec.Struct, frozen=True):
    """Header `X-GitHub-Event: deployment_status`."""

    repository: Repository
    deployment: Told
    deployment_status: Status


class RunHook(msgspec.Struct, frozen=True):
    """Header `X-GitHub-Event: workflow_run`."""

    repository: Repository
    workflow_run: Run


class Config(DeploySettings):
    """Which of GitHub's deployments count. `services` may ask for `repository` (acme/checkout), `environment`, `task`,
    `workflow`, `branch`, and text in the deployment's `payload` by its own name.
    """

    secret: Secret | None = None
    """The webhook's secret. Left out, a token of ours is needed, which GitHub cannot send: so set it."""
    environments: tuple[str, ...] = ("production", "prod", "live")
    """Deployments to other environments are left out; an empty list takes all."""
    workflows: tuple[str, ...] = ()
    """Names of workflows whose runs are deployments, for repositories that tell GitHub of none."""
    created: Literal["ignore", "started"] = "ignore"
    """What a deployment that was only created means: often it still waits for its checks or an approval."""
    version: Literal["sha", "short_sha", "ref"] = "sha"
    """What the target calls a release: the commit, its first 7 digits, or the branch or tag. `version` in the
    deployment's payload goes before it."""


class GitHub(Intake):
    """`POST /hooks/github`."""

    path = "/hooks/github"
    scope: Scope = "deploy"
    body: object = dict
    needed_headers: Mapping[str, str] = {"X-GitHub-Event": "What the delivery tells of, such as `deployment_status`."}

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._config, self._whose = config, Whose(config, services)
        if config.secret is not None:
            self.signature = SignedBody("github", config.secret, "x-hub-signature-256", prefix="sha256=")

    def read(self, delivery: Delivery) -> Reading:
        """The deployment.

        Dropped: `no_change`, `other_environment`, `other_event`, `other_workflow`, `unknown_service`.
        """
        found = self._read(delivery)
        return Reading(dropped={found: 1}) if isinstance(found, str) else Reading(accepted=(found,))

    def _read(self, delivery: Delivery) -> Accepted | str:
        event = delivery.headers.get("x-github-event", "")
        if event == "deployment_status":
            return self._status(decode(delivery.body, StatusHook), delivery.received_at)
        if event == "deployment":
            return self._created(decode(delivery.body, DeploymentHook), delivery.received_at)
        if event == "workflow_run":
            return self._run(decode(delivery.body, RunHook), delivery.received_at)
        decode(delivery.body, dict[str, object])
        if not event:
            raise Rejected("the header `X-GitHub-Event` is missing: is this GitHub?")
        return "other_event"

    def _status(self, hook: StatusHook, received_at: float) -> Accepted | str:
        told, status = hook.deployment, hook.deployment_status
        phase = PHASES.get(status.state)
        if phase is None:
            return "no_change"
        return self._deployment(hook.repository, told, phase, status.created_at, received_at)

    def _created(self, hook: DeploymentHook, received_at: float) -> Accepted | str:
        if self._config.created == "ignore":
            return "no_change"
        told = hook.deployment
        return self._deployment(hook.repository, told, "started", told.created_at, received_at)

    def _deployment(
        self, repository: Repository, told: Told, phase: Phase, at: datetime, received_at: float
    ) -> Accepted | str:
        if self._config.environments and told.environment not in self._config.environments:
            return "other_environment"
        payload = told.payload if isinstance(told.payload, dict) else {}
        texts = {key: value for key, value in payload.items() if isinstance(value, str)}
        said = {**texts, "repository": repository.full_name, "environment": told.environment, "task": told.task}
        service = self._whose.service(said, texts.get("service", ""), repository.name)
        if service is None:
            return "unknown_service"
        version = texts.get("version") or self._version(told.sha, told.ref)
        return deployed(
            "github",
            service=service,
            version=version,
            phase=phase,
            at=at,
            received_at=received_at,
            identity=("deployment", repository.full_name, told.id),
        )

    def _run(self, hook: RunHook, received_at: float) -> Accepted | str:
        run, repository = hook.workflow_run, hook.repository
        if run.name is None or run.name not in self._config.workflows:
            return "other_workflow"
        phase = "started" if run.status == "in_progress" else CONCLUSIONS.get(run.conclusion or "")
        if phase is None:
            return "no_change"
        said = {"repository": repository.full_name, "workflow": run.name, "branch": run.head_branch or ""}
        service = self._whose.service(said, repository.name)
        if service is None:
            return "unknown_service"
        return deployed(
            "github",
            service=service,
            version=self._version(run.head_sha, run.head_branch or run.head_sha),
            phase=phase,
            at=run.updated_at,
            received_at=received_at,
            identity=("run", repository.full_name, run.id, run.run_attempt),
        )

    def _version(self, sha: str, ref: str) -> str:
        return {"sha": sha, "short_sha": sha[:7], "ref": ref}[self._config.version]


def build(config: Config, context: IntakeContext) -> GitHub:
    """The intake as configured."""
    return GitHub(config, context.services)


ADAPTER = Adapter(Config, build)

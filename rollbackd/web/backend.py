"""What the web application needs of the daemon behind it."""

from __future__ import annotations

from typing import Protocol

from rollbackd.errors import Permanent
from rollbackd.intake.base import Reading
from rollbackd.ledger.base import AuditEntry
from rollbackd.web.views import DecisionView, DeploymentView, IntakeView, RollbackView, ServiceView, StatusView


class Refused(Permanent):
    """The operator's wish cannot be granted as things stand; the message says why and what would help."""


class Unknown(Permanent):
    """There is no such service, deployment or rollback."""


class Backend(Protocol):
    """The daemon, as seen from HTTP. Methods raise Temporary when the ledger cannot be reached or written."""

    def problems(self) -> tuple[str, ...]:
        """Why the daemon is not ready, one sentence each; empty when ready."""

    def status(self) -> StatusView:
        """Everything, as things stand."""

    def service(self, name: str) -> ServiceView:
        """One service. Raises Unknown."""

    def ready_for(self, intake: str) -> None:
        """Raises Temporary where no further telemetry can be taken in now."""

    async def deliver(self, intake: str, reading: Reading, received_at: float, actor: str) -> IntakeView:
        """Make a delivery's facts durable, then feed all of it; returns once they are durable."""

    async def deployments(self, service: str | None, limit: int) -> list[DeploymentView]:
        """Watched deployments, newest first."""

    async def decisions(self, service: str | None, limit: int) -> list[DecisionView]:
        """Decisions, newest first."""

    async def decision(self, decision_id: str) -> DecisionView:
        """One decision. Raises Unknown."""

    async def rollbacks(self, service: str | None, limit: int) -> list[RollbackView]:
        """Rollbacks, newest first."""

    async def rollback(self, rollback_id: str) -> RollbackView:
        """One rollback. Raises Unknown."""

    async def request_rollback(self, service: str, to: str | None, reason: str, actor: str) -> RollbackView:
        """Plan a rollback on an operator's word, to the last known good release unless `to` names another.

        Returns once it is journaled. Raises Unknown, Refused.
        """

    async def pause(self, service: str | None, reason: str, actor: str) -> None:
        """Stop acting, for one service or all; watching and deciding go on. Raises Unknown."""

    async def resume(self, service: str | None, actor: str) -> None:
        """Act again. Raises Unknown."""

    async def audit_trail(self, limit: int) -> list[AuditEntry]:
        """Who did what, newest first."""

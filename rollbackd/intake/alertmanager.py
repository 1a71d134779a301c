"""Alerts as Prometheus Alertmanager's webhook receiver posts them, payload version 4.

Protocol: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. Alertmanager tries again after 5xx
and never after 4xx (its notify/webhook and notify/util.go), so 4xx is kept for what can never be understood.
"""

from __future__ import annotations

from rollbackd.adapter import Adapter
from rollbackd.intake.alerts import Alerts, AlertSettings
from rollbackd.intake.base import Delivery, Intake, IntakeContext, Reading, Scope, ServiceNames
from rollbackd.intake.notification import Notification, accept_alert, read_alerts


class Config(AlertSettings):
    """How alerts are matched to services."""


class Alertmanager(Intake):
    """`POST /hooks/alertmanager`."""

    path = "/hooks/alertmanager"
    scope: Scope = "ingest"
    body: object = Notification

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._default_severity = config.default_severity
        self._alerts = Alerts("alertmanager", config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The alerts of known services. Dropped: `unknown_service`, `malformed`, `truncated`."""
        return read_alerts(
            delivery.body,
            "4",
            "Alertmanager",
            lambda item: accept_alert(self._alerts, item, self._default_severity, delivery.received_at),
        )


def build(config: Config, context: IntakeContext) -> Alertmanager:
    """The intake as configured."""
    return Alertmanager(config, context.services)


ADAPTER = Adapter(Config, build)

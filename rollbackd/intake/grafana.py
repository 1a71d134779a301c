"""Alerts as Grafana's own alerting posts them through a webhook contact point, payload version 1.

Protocol: https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/;
the signature is that of grafana/alerting `http/hmac.go`. Its webhook receiver calls no failure worth a retry
(`receivers/webhook/v1/webhook.go`): what failed comes again with the group's next notification.
"""

from __future__ import annotations

from rollbackd.adapter import Adapter
from rollbackd.fields import Secret
from rollbackd.intake.alerts import Alerts, AlertSettings
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Scope, ServiceNames
from rollbackd.intake.notification import AlertItem, Notification, accept_alert, read_alerts
from rollbackd.intake.signature import HeaderName, SignedBody

_NO_VERDICT = {"DatasourceNoData": "no_data", "DatasourceError": "source_error"}
"""Alerts that Grafana raises in the place of a rule's own, when the rule has nothing to judge or cannot look."""
_REASONS = {"NoData": "no_data", "Error": "source_error"}
"""The same where the rule is set to fire then: what the annotation `grafana_state_reason` says."""


class Config(AlertSettings):
    """How alerts are matched to services, and how they are signed."""

    hmac: Secret | None = None
    """The secret of the contact point's HMAC signature. Without one, only a token lets deliveries in."""
    signature_header: HeaderName = "X-Grafana-Alerting-Signature"
    """The header of the signature, as the contact point names it."""
    timestamp_header: HeaderName | None = None
    """The header of the signed moment, as the contact point names it. Named here, it is required, at most 5 min old."""


class Grafana(Intake):
    """`POST /hooks/grafana`, or PUT: a contact point can be set to either."""

    path = "/hooks/grafana"
    methods = ("POST", "PUT")
    scope: Scope = "ingest"
    body: object = Notification

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self._default_severity = config.default_severity
        self._alerts = Alerts("grafana", config, services)
        if config.hmac is not None:
            stamp = config.timestamp_header
            self.signature = SignedBody(
                "grafana",
                config.hmac,
                config.signature_header.lower(),
                timestamp_header=stamp.lower() if stamp is not None else None,
                timestamp_needed=stamp is not None,
            )

    def read(self, delivery: Delivery) -> Reading:
        """The alerts of known services. Dropped: `unknown_service`, `malformed`, `truncated`, and what is no verdict
        about a service, `no_data` and `source_error`."""
        return read_alerts(delivery.body, "1", "Grafana", lambda item: self._accepted(item, delivery.received_at))

    def _accepted(self, item: AlertItem, received_at: float) -> Accepted | str:
        without = _without_verdict(item)
        return without or accept_alert(self._alerts, item, self._default_severity, received_at)


def _without_verdict(item: AlertItem) -> str | None:
    """Why the alert says nothing of the service: there was no data, or the data source could not be asked."""
    raised = _NO_VERDICT.get(item.labels.get("alertname", ""))
    if raised is not None or item.status == "resolved":
        return raised
    said = item.annotations.get("grafana_state_reason", "").split(",")
    return next((_REASONS[one.strip()] for one in said if one.strip() in _REASONS), None)


def build(config: Config, context: IntakeContext) -> Grafana:
    """The intake as configured."""
    return Grafana(config, context.services)


ADAPTER = Adapter(Config, build)

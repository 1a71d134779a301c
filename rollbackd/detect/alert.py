"""Rule `alert`: somebody else's alert about the service fires after the deployment, and stays."""

from __future__ import annotations

from rollbackd.fields import Duration, Model


class AlertSettings(Model):
    """Worse means: an alert of one of these severities fires for `lasting` without resolving."""

    severities: tuple[str, ...] = ("critical", "page")
    lasting: Duration = 90.0

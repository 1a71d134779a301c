"""Alerts of any sender that posts JSON: the operator says with expressions where in the payload everything is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.intake.alerts import LENGTH, AlertMatching, Alerts
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
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

Meaning: TypeAlias = Literal["firing", "resolved", "no_data", "ignored"]

STATUSES: Mapping[str, Meaning] = {
    **dict.fromkeys(("firing", "alerting", "triggered", "open", "problem", "down"), "firing"),
    **dict.fromkeys(("resolved", "recovered", "ok", "normal", "closed", "up"), "resolved"),
    **dict.fromkeys(("no_data", "no data", "nodata", "unknown"), "no_data"),
}
"""What words for a status mean, where the operator says nothing else."""


class Hook(MappedHook):
    """Where in the payload everything is."""

    name: Expression
    """The alert's name: the same when it fires and when it is resolved."""
    status: Expression | None = None
    """Its status; left out, every item is a firing alert."""
    statuses: dict[str, Meaning] = Field(default_factory=dict)
    """What further words for a status mean, whatever their case."""
    severity: Expression | None = None
    """Its severity; where nothing is found, `default_severity` counts."""
    default_severity: Annotated[str, Field(max_length=LENGTH)] = "warning"
    """The severity of alerts that tell none."""
    began: Expression | None = None
    """When it began: Unix seconds, milliseconds, or ISO 8601 with an offset. Left out, it began when it is told of."""
    ended: Expression | None = None
    """When it ended; left out, when its end is told of."""
    identity: Expression | None = None
    """What tells the alert from others of that name, such as an id; the same when it fires and when it is resolved."""


class Config(HookSettings):
    """Hooks by the part of their path that names them."""

    hooks: Annotated[dict[str, Hook], Field(min_length=1), HookNames]
    """What each hook's sender posts."""


class _Mapped:
    """A hook's expressions, ready to work."""

    def __init__(self, hook: Hook) -> None:
        self.items = finder("items", hook.items)
        self.service, self.name = Finder("service", hook.service), Finder("name", hook.name)
        self.status, self.severity = finder("status", hook.status), finder("severity", hook.severity)
        self.began, self.ended = finder("began", hook.began), finder("ended", hook.ended)
        self.identity = finder("identity", hook.identity)
        self.services, self.default_severity = hook.services, hook.default_severity
        self.statuses = dict(STATUSES) | {word.lower(): meaning for word, meaning in hook.statuses.items()}

    def meaning(self, item: object) -> Meaning:
        """What its status means. Raises Rejected for a word that nobody explained."""
        if self.status is None:
            return "firing"
        word = self.status.text(item)
        found = self.statuses.get(word.lower())
        if found is None:
            raise Rejected(f"nobody says what the status `{word[:40]!a}` means: add it to `statuses`")
        return found


class Generic(Intake):
    """`POST /hooks/generic/{hook}`."""

    path = "/hooks/generic/{hook}"
    scope: Scope = "ingest"
    body: object = dict[str, Any] | list[Any]

    def __init__(self, config: Config, services: ServiceNames) -> None:
        self.max_bytes = config.max_bytes
        self.signature = signatures("generic", config.hooks)
        self._hooks = {name: _Mapped(hook) for name, hook in config.hooks.items()}
        self._alerts = Alerts("generic", AlertMatching(service_labels=("service",)), services)

    def read(self, delivery: Delivery) -> Reading:
        """The alerts of known services. Dropped: `unknown_service`, `malformed`, `truncated`, and by what the hook says
        of their status `no_data` and `ignored`."""
        name = delivery.params.get("hook", "")
        hook = self._hooks.get(name)
        if hook is None:
            raise Rejected(f"no hook `{name[:64]!a}` is configured", status=404, code="unknown_hook")
        return read_items(
            delivery.body, hook.items, lambda item: self._accepted(name, hook, item, delivery.received_at)
        )

    def _accepted(self, name: str, hook: _Mapped, item: object, received_at: float) -> Accepted | str:
        called = hook.service.text(item)
        service = self._alerts.service({"service": hook.services.get(called, called)})
        if service is None:
            return "unknown_service"
        meaning = hook.meaning(item)
        if meaning not in ("firing", "resolved"):
            return meaning
        began = _moment(hook.began, "began", item)
        alert = hook.name.text(item)
        identity = hook.identity.text(item) if hook.identity is not None else alert
        window = f" {received_at // RETRY_WINDOW_S}" if began is None else ""
        return self._alerts.accepted(
            service=service,
            name=alert,
            status=meaning,
            severity=(hook.severity.optional_text(item) if hook.severity is not None else None)
            or hook.default_severity,
            identity=f"{name} {identity}{window}",
            began=began,
            ended=_moment(hook.ended, "ended", item),
            received_at=received_at,
            instance=identity if hook.identity is not None else "",
        )


def _moment(finder: Finder | None, field: str, item: object) -> float | None:
    """What the expression finds, as a moment; None where it finds nothing."""
    found = finder.value(item) if finder is not None else None
    return moment(found, field) if found is not None else None


def build(config: Config, context: IntakeContext) -> Generic:
    """The intake as configured."""
    return Generic(config, context.services)


ADAPTER = Adapter(Config, build)

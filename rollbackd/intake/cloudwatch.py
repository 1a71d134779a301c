"""Alarms of Amazon CloudWatch, through a topic of Amazon SNS that posts to us.

Protocol: the SNS developer guide, "Fanout Amazon SNS notifications to HTTPS endpoints", and the CloudWatch user guide,
"Notifying users on alarm changes" and "Alarm events and EventBridge". SNS tries again after 5xx and 429, for an hour at
most, and never after another 4xx.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from pydantic import Field

from rollbackd.adapter import Adapter
from rollbackd.intake.alerts import LENGTH, AlertMatching, Alerts
from rollbackd.intake.base import Accepted, Delivery, Intake, IntakeContext, Reading, Rejected, Scope, ServiceNames
from rollbackd.intake.reading import decode, moment
from rollbackd.intake.sns import Caller, HttpsCaller, Message, SnsSignature
from rollbackd.model import AlertStatus

_STATES: dict[str, AlertStatus] = {"ALARM": "firing", "OK": "resolved"}

TopicArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+$")]


class _Dimension(msgspec.Struct, frozen=True):
    name: str
    value: str


class _Metric(msgspec.Struct, frozen=True, kw_only=True):
    dimensions: list[_Dimension] = msgspec.field(default_factory=list, name="Dimensions")


class _MetricStat(msgspec.Struct, frozen=True, kw_only=True):
    metric: _Metric = msgspec.field(default_factory=_Metric, name="Metric")


class _Query(msgspec.Struct, frozen=True, kw_only=True):
    metric_stat: _MetricStat | None = msgspec.field(default=None, name="MetricStat")


class _Trigger(msgspec.Struct, frozen=True, kw_only=True):
    namespace: str | None = msgspec.field(default=None, name="Namespace")
    metric_name: str | None = msgspec.field(default=None, name="MetricName")
    dimensions: list[_Dimension] = msgspec.field(default_factory=list, name="Dimensions")
    metrics: list[_Query] = msgspec.field(default_factory=list, name="Metrics")


class _Alarm(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What an alarm's action sends to a topic."""

    alarm_name: str
    new_state_value: str
    state_change_time: str
    alarm_arn: str = ""
    aws_account_id: str = msgspec.field(default="", name="AWSAccountId")
    trigger: _Trigger = msgspec.field(default_factory=_Trigger)


class _EventMetric(msgspec.Struct, frozen=True, kw_only=True):
    dimensions: dict[str, str] = {}


class _EventStat(msgspec.Struct, frozen=True, kw_only=True):
    metric: _EventMetric = msgspec.field(default_factory=_EventMetric)


class _EventQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    metric_stat: _EventStat | None = None


class _Configuration(msgspec.Struct, frozen=True, kw_only=True):
    metrics: list[_EventQuery] = []


class _State(msgspec.Struct, frozen=True, kw_only=True):
    value: str
    timestamp: str


class _Detail(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    alarm_name: str
    state: _State
    configuration: _Configuration = msgspec.field(default_factory=_Configuration)


class _Event(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The same change of state, as a rule of EventBridge sends it to a topic."""

    detail_type: str
    detail: _Detail
    account: str = ""
    resources: list[str] = []


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the two a message is; another one is nobody's alarm."""

    alarm_name: str | None = msgspec.field(default=None, name="AlarmName")
    detail_type: str | None = msgspec.field(default=None, name="detail-type")


class Config(AlertMatching):
    """How alarms are matched to services. Labels are the dimensions of the alarm's metrics, and `AlarmName`,
    `AWSAccountId`, `Namespace` and `MetricName`."""

    topics: Annotated[frozenset[TopicArn], Field(min_length=1)]
    """The ARNs of the topics that are listened to: of no other is a message believed or a subscription confirmed."""
    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "service",
        "Service",
        "ServiceName",
        "FunctionName",
        "app",
        "job",
    )
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    default_severity: Annotated[str, Field(max_length=LENGTH)] = "critical"
    """The severity of alarms, which have none of their own: topics are expected to carry alarms that matter."""


class CloudWatch(Intake):
    """`POST /hooks/sns`."""

    path = "/hooks/sns"
    scope: Scope = "ingest"
    content_types = frozenset({"text/plain", "application/json"})
    body: object = Message

    def __init__(self, config: Config, services: ServiceNames, caller: Caller) -> None:
        self.max_bytes = config.max_bytes
        self.signature = SnsSignature("cloudwatch", config.topics, caller)
        self._topics, self._default_severity = config.topics, config.default_severity
        self._alerts = Alerts("cloudwatch", config, services)

    def read(self, delivery: Delivery) -> Reading:
        """The alarm of a known service. Dropped: `unknown_service`, `no_data` (insufficient data), `other` for
        messages that are no change of an alarm, and `subscription` for those about the subscription itself."""
        message = decode(delivery.body, Message)
        if message.topic_arn not in self._topics:
            raise Rejected(f"no topic `{message.topic_arn[:200]!a}` is expected: add it to `topics` if it is yours")
        one = self._accepted(message, delivery.received_at) if message.type == "Notification" else "subscription"
        return Reading(dropped={one: 1}) if isinstance(one, str) else Reading(accepted=(one,))

    def _accepted(self, message: Message, received_at: float) -> Accepted | str:
        alarm = _alarm(message.message)
        if alarm is None:
            return "other"
        if alarm.new_state_value == "INSUFFICIENT_DATA":
            return "no_data"
        status = _STATES.get(alarm.new_state_value)
        if status is None:
            raise Rejected(f"`NewStateValue` is `{alarm.new_state_value[:40]!a}`: it is ALARM, OK or INSUFFICIENT_DATA")
        labels = dict(_labels(alarm))
        service = self._alerts.service(labels)
        if service is None:
            return "unknown_service"
        at = moment(alarm.state_change_time, "StateChangeTime")
        identity = alarm.alarm_arn or f"{alarm.aws_account_id} {alarm.alarm_name}"
        return self._alerts.accepted(
            service=service,
            name=alarm.alarm_name,
            status=status,
            severity=self._alerts.severity(labels, self._default_severity),
            identity=identity,
            instance=identity,
            began=at,
            ended=at,
            received_at=received_at,
        )


def _alarm(text: str) -> _Alarm | None:
    """The alarm that a message tells of; None for a message about something else, which topics may carry too."""
    body = text.encode("utf-8", "surrogatepass")
    try:
        shape = decode(body, _Shape)
    except Rejected:
        return None
    if shape.alarm_name is not None:
        return decode(body, _Alarm)
    if shape.detail_type != "CloudWatch Alarm State Change":
        return None
    event = decode(body, _Event)
    found = [query.metric_stat.metric.dimensions for query in event.detail.configuration.metrics if query.metric_stat]
    return _Alarm(
        alarm_name=event.detail.alarm_name,
        new_state_value=event.detail.state.value,
        state_change_time=event.detail.state.timestamp,
        alarm_arn=event.resources[0] if event.resources else "",
        aws_account_id=event.account,
        trigger=_Trigger(dimensions=[_Dimension(*pair) for dimensions in found for pair in dimensions.items()]),
    )


def _labels(alarm: _Alarm) -> Iterator[tuple[str, str]]:
    """Where several metrics have the same dimension, that of the first one counts."""
    trigger = alarm.trigger
    queries = [query.metric_stat.metric.dimensions for query in trigger.metrics if query.metric_stat is not None]
    for dimension in reversed([*trigger.dimensions, *(one for dimensions in queries for one in dimensions)]):
        yield dimension.name, dimension.value
    yield "AlarmName", alarm.alarm_name
    yield "AWSAccountId", alarm.aws_account_id
    if trigger.namespace is not None:
        yield "Namespace", trigger.namespace
    if trigger.metric_name is not None:
        yield "MetricName", trigger.metric_name


def build(config: Config, context: IntakeContext) -> CloudWatch:
    """The intake as configured."""
    return CloudWatch(config, context.services, HttpsCaller())


ADAPTER = Adapter(Config, build)

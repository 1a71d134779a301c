"""The default pack: every rule there is, and which of them a policy asks for."""

from __future__ import annotations

from typing import TypeAlias

from rollbackd.detect.alert import AlertRule
from rollbackd.detect.availability import Availability
from rollbackd.detect.base import Rule
from rollbackd.detect.error_ratio import ErrorRatio
from rollbackd.detect.latency import LatencyRule
from rollbackd.detect.level import LevelRule
from rollbackd.detect.log_rate import LogRate
from rollbackd.detect.log_signature import LogSignature
from rollbackd.detect.traffic_loss import TrafficLoss

AnyRule: TypeAlias = (
    ErrorRatio | LatencyRule | Availability | TrafficLoss | LogSignature | LogRate | AlertRule | LevelRule
)
"""Every kind of rule, so that a watch can be read back from a snapshot."""

PACK: dict[str, type[Rule]] = {
    "error_ratio": ErrorRatio,
    "latency": LatencyRule,
    "availability": Availability,
    "traffic_loss": TrafficLoss,
    "log_signature": LogSignature,
    "log_rate": LogRate,
    "alert": AlertRule,
    "level": LevelRule,
}

"""What a backtest tells: a judgement of each deployment, and the sum of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from rollbackd.model import Decision

Judged: TypeAlias = Literal["rollback", "hold", "escalate", "kept", "unjudged"]
"""What would have been done. `unjudged`: nothing can be said, which is no health."""

Cause: TypeAlias = Literal[
    "no_series", "no_data", "no_baseline", "no_previous", "not_new", "superseded", "unfinished", "rollback"
]
"""Why a deployment could not be judged."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What would have been decided about one deployment. Moments are Unix seconds, `after_s` counts from it."""

    id: str
    service: str
    version: str
    previous: str | None
    deployed_at: float
    judged: Judged
    cause: Cause | None = None
    at: float | None = None
    after_s: float | None = None
    to: str | None = None
    rule: str | None = None
    reason: str
    decisions: tuple[Decision, ...] = ()
    recording: str | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How many deployments there were, and what would have been done about them."""

    deployments: int
    rollback: int
    hold: int
    escalate: int
    kept: int
    unjudged: int
    causes: dict[Cause, int]


class BacktestReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backtest: what was asked, every deployment in order of time, the sum, and what to keep in mind."""

    prometheus: str
    since: float
    until: float
    judgements: tuple[Judgement, ...]
    summary: Summary
    notes: tuple[str, ...] = ()


def summary_of(judgements: Iterable[Judgement]) -> Summary:
    """The sum."""
    every = list(judgements)
    done = Counter(one.judged for one in every)
    causes = Counter(one.cause for one in every if one.cause is not None)
    return Summary(
        deployments=len(every),
        rollback=done["rollback"],
        hold=done["hold"],
        escalate=done["escalate"],
        kept=done["kept"],
        unjudged=done["unjudged"],
        causes=dict(causes.most_common()),
    )

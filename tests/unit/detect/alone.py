"""One rule by itself, in an engine that knows no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rollbackd.decide.policy import Policy
from rollbackd.detect.pack import PACK
from rollbackd.engine import Engine
from rollbackd.model import AnyEvent, Decision, Evidence
from tests.support.streams import START, decisions, engine, play


def alone(rule: str, settings: Mapping[str, object] | None = None, **policy: object) -> Engine:
    """An engine with this one rule."""
    rules = {name: (settings or "on") if name == rule else "off" for name in PACK}
    return engine(Policy.model_validate({**policy, "rules": rules}))


def convicted(subject: Engine, events: Iterable[AnyEvent]) -> Decision | None:
    """The decision that these events lead to."""
    found = decisions(play(subject, events))
    assert len(found) <= 1
    return found[0] if found else None


def convicted_after(subject: Engine, events: Iterable[AnyEvent]) -> float | None:
    """Seconds from the moment of the deployment, which is 0, to the conviction."""
    decision = convicted(subject, events)
    return decision.t - START if decision is not None else None


def evidence(subject: Engine, service: str = "shop") -> Evidence:
    """What the one rule knows about the open watch."""
    (found,) = subject.peek(service).evidence
    return found

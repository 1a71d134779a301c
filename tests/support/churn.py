"""Events without rhyme or reason: every kind, ever new names, odd values, times that jump about."""

from __future__ import annotations

import random
from collections.abc import Iterator

from rollbackd.model import Alert, AnyEvent, DeploymentEvent, Gauge, Latency, Log, Probe, Requests
from tests.support.streams import START

_ODD = (0.0, 1e-9, 0.5, 1.0, 7.0, 100.0, 1e6, 1e15)


def churn(seed: int, count: int, services: int = 3, names: int = 10**6) -> Iterator[AnyEvent]:
    """So many events of so many services; versions, gauges, messages and alerts are drawn from `names` names each."""
    drawn = random.Random(seed)
    t = START
    for _ in range(count):
        t += drawn.choice((0.0, 0.0, 0.01, 1.0, 1.0, 5.0, 30.0)) if drawn.random() < 0.999 else 4000.0
        yield _event(drawn, t - drawn.choice((0.0, 0.0, 0.0, 1.0, 599.0)), f"s{drawn.randrange(services)}", names)


def _event(drawn: random.Random, t: float, service: str, names: int) -> AnyEvent:
    name = f"n{int(names ** drawn.random())}"
    version = drawn.choice((None, "v1", "v2", name))
    kind = drawn.random()
    if kind < 0.02:
        return DeploymentEvent(
            t=t,
            service=service,
            version=version or "v3",
            previous=drawn.choice((None, "v1", name)),
            phase=drawn.choice(("started", "finished", "failed")),
        )
    if kind < 0.37:
        total = drawn.choice(_ODD)
        errors = total * drawn.choice((0.0, 0.0, 0.0, 0.3, 1.0))
        return Requests(t=t, service=service, version=version, total=total, errors=errors)
    if kind < 0.5:
        return Latency(t=t, service=service, version=version, buckets=_buckets(drawn))
    if kind < 0.6:
        return Gauge(t=t, service=service, version=version, name=name, value=drawn.choice((-1e308, 1e308, 0.0, 3.0)))
    if kind < 0.75:
        return Probe(t=t, service=service, up=drawn.random() < 0.7, duration=drawn.choice(_ODD))
    if kind < 0.9:
        message = drawn.choice((name, "disk full", "é" * 400, "'" * 400, name.translate(_LETTERS) * 40))
        return Log(t=t, service=service, version=version, level=drawn.choice(("error", "info")), message=message)
    return Alert(
        t=t,
        service=service,
        name=drawn.choice((name, "Down")),
        status="resolved" if drawn.random() < 0.3 else "firing",
        severity="critical",
    )


def _buckets(drawn: random.Random) -> dict[str, float]:
    layout = drawn.choice((0, 1, 3, 12, 12, 12, 12, 100))
    start = drawn.choice((0.0, 0.005, 0.005, 0.005, drawn.random()))
    steps = [drawn.choice((0.0, 0.0, 1.0, 30.0)) for _ in range(layout + 1)]
    heights = [sum(steps[: k + 1]) for k in range(layout + 1)]
    return dict(zip([*(repr(start + k * 0.01) for k in range(layout)), "+Inf"], heights, strict=True))


_LETTERS = str.maketrans("0123456789", "abcdefghij")

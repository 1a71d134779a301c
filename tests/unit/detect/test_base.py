"""What a rule may look at: whose samples are whose, and when the release counts as warm."""

from __future__ import annotations

import pytest

from rollbackd.detect.base import Scene
from rollbackd.detect.history import ANY_VERSION, History
from rollbackd.detect.pack import PACK
from rollbackd.detect.settings import Rules
from rollbackd.model import Alert, DeploymentEvent, Gauge, Latency, Log, Probe, Requests


def scene(now: float = 0.0, **how: float) -> Scene:
    settings = {"alpha": 0.001, "warmup": 60.0, "bake": 3600.0, "deployed_at": 0.0, **how}
    return Scene(rules=Rules(), history=History(), version="v2", previous="v1", now=now, **settings)


@pytest.mark.parametrize(
    ("streams", "own", "others", "beside"),
    [
        ([ANY_VERSION], ANY_VERSION, (ANY_VERSION,), ()),
        (["v1"], ANY_VERSION, ("v1",), ()),
        (["v1", "v2"], "v2", ("v1",), ("v1",)),
        ([ANY_VERSION, "v1", "v2"], "v2", (ANY_VERSION, "v1"), ("v1",)),
        ([ANY_VERSION, "v1"], ANY_VERSION, (ANY_VERSION, "v1"), ()),
        ([], ANY_VERSION, (), ()),
    ],
)
def test_whose_stream_is_whose(streams: list[str], own: str, others: tuple[str, ...], beside: tuple[str, ...]) -> None:
    """The stream of all versions is before the deployment the old release's, and after it holds both."""
    named = dict.fromkeys(streams, 0)
    assert scene().own(named) == own
    assert scene().others(named) == others
    assert scene().beside(named) == beside


def test_a_sample_concerns_the_release_that_it_names_or_else_all() -> None:
    assert scene().concerns("v2")
    assert scene().concerns(None)
    assert not scene().concerns("v1")


def test_a_release_is_warm_before_it_is_settled() -> None:
    assert scene().warm_at == 60.0
    assert scene(now=70.0).settles
    assert not scene(now=3000.0).settles
    assert not scene(now=1.0, warmup=0.0).settles


def test_every_rule_says_which_events_it_looks_at() -> None:
    """A rule that names too few is never asked; the deployment itself is nobody's."""
    kinds = {Requests, Latency, Gauge, Probe, Log, Alert}
    for name, rule in PACK.items():
        assert rule.wants, name
        assert set(rule.wants) <= kinds, name
        assert DeploymentEvent not in rule.wants, name
    assert set().union(*(rule.wants for rule in PACK.values())) == kinds

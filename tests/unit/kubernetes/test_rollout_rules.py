"""What is particular about Rollouts: when one is done, which pods have traffic, and what Argo adds to a template."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rollbackd.kubernetes.additions import covers, without_additions
from rollbackd.kubernetes.kinds import ROLLOUT
from rollbackd.kubernetes.objects import Meta
from rollbackd.kubernetes.pods import Pod
from rollbackd.kubernetes.workloads import Workload

DONE = {"observedGeneration": "3", "phase": "Healthy", "currentPodHash": "new", "stableRS": "new"}
ABORTED = {"type": "Progressing", "status": "False", "reason": "RolloutAborted"}
BLUE_GREEN = {"blueGreen": {"activeService": "active"}}
CANARY: dict[str, object] = {"canary": {"steps": []}}
ROUTED = {"canary": {"trafficRouting": {"nginx": {"stableIngress": "a"}}}}
RULE = {
    "labelSelector": {"matchExpressions": [{"key": ROLLOUT.pod_label, "operator": "In", "values": ["old"]}]},
    "topologyKey": "kubernetes.io/hostname",
}
OURS = {"labelSelector": {"matchLabels": {"app": "checkout"}}, "topologyKey": "zone"}


def rollout(strategy: object, **status: object) -> Workload:
    made = {"metadata": {"generation": 3}, "spec": {"strategy": strategy}, "status": {**DONE, **status}}
    return msgspec.json.decode(msgspec.json.encode(made), type=Workload)


@pytest.mark.parametrize(
    ("strategy", "status", "progress"),
    [
        (CANARY, {}, "complete"),
        (CANARY, {"observedGeneration": "2"}, "going"),
        (CANARY, {"observedGeneration": "6b9f4c"}, "going"),
        (CANARY, {"observedGeneration": "²"}, "going"),
        (CANARY, {"observedGeneration": "9" * 5000}, "complete"),
        (CANARY, {"observedGeneration": "2", "phase": "Degraded"}, "going"),
        (CANARY, {"phase": "Degraded"}, "stuck"),
        (CANARY, {"phase": "Degraded", "abort": True, "conditions": [ABORTED]}, "stuck"),
        (CANARY, {"phase": "Degraded", "abort": False, "conditions": [ABORTED]}, "going"),
        (CANARY, {"phase": "Paused"}, "going"),
        (CANARY, {"phase": "Progressing"}, "going"),
        (CANARY, {"stableRS": "old"}, "going"),
        (BLUE_GREEN, {"blueGreen": {"activeSelector": "new"}}, "complete"),
        (BLUE_GREEN, {"blueGreen": {"activeSelector": "old"}}, "going"),
    ],
)
def test_a_rollout_is_done_when_what_it_asks_for_is_stable(strategy: object, status: Any, progress: str) -> None:
    assert ROLLOUT.progress(rollout(strategy, **status)) == progress


@pytest.mark.parametrize(
    ("strategy", "status", "counts"),
    [
        (CANARY, {}, True),
        (BLUE_GREEN, {}, False),
        (ROUTED, {}, False),
        (ROUTED, {"canary": {"weights": {"canary": {"weight": 0, "podTemplateHash": "old"}}}}, False),
        (ROUTED, {"canary": {"weights": {"canary": {"weight": 5, "podTemplateHash": "new"}}}}, False),
        (ROUTED, {"canary": {"weights": {"canary": {"weight": 5, "podTemplateHash": "old"}}}}, True),
    ],
)
def test_an_old_pod_counts_where_it_has_traffic(strategy: object, status: Any, counts: bool) -> None:
    workload = rollout(strategy, **status)
    old, new = (Pod(Meta(labels={ROLLOUT.pod_label: mark})) for mark in ("old", "new"))
    assert (ROLLOUT.counts(workload, old), ROLLOUT.counts(workload, new)) == (counts, True)


@pytest.mark.parametrize(
    ("kept", "wanted", "said"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 2}, False),
        ({"a": 1}, {"b": False, "c": {}, "d": None}, True),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"x": 1}]}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": "1"}, {"a": {"x": 1}}, False),
        ({"a": "1"}, {"a": [1]}, False),
    ],
)
def test_a_kept_template_may_say_more(kept: object, wanted: object, said: bool) -> None:
    assert covers(kept, wanted) is said


@pytest.mark.parametrize(
    ("terms", "left"),
    [
        ({"requiredDuringSchedulingIgnoredDuringExecution": [RULE]}, None),
        ({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": RULE}]}, None),
        (
            {"requiredDuringSchedulingIgnoredDuringExecution": [OURS, RULE]},
            {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [OURS]}},
        ),
        (
            {"requiredDuringSchedulingIgnoredDuringExecution": [OURS]},
            {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [OURS]}},
        ),
    ],
)
def test_the_rule_that_keeps_releases_apart_is_taken_out(terms: object, left: object) -> None:
    found = without_additions({"spec": {"affinity": {"podAntiAffinity": terms}}}, "")
    spec = found["spec"]
    assert isinstance(spec, dict)
    assert spec.get("affinity") == left


def test_labels_that_were_added_for_a_time_are_taken_out() -> None:
    metadata = {"labels": {"app": "a", "role": "canary"}, "annotations": {"note": "b"}}
    added = '{"labels": {"role": "canary"}, "annotations": {"note": "b"}}'
    assert without_additions({"metadata": metadata}, added)["metadata"] == {"labels": {"app": "a"}}


@pytest.mark.parametrize("garbage", ["{]", "[" * 5000, '{"labels": 1}', "\udc80"])
def test_garbage_in_the_note_of_additions_takes_nothing_out(garbage: str) -> None:
    template: dict[str, object] = {"metadata": {"labels": {"app": "a"}}, "spec": {}}
    assert without_additions(template, garbage) == template
    assert without_additions({"metadata": 1, "spec": [2]}, "")["metadata"] == {}

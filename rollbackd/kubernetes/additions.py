"""What stands in the pod template that a ReplicaSet keeps, and did not stand in that of its workload: pure.

The API server fills in defaults. Argo Rollouts adds, for a time, labels and annotations that tell canary and stable
apart (`canaryMetadata` and the like) and a rule that keeps their pods on different nodes (`antiAffinity`). A template
that is put back with those is another one to it, by another hash.
Source: argo-rollouts, utils/replicaset (SyncReplicaSetEphemeralPodMetadata, GenerateReplicaSetAffinity).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

ADDED_FOR_A_TIME: Final = "rollout.argoproj.io/ephemeral-metadata"
"""The annotation of a ReplicaSet that says which labels and annotations those are."""
_HASH = "rollouts-pod-template-hash"
_RULES = ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution")


class _Added(msgspec.Struct, frozen=True):
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None


def covers(kept: object, wanted: object) -> bool:
    """Whether everything that `wanted` says is said by `kept`, too, which may say more.

    What is empty says nothing. As `kubectl argo rollouts undo` compares templates.
    """
    if not wanted:
        return True
    if isinstance(wanted, dict):
        return isinstance(kept, dict) and all(covers(kept.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        same = isinstance(kept, list) and len(kept) == len(wanted)
        return same and all(covers(one, other) for one, other in zip(_items(kept), wanted, strict=True))
    return kept == wanted


def without_additions(template: dict[str, object], added: str) -> dict[str, object]:
    """A Rollout's pod template as it was written; `added` is that annotation, or empty."""
    try:
        gone = msgspec.json.decode(added, type=_Added) if added else _Added()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        gone = _Added()
    metadata, spec = _table(template.get("metadata")), _table(template.get("spec"))
    for name, part in (("labels", gone.labels), ("annotations", gone.annotations)):
        if part:
            metadata = _with(metadata, name, {k: v for k, v in _table(metadata.get(name)).items() if k not in part})
    affinity = _table(spec.get("affinity"))
    apart = _table(affinity.get("podAntiAffinity"))
    if any(_is_rule(one) for name in _RULES for one in _items(apart.get(name))):
        for name in _RULES:
            apart = _with(apart, name, [one for one in _items(apart.get(name)) if not _is_rule(one)])
        spec = _with(spec, "affinity", _with(affinity, "podAntiAffinity", apart))
    return {**template, "metadata": metadata, "spec": spec}


def _is_rule(term: object) -> bool:
    """Whether this is the rule by which Argo Rollouts keeps canary and stable apart."""
    selector = _table(_table(_table(term).get("podAffinityTerm", term)).get("labelSelector"))
    return [_table(one).get("key") for one in _items(selector.get("matchExpressions"))] == [_HASH]


def _with(table: dict[str, object], name: str, value: object) -> dict[str, object]:
    """With this entry, or without where there is nothing in it."""
    rest = {key: one for key, one in table.items() if key != name}
    return {**rest, name: value} if value else rest


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []

"""Which revision of a Helm release a revision of Kubernetes was made from: never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from rollbackd.targets.kubernetes.helm_manifest import Held, mapping, sequence

_QUANTITY = re.compile(r"([+-]?\d{1,15}(?:\.\d{1,15})?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_SUFFIXES = {"": Decimal(1), "m": Decimal("0.001")}
_SUFFIXES |= {sign: Decimal(1000) ** power for power, sign in enumerate("kMGTP", start=1)}
_SUFFIXES |= {f"{sign}i": Decimal(1024) ** power for power, sign in enumerate("KMGTP", start=1)}
_NEVER_FILLED_IN = frozenset({
    "affinity", "hostAliases", "imagePullSecrets", "initContainers", "nodeSelector", "tolerations",
    "topologySpreadConstraints", "volumes",
    "args", "command", "env", "envFrom", "lifecycle", "livenessProbe", "ports", "readinessProbe", "startupProbe",
    "volumeMounts", "workingDir",
})  # fmt: skip
"""Fields that are in a pod template only where somebody has put them."""
_NOTHING: tuple[object, ...] = ("", "null", "~", {}, [])
_TRUE, _FALSE = frozenset({"true", "yes", "on", "y"}), frozenset({"false", "no", "off", "n"})

Template = Mapping[str, object]


def images(template: Template | None) -> dict[str, str]:
    """The image of each container, by its name; of init containers, too."""
    spec = mapping(mapping(template).get("spec"))
    return {
        f"{part}/{one.get('name')}": str(one.get("image", ""))
        for part in ("containers", "initContainers")
        for one in map(mapping, sequence(spec.get(part)))
    }


def match(live: Template, candidates: Sequence[Held]) -> Held | None:
    """The one that this pod template was made from, out of those `candidates` (newest first) that hold its images.

    It is the one that says most of what is in the template, and nothing else. Where somebody changed templates on their
    way, so that none of them fits, it is the newest, as long as all of them say the same. None where that leaves
    it open.
    """
    running = images(live)
    possible = [one for one in candidates if one.template is not None and images(one.template) == running]
    fitting = [(said, one) for one in possible if (said := _said(one.template, live)) is not None]
    most = max((said for said, _ in fitting), default=0)
    best = [one for said, one in fitting if said == most] or possible
    return best[0] if best and all(one.template == best[0].template for one in best) else None


def _said(meant: Template | None, live: Template) -> int | None:
    """How many values of `live` are as `meant`; None where one is not."""
    theirs, ours = mapping(mapping(live).get("metadata")), mapping(mapping(meant).get("metadata"))
    if mapping(theirs.get("labels")).keys() != mapping(ours.get("labels")).keys():
        return None
    return _agree(meant, live, quantities=False)


def _agree(meant: object, live: object, *, quantities: bool) -> int | None:
    """As `_said`, for any value. What `meant` leaves out, the API server has filled in."""
    if isinstance(meant, dict) and isinstance(live, dict):
        if any(live[name] and name not in meant for name in _NEVER_FILLED_IN & live.keys()):
            return None
        parts = [
            _agree(one, live.get(name), quantities=quantities or name in ("resources", "emptyDir"))
            for name, one in meant.items()
        ]
    elif isinstance(meant, list) and isinstance(live, list) and len(meant) == len(live):
        parts = [_agree(one, other, quantities=quantities) for one, other in zip(meant, live, strict=True)]
    elif meant in _NOTHING and live in (None, "", {}, []):
        return 0
    else:
        return 1 if isinstance(meant, str) and _same(meant, live, quantities=quantities) else None
    found = [one for one in parts if one is not None]
    return sum(found) if len(found) == len(parts) else None


def _same(meant: str, live: object, *, quantities: bool) -> bool:
    """Whether the text in a manifest means this value."""
    if isinstance(live, bool):
        return meant.lower() in (_TRUE if live else _FALSE)
    if isinstance(live, int | float):
        return meant == str(live) or _octal(meant) == live
    if not isinstance(live, str):
        return False
    return meant == live or (quantities and _amount(meant) is not None and _amount(meant) == _amount(live))


def _octal(text: str) -> int | None:
    """A number such as 0644, as modes of files are written."""
    return int(text, 8) if re.fullmatch(r"0[0-7]{1,6}", text) else None


def _amount(text: str) -> Decimal | None:
    found = _QUANTITY.fullmatch(text)
    return Decimal(found[1]) * _SUFFIXES[found[2] or ""] if found else None

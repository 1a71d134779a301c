"""The page about detection names every default as it is."""

from __future__ import annotations

import re

from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.detect.settings import Rules
from tools.configuration_reference import ROOT, page

WITHOUT_A_REASON = {"rules", "freeze"}


def test_every_default_has_a_row_that_says_what_the_reference_says() -> None:
    text = (ROOT / "docs/detection.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \| \w", text, re.MULTILINE))
    rules = {f"{rule}.{key}" for rule, found in Rules() if found is not None for key in type(found).model_fields}
    assert set(rows) == (rules | set(Policy.model_fields) | set(FleetPolicy.model_fields)) - WITHOUT_A_REASON
    known = set(re.findall(r"^\| `(\w+)` \| [^|]+\| `([^`]+)` \|", page(), re.MULTILINE))
    assert {(name.rpartition(".")[2], default) for name, default in rows.items()} <= known

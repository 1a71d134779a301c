"""Selectors as PromQL writes them. No I/O.

Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

_META = re.compile(r"([\\.+*?()|\[\]{}^$])")


def inside(text: str) -> str:
    """Text as it stands between double quotes: PromQL's escapes are Go's, of which JSON's are a part."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def any_of(values: Iterable[str]) -> str:
    """A regular expression that matches these values and no others.

    Only what RE2 gives a meaning is escaped: servers look plain alternatives up instead of trying each value they know.
    """
    return "|".join(_META.sub(r"\\\1", value) for value in sorted(set(values)))


def equal(label: str, value: str) -> str:
    """A matcher for one value."""
    return f'{label}="{inside(value)}"'


def among(label: str, values: Iterable[str]) -> str:
    """A matcher for several values."""
    return f'{label}=~"{inside(any_of(values))}"'


def named(metrics: Iterable[str], matchers: str) -> str:
    """A selector of the series of several metrics."""
    return f"{{{among('__name__', metrics)},{matchers}}}"


def all_equal(labels: Mapping[str, str]) -> list[str]:
    """A matcher for each label."""
    return [equal(label, value) for label, value in sorted(labels.items())]

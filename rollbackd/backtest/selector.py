"""Which series belong to a service: an operator's template of label matchers, made PromQL for one service.

Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rollbackd.errors import ConfigError
from rollbackd.metrics.promql import equal, inside

DEFAULT_MATCH = 'job="{service}"'
PLACE = "{service}"

_MATCHER = re.compile(r"""\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')\s*(,|$)""")


@dataclass(frozen=True)
class Matcher:
    """One label matcher; `text` stands between its quotes, as it was written."""

    label: str
    operator: str
    text: str

    def of(self, service: str) -> str:
        """The matcher with the service's name in its place: as that name and no other, in a regular expression too."""
        name = re.escape(service) if self.operator in ("=~", "!~") else service
        return f'{self.label}{self.operator}"{self.text.replace(PLACE, inside(name))}"'


@dataclass(frozen=True)
class Match:
    """The matchers that tell a service's series from others'."""

    matchers: tuple[Matcher, ...]

    def of(self, service: str, more: Mapping[str, str] | None = None) -> str:
        """The matchers for one service, with `more` labels and their values, as they stand between PromQL's braces."""
        own = [matcher.of(service) for matcher in self.matchers]
        return ",".join([*own, *(equal(label, value) for label, value in (more or {}).items())])


def read_match(text: str) -> Match:
    """A template such as `job="{service}",env="live"`. Raises ConfigError where it is none."""
    inside = text.strip()
    if inside.startswith("{") and inside.endswith("}") and not inside.startswith(PLACE):
        inside = inside[1:-1]
    at, matchers = 0, list[Matcher]()
    while at < len(inside.rstrip()):
        found = _MATCHER.match(inside, at)
        if found is None:
            raise ConfigError(f"--match: `{inside[at:]:.60}` is no label matcher: write them like {DEFAULT_MATCH}")
        quoted = found[3]
        body = quoted[1:-1] if quoted[0] == '"' else quoted[1:-1].replace("\\'", "'").replace('"', '\\"')
        matchers.append(Matcher(found[1], found[2], body))
        at = found.end()
    if not any(PLACE in matcher.text for matcher in matchers):
        raise ConfigError(f"--match must say where a service's name stands, with {PLACE}, as in {DEFAULT_MATCH}")
    return Match(tuple(matchers))

"""StatsD lines: what is in one, and which service's it is. No I/O.

The protocol is Etsy's (github.com/statsd/statsd/blob/master/docs/metric_types.md) with DogStatsD's tags, packed values,
container and timestamp fields (docs.datadoghq.com/developers/dogstatsd/datagram_shell) and the tags that InfluxDB,
Graphite and Librato put behind the name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

COUNTER, GAUGE, SET = b"c", b"g", b"s"
TIMERS = (b"ms", b"h", b"d")
KINDS = frozenset({COUNTER, GAUGE, SET, *TIMERS})

LEAST_RATE = 1e-9
"""No sender samples less; smaller ones would make sums of what is no number any more."""

_BEFORE_TAGS = re.compile("[,;#]")


class Malformed(ValueError):
    """A line that is no StatsD."""


class Parts(NamedTuple):
    """A line in pieces that are not read yet: most lines are nobody's, and cost no more than this."""

    name: bytes
    tags: bytes
    kind: bytes
    values: bytes
    rate: bytes
    stamp: bytes


def parts(line: bytes) -> Parts | None:
    """Take a line apart. None for events and service checks, which are no metrics. Raises Malformed."""
    if line.startswith((b"_e{", b"_sc|")):
        return None
    name, _, rest = line.partition(b":")
    fields = rest.split(b"|")
    if not name or len(fields) < 2 or fields[1] not in KINDS:
        raise Malformed
    tags = rate = stamp = b""
    for one in fields[2:]:
        mark = one[:1]
        if mark == b"#":
            tags = one[1:]
        elif mark == b"@":
            rate = one[1:]
        elif mark == b"T":
            stamp = one[1:]
    return Parts(name, tags, fields[1], fields[0], rate, stamp)


def values(text: bytes) -> list[float]:
    """The values of a line. Raises Malformed."""
    return [_number(one) for one in text.split(b":")]


def weight(rate: bytes) -> float:
    """How many each value stands for, by its sample rate. Raises Malformed."""
    if not rate:
        return 1.0
    share = _number(rate)
    if not LEAST_RATE <= share <= 1:
        raise Malformed
    return 1 / share


def stamp(text: bytes) -> float | None:
    """The moment the sender aggregated for, in Unix seconds, where it says so. Raises Malformed."""
    return _number(text) if text else None


def _number(text: bytes) -> float:
    try:
        number = float(text)
    except ValueError:
        raise Malformed from None
    if not math.isfinite(number) or b"_" in text:
        raise Malformed
    return number


def named(name: bytes, tags: bytes) -> tuple[str, Mapping[str, str]]:
    """A metric's name without its tags, and these; one without a value has an empty one."""
    text = name.decode(errors="replace")
    found: dict[str, str] = {}
    cut = _BEFORE_TAGS.search(text)
    if cut is not None:
        for tag in re.split("[,;]", text[cut.end() :]):
            key, _, value = tag.partition("=")
            found[key] = value
        text = text[: cut.start()]
    for tag in tags.decode(errors="replace").split(",") if tags else ():
        key, _, value = tag.partition(":")
        found[key] = value
    return text, found


@dataclass(frozen=True)
class Belonging:
    """Whose a metric is: that of a service whose `prefix` its name begins with, and whose tags it has.

    Where neither is given, it is the service's if it has the tag `service` with its name, or begins with its name.
    """

    service: str
    prefix: str | None = None
    match: Mapping[str, str] = field(default_factory=dict)

    def own_name(self, name: str, tags: Mapping[str, str]) -> str | None:
        """The name without the prefix; None where the metric is another's."""
        if self.prefix is None and not self.match:
            begun = f"{self.service}."
            if name.startswith(begun):
                return name[len(begun) :]
            return name if tags.get("service") == self.service else None
        if any(tags.get(tag) != value for tag, value in self.match.items()):
            return None
        begun = f"{self.prefix.rstrip('.')}." if self.prefix else ""
        return name[len(begun) :] if name.startswith(begun) else None


@dataclass(frozen=True)
class Selection:
    """Metrics of one name, in which `*` is any text without a dot, whose tags fully match regular expressions."""

    name: re.Pattern[str]
    where: Mapping[str, re.Pattern[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, metric: str, where: Mapping[str, str] | None = None) -> Selection:
        name = re.compile("[^.]*".join(map(re.escape, metric.split("*"))))
        return cls(name, {tag: re.compile(pattern) for tag, pattern in (where or {}).items()})

    def fits(self, name: str, tags: Mapping[str, str]) -> bool:
        if self.name.fullmatch(name) is None:
            return False
        return all(pattern.fullmatch(tags.get(tag, "")) for tag, pattern in self.where.items())


@dataclass(frozen=True)
class Meaning:
    """What a service's metrics stand for; `seconds` says that its times are not in milliseconds."""

    preset: str
    requests: Selection | None = None
    errors: Selection | None = None
    latency: Selection | None = None
    seconds: bool = False


PRESETS: tuple[Meaning, ...] = (
    Meaning(
        "gunicorn",
        Selection.of("gunicorn.requests"),
        Selection.of("gunicorn.request.status.5*"),
        Selection.of("gunicorn.request.duration"),
    ),
    Meaning("django-statsd", Selection.of("response.*"), Selection.of("response.5*"), Selection.of("view.*")),
    Meaning(
        "connect-datadog",
        Selection.of("node.express.router.response_code.all"),
        Selection.of("node.express.router.response_code.5*"),
        Selection.of("node.express.router.response_time"),
    ),
    Meaning(
        "envoy",
        Selection.of("upstream_rq_completed"),
        Selection.of("upstream_rq_5xx"),
        Selection.of("upstream_rq_time"),
    ),
    Meaning(
        "envoy",
        Selection.of("envoy.cluster.upstream_rq_xx"),
        Selection.of("envoy.cluster.upstream_rq_xx", {"envoy.response_code_class": "5"}),
        Selection.of("envoy.cluster.upstream_rq_time"),
    ),
    Meaning("kong", Selection.of("request.count"), Selection.of("status.5*"), Selection.of("latency")),
    Meaning(
        "traefik",
        Selection.of("traefik.service.request.total"),
        Selection.of("traefik.service.request.total", {"code": r"5\d\d"}),
        Selection.of("traefik.service.request.duration"),
        seconds=True,
    ),
)
"""`auto` takes the first row whose requests come.

Documented at docs.gunicorn.org/en/stable/instrumentation.html, django-statsd.readthedocs.io (GraphiteMiddleware and
GraphiteRequestTimingMiddleware), github.com/DataDog/node-connect-datadog (with `response_code: true`), envoyproxy.io
(cluster statistics; times in milliseconds), developer.konghq.com/plugins/statsd and doc.traefik.io (Datadog; StatsD has
no status there).
"""

PRESET_NAMES: tuple[str, ...] = tuple(dict.fromkeys(row.preset for row in PRESETS))

GAUGES: Mapping[str, Selection] = {
    "memory_bytes": Selection.of("runtime.*.mem.rss"),
    "heap_bytes": Selection.of("jvm.heap_memory"),
}
"""Levels worth reporting, by the name we give them: the runtime metrics of Datadog's tracing libraries
(docs.datadoghq.com/tracing/metrics/runtime_metrics)."""

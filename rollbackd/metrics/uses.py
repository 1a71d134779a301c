"""What pushed series stand for, by their metrics' names: a table made once of the meanings and the gauges."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rollbackd.metrics.exposition import Series
from rollbackd.metrics.presets import GaugeRow, Meaning, Selection
from rollbackd.metrics.pushed import ERROR, REQUEST, REQUESTS, Offer

_COUNT, _BUCKET = "_count", "_bucket"
_NOTHING: Mapping[int, int] = {}


def latency_purpose(rank: int) -> str:
    """What a service's histogram under a meaning is kept under in `Service.best`."""
    return f"latency {rank}"


def level_purpose(name: str) -> str:
    """What a service's metric for a level is kept under in `Service.best`."""
    return f"level {name}"


@dataclass(frozen=True)
class Use:
    """What one series stands for. Keys are ranks: the places of meanings, the first present one is used.

    `roles` tell what it counts, `places` which of the meaning's latencies it is. `bucket` says that it is one bucket
    of such a histogram, `row` that it belongs to a level. `offers` are what it could serve for.
    """

    roles: Mapping[int, int]
    places: Mapping[int, int]
    scale: float
    bucket: bool
    whole: bool
    row: int
    offers: Sequence[Offer]


class Uses:
    """The table. A meaning has two ranks: requests can be counted by a series, or else by a histogram that comes whole.

    `shared` are the services for which metrics that speak of many services at once are used.
    """

    def __init__(self, meanings: Sequence[Meaning], gauges: Sequence[GaugeRow], shared: Collection[str]) -> None:
        self.meanings, self.gauges, self._shared = meanings, gauges, shared
        self._counters: dict[str, list[tuple[int, int, Selection]]] = {}
        self._histograms: dict[str, list[tuple[int, int, Selection]]] = {}
        self._levels: dict[str, list[int]] = {}
        for place, meaning in enumerate(meanings):
            counted = [(REQUEST, meaning.requests)] if meaning.requests else []
            for role, selection in counted + [(ERROR, errors) for errors in meaning.errors]:
                self._counters.setdefault(selection.metric, []).append((2 * place, role, selection))
            for number, selection in enumerate(meaning.latency):
                self._histograms.setdefault(selection.metric, []).append((place, number, selection))
        for row, gauge in enumerate(gauges):
            self._levels.setdefault(gauge.source.metric, []).append(row)
        buckets = {name + _BUCKET for name in self._histograms}
        counted_whole = {name.removesuffix(_COUNT) for name in self._counters if name.endswith(_COUNT)}
        self._known: dict[tuple[object, ...], Use] = {}
        self.wanted = frozenset({*self._counters, *self._histograms, *buckets, *counted_whole, *self._levels})
        """The names of metrics that can stand for anything, as series have them."""

    def of(self, service: str, name: str, labels: Mapping[str, str]) -> Use | None:
        """What a series of a service stands for; None where for nothing."""
        series = Series(name, name, dict(labels))
        return self._counter(series) or self._bucket(series) or self._whole(series) or self._level(series, service)

    def _use(
        self,
        roles: Mapping[int, int] = _NOTHING,
        places: Mapping[int, int] = _NOTHING,
        *,
        scale: float = 1.0,
        bucket: bool = False,
        whole: bool = False,
        row: int = -1,
    ) -> Use:
        """The same object for all series that stand for the same: there are many of them, and few uses."""
        key = (*roles.items(), None, *places.items(), scale, bucket, whole, row)
        if key not in self._known:
            offers = [(REQUESTS, rank) for rank, role in roles.items() if role & REQUEST]
            offers += [(latency_purpose(rank), place) for rank, place in places.items()]
            if row >= 0:
                offers.append((level_purpose(self.gauges[row].name), row))
            self._known[key] = Use(roles, places, scale, bucket, whole, row, tuple(offers))
        return self._known[key]

    def _counter(self, series: Series) -> Use | None:
        roles = self._roles(series, series.name, 0)
        return self._use(roles) if roles else None

    def _roles(self, series: Series, metric: str, more: int) -> dict[int, int]:
        roles: dict[int, int] = {}
        for rank, role, selection in self._counters.get(metric, ()):
            if selection.holds(series):
                roles[rank + more] = roles.get(rank + more, 0) | role
        return roles

    def _bucket(self, series: Series) -> Use | None:
        if not series.name.endswith(_BUCKET):
            return None
        places, scale = self._places(series, series.name.removesuffix(_BUCKET), 1)
        return self._use(places=places, scale=scale, bucket=True) if places else None

    def _whole(self, series: Series) -> Use | None:
        roles = self._roles(series, series.name + _COUNT, 1)
        places, scale = self._places(series, series.name, 0)
        return self._use(roles, places, scale=scale, whole=True) if roles or places else None

    def _places(self, series: Series, metric: str, more: int) -> tuple[dict[int, int], float]:
        """Of a histogram that comes whole and as series, the first is used: it tells more, or the same."""
        places: dict[int, int] = {}
        scale = 1.0
        for meaning, number, selection in self._histograms.get(metric, ()):
            if selection.holds(series):
                places |= dict.fromkeys((2 * meaning, 2 * meaning + 1), 2 * number + more)
                scale = self.meanings[meaning].scale
        return places, scale

    def _level(self, series: Series, service: str) -> Use | None:
        for row in self._levels.get(series.name, ()):
            gauge = self.gauges[row]
            if gauge.source.holds(series) and (not gauge.shared or service in self._shared):
                return self._use(row=row)
        return None

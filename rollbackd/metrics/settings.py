"""What operators write of metrics: a preset, or their own names."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from rollbackd.fields import Model
from rollbackd.metrics.presets import GAUGES, PRESET_NAMES, PRESETS, GaugeRow, Meaning, Selection


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from None
    return value


def _preset(value: str) -> str:
    if value != "auto" and value not in PRESET_NAMES:
        raise ValueError(f"there is no preset `{value}`; known: auto, {', '.join(PRESET_NAMES)}")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
PresetName: TypeAlias = Annotated[str, AfterValidator(_preset)]
"""A preset, or `auto` for the first that is present."""


class Series(Model):
    """Series of one metric; a bare string is the metric's name."""

    metric: Annotated[str, Field(min_length=1)]
    """The metric's name as the endpoint spells it; a histogram's without `_bucket`."""
    where: dict[str, Pattern] = Field(default_factory=dict)
    """Labels to regular expressions that must match the whole value; a label that is absent reads as empty."""

    def selection(self) -> Selection:
        return Selection.of(self.metric, self.where)


class Histogram(Series):
    """A histogram of durations; a bare string is the metric's name."""

    unit: Literal["s", "ms"] = "s"
    """The unit of its bounds."""


def _named(value: object) -> object:
    return {"metric": value} if isinstance(value, str) else value


SeriesField = Annotated[Series, BeforeValidator(_named, json_schema_input_type=str | Series)]
HistogramField = Annotated[Histogram, BeforeValidator(_named, json_schema_input_type=str | Histogram)]
GaugeName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Metrics(Model):
    """Your own names, in place of a preset's. Gauges come on top of the usual ones."""

    requests: SeriesField | None = None
    """Counter of all requests."""
    errors: SeriesField | None = None
    """Counter of the failed ones among them: another metric, or the same one narrowed by `where`."""
    latency: HistogramField | None = None
    """Histogram of how long requests took."""
    gauges: dict[GaugeName, SeriesField] = Field(default_factory=dict)
    """Levels to report, by the name they shall have; the series of each are added up."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.requests is None) != (self.errors is None):
            raise ValueError("`requests` and `errors` need each other: a count without its failures says nothing")
        return self

    def gauge_rows(self) -> list[GaugeRow]:
        """The levels to report: these, and the usual ones."""
        return [*(GaugeRow(name, series.selection()) for name, series in self.gauges.items()), *GAUGES]


def meanings(preset: str, own: Metrics, version_label: str | None) -> list[Meaning]:
    """What series may stand for, in order of preference: the operator's own names, else those of the preset."""
    if own.requests is not None or own.latency is not None:
        found = [
            Meaning(
                preset="own",
                requests=own.requests.selection() if own.requests else None,
                errors=(own.errors.selection(),) if own.errors else (),
                latency=(own.latency.selection(),) if own.latency else (),
                scale=0.001 if own.latency and own.latency.unit == "ms" else 1.0,
            )
        ]
    else:
        rows = [row for row in PRESETS if preset in ("auto", row.name)]
        found = [meaning for row in rows for meaning in row.meanings()]
    if version_label is None:
        return found
    return [meaning.with_version(version_label) for meaning in found]

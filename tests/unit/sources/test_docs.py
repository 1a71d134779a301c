"""The page on sources is true: its examples are accepted, and it names every field, preset and gauge."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rollbackd import registry
from rollbackd.metrics.presets import GAUGES, PRESETS
from rollbackd.metrics.statsd import PRESET_NAMES as STATSD_PRESETS

DOCS = Path(__file__).parents[3] / "docs"
OVERVIEW = (DOCS / "sources.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "sources").glob("*.md"))}
EXAMPLES = [
    (name, example)
    for name, page in PAGES.items()
    for example in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
]
STREAMS = {"metrics": "scrape", "probe": "probe", "logs": "log_file"}


def test_every_source_has_its_page_and_its_row() -> None:
    assert set(PAGES) == set(registry.names("source"))
    assert set(re.findall(r"^\| \[`(\w+)`\]\(sources/\1\.md\) \|", OVERVIEW, re.MULTILINE)) == set(PAGES)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_every_example_is_accepted(name: str, example: str) -> None:
    """An example is a part of a service: `metrics`, `probe` or `logs`, or a list of `sources` by their names."""
    [(key, settings)] = yaml.safe_load(example).items()
    entries = [entry for one in settings for entry in one.items()] if key == "sources" else [(STREAMS[key], settings)]
    assert name in dict(entries)
    for source, written in entries:
        adapter = registry.load("source", source)
        adapter.config.model_validate({adapter.shorthand: written} if isinstance(written, str) else written)


@pytest.mark.parametrize("name", registry.names("source"))
def test_every_field_is_named(name: str) -> None:
    page = PAGES[name] + OVERVIEW
    fields = registry.load("source", name).config.model_fields
    assert [field for field in fields if not re.search(rf"`{field}`|^ +{field}:", page, re.MULTILINE)] == []


def test_every_preset_and_what_it_counts_is_named() -> None:
    rows = [line for line in PAGES["scrape"].splitlines() if line.startswith("| `")]
    for preset in PRESETS:
        [row] = [line for line in rows if line.startswith(f"| `{preset.name}` |")]
        assert preset.requests[0] in row
        assert [label for label in preset.status if f"`{label}`" not in row] == []


def test_every_preset_of_statsd_is_named() -> None:
    assert set(re.findall(r"^\| `([\w-]+)` \| `[^|]+\|[^|]+\|[^|]+\|$", PAGES["statsd"], re.MULTILINE)) == set(
        STATSD_PRESETS
    )


def test_every_gauge_is_named() -> None:
    assert [row.name for row in GAUGES if f"`{row.name}`" not in PAGES["scrape"]] == []

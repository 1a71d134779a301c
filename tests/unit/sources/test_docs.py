"""The page on sources is true: its examples are accepted, and it names every field, preset and gauge."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rollbackd import registry
from rollbackd.sources.presets import GAUGES, PRESETS

PAGE = (Path(__file__).parents[3] / "docs" / "sources.md").read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SOURCES = {"metrics": "scrape", "probe": "probe", "logs": "log_file"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_accepted(example: str) -> None:
    [(key, settings)] = yaml.safe_load(example).items()
    adapter = registry.load("source", SOURCES[key])
    adapter.config.model_validate({adapter.shorthand: settings} if isinstance(settings, str) else settings)


@pytest.mark.parametrize("name", registry.names("source"))
def test_every_field_is_named(name: str) -> None:
    fields = registry.load("source", name).config.model_fields
    assert [field for field in fields if not re.search(rf"`{field}`|^ +{field}:", PAGE, re.MULTILINE)] == []


def test_every_preset_and_what_it_counts_is_named() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for preset in PRESETS:
        [row] = [line for line in rows if line.startswith(f"| `{preset.name}` |")]
        assert preset.requests[0] in row
        assert [label for label in preset.status if f"`{label}`" not in row] == []


def test_every_gauge_is_named() -> None:
    assert [row.name for row in GAUGES if f"`{row.name}`" not in PAGE] == []

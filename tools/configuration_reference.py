"""Writes docs/configuration.md anew, from the schema of the configuration and the examples in config/."""

from __future__ import annotations

from pathlib import Path

from rollbackd import registry
from rollbackd.config.json_schema import json_schema
from rollbackd.config.reference import markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/configuration.md"


def page() -> str:
    """What the page should be."""
    full, minimal = (ROOT / "config" / name for name in ("full.yaml", "minimal.yaml"))
    return markdown(json_schema(registry), full.read_text(encoding="utf-8"), minimal.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

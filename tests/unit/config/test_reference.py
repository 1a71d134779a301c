"""The page of reference is what the schema and the examples say."""

from __future__ import annotations

import re

import pytest

from rollbackd import registry
from rollbackd.config.json_schema import json_schema
from tools.configuration_reference import PAGE, page


@pytest.fixture(scope="module")
def text() -> str:
    """The page as it should be, which takes seconds to make."""
    return page()


def test_the_page_is_up_to_date(text: str) -> None:
    """`.venv/bin/python tools/configuration_reference.py` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == text


def test_the_page_has_a_row_for_every_key(text: str) -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    schema = json_schema(registry)
    shown = [schema, *(definition for name, definition in schema["$defs"].items() if name != "Secret")]
    assert {key for definition in shown for key in definition.get("properties", {})} == rows


def test_every_adapter_has_its_section_with_an_example(text: str) -> None:
    for kind in ("target", "source", "notifier", "intake", "ledger"):
        for name in registry.names(kind):
            section = re.search(rf"^### `{name}`$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
            assert section is not None, name
            assert re.search(rf"```yaml\n[^`]*\b{name}:|```yaml\n(metrics|probe|logs):", section[1]), name

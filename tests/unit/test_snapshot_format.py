"""The shape of what is written to disk and read by the next version: it changes only together with its number."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from rollbackd.decide.state import EngineState
from rollbackd.engine import SNAPSHOT_FORMAT
from rollbackd.live.pipeline import Saved

SHAPES = {3: "039879671d9c6599", 4: "eb13882a139a71d5", 5: "917954288b4d05b2"}
"""The digest of each format's shape. A format that was released keeps its own."""


def bare(schema: Any) -> Any:
    """The schema without its words, which may change at any time."""
    if isinstance(schema, dict):
        return {key: bare(value) for key, value in schema.items() if key not in ("description", "title")}
    return [bare(one) for one in schema] if isinstance(schema, list) else schema


def digest() -> str:
    """What stands for the shape of a snapshot."""
    written = [bare(msgspec.json.schema(EngineState)), bare(msgspec.json.schema(Saved))]
    return hashlib.sha256(msgspec.json.encode(written, order="sorted")).hexdigest()[:16]


def test_the_shape_of_a_snapshot_changes_with_its_format_only() -> None:
    assert SHAPES.get(SNAPSHOT_FORMAT) == digest(), (
        "What a snapshot holds has another shape than before. Raise SNAPSHOT_FORMAT in rollbackd/engine.py, so that a "
        "snapshot of the former shape is not taken for one of this, and put the new digest here beside the new number."
    )

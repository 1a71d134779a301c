"""Real deliveries, rebuilt from what their senders document (tests/unit/intake/payloads)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "unit/intake/payloads"


def payload(name: str) -> Any:
    """The JSON value of the file, fresh each time."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def altered(value: Any, path: str, new: object) -> Any:
    """The value with something else at a place such as `alerts.0.labels`; a place that is not there is made."""
    *way, last = path.split(".")
    inner = value
    for part in way:
        inner = inner[int(part) if isinstance(inner, list) else part]
    inner[int(last) if isinstance(inner, list) else last] = new
    return value

"""How the page puts times, spans and states."""

from __future__ import annotations

from datetime import UTC, datetime

from rollbackd.web.html import Markup, element


def span(seconds: float) -> str:
    """A span in its two largest units, such as `1 h 5 min`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def ago(at: float, now: float) -> str:
    """How long ago."""
    return f"{span(now - at)} ago"


def moment(at: float, now: float) -> Markup:
    """How long ago, with the exact moment behind it."""
    try:
        exact = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        exact = None
    return element("time", ago(at, now), datetime=exact, title=exact)


def badge(text: str, tone: str) -> Markup:
    """A word that stands out; tones are good, bad, warn, none and plain."""
    return element("span", text, class_=f"badge {tone}")

"""How times, spans and amounts are put into words, the same on every page. Times are in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_PREFIXES = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_LONG = 1e5
"""From here on digits are hard to count: numbers get a prefix."""
_BEYOND = 1e18
"""From here on no prefix helps either."""


def span(seconds: float) -> str:
    """A span for the eye: `0.4 s`, `12 s`, `1 h 5 min`."""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def moment(at: float) -> str:
    """A moment to the second, `2026-11-23 12:01:33 UTC`."""
    return _format(at, "%Y-%m-%d %H:%M:%S UTC")


def time_of_day(at: float) -> str:
    """A moment of a known day, to the tenth of a second that tells the order of steps."""
    whole = round(at * 10)
    return f"{_format(whole // 10, '%H:%M:%S')}.{whole % 10}"


def _format(at: float, pattern: str) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return f"@{at:.0f}"


def amount(value: float, unit: str) -> str:
    """A value of Evidence with its unit: ratios as a percentage, seconds as milliseconds where they are few."""
    if unit == "ratio":
        return f"{_percent(value * 100)}%"
    if unit == "s":
        return _seconds(value)
    if unit.startswith("1/"):
        return f"{_number(value)} per {unit[2:]}"
    return f"{_number(value)} {unit}".rstrip()


def _percent(percent: float) -> str:
    size = abs(percent)
    if percent in (0, 100):
        return f"{percent:.0f}"
    if not 0.01 <= size < _LONG:
        return f"{percent:.2g}"
    return f"{percent:.{2 if size < 1 else 1}f}"


def _seconds(seconds: float) -> str:
    if abs(seconds) >= _LONG:
        return f"{_number(seconds)} s"
    if abs(seconds) >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.2g} ms" if abs(seconds) < 0.01 else f"{seconds * 1000:.0f} ms"


def _number(value: float) -> str:
    size = abs(value)
    if not _LONG <= size < _BEYOND:
        return f"{value:,.4g}"
    prefix, unit = next((prefix, unit) for prefix, unit in _PREFIXES if size >= unit)
    return f"{value / unit:.4g} {prefix}"

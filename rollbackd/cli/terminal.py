"""What goes to a terminal is text alone."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text with everything taken out that could steer a terminal: versions, reasons and log lines come from outside."""
    return "".join(mark if mark.isprintable() or mark == "\n" else "\N{REPLACEMENT CHARACTER}" for mark in text)

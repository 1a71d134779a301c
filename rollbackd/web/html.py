"""Builds HTML so that nothing gets in unescaped: text stays text, and only elements are markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

_VOID = frozenset({"meta", "link"})


class Markup(str):
    """HTML made by `element`; a plain string never counts as such."""

    __slots__ = ()


Child: TypeAlias = str | None
"""An element, a text, or nothing."""


def element(tag: str, *children: Child, **attributes: str | None) -> Markup:
    """An element. Attributes that are None are left out; a trailing underscore in a name is dropped (`class_`)."""
    opened = tag + "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{opened}>")
    return Markup(f"<{opened}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after another."""
    return Markup("".join(_markup(child) for child in children if child is not None))


def _markup(child: str) -> str:
    return child if isinstance(child, Markup) else escape(child)


def verbatim(text: str) -> Markup:
    """Text that is markup already, such as our own style sheet; never for anything from outside."""
    return Markup(text)

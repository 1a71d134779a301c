"""Cuts out of an example file the lines of one of its values, comments and all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from rollbackd.config.blocks import STREAMS

SHORT = {source: key for key, source in STREAMS.items()}
"""Sources that have a key of their own in a service."""


class Example:
    """Cuts out of a YAML file the lines of one of its values."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._root = yaml.compose(text, Loader=yaml.SafeLoader)

    def adapter(self, kind: str, name: str) -> tuple[str | int, ...] | None:
        """Where the file shows an adapter."""
        shown = [path for path in self._paths(self._root, ()) if self._shows(path, kind, name)]
        return max(shown, key=lambda path: len(self.excerpt(path)), default=None)

    def _shows(self, path: tuple[str | int, ...], kind: str, name: str) -> bool:
        holders = {"target": "target", "notifier": "notify", "intake": "intake", "ledger": "ledger"}
        if kind == "source":
            of_its_own = len(path) == 3 and path[2] == SHORT.get(name)
            return path[:1] == ("services",) and (of_its_own or (path[2:3] == ("sources",) and path[4:] == (name,)))
        return bool(path) and path[-1] == name and holders[kind] in path

    def _paths(self, node: yaml.Node | None, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
        yield path
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from self._paths(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield from self._paths(value, (*path, index))

    def excerpt(self, path: tuple[str | int, ...]) -> str:
        """The lines of the value at `path`, with its key."""
        node: Any = self._root
        start = 0
        for step in path:
            if isinstance(node, yaml.MappingNode):
                key, node = next((k, v) for k, v in node.value if k.value == step)
                start = key.start_mark.line
            else:
                node = node.value[step]
                start = node.start_mark.line
        lines = self._lines[start : max(_last_line(node), start) + 1]
        margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        return "\n".join(line[margin:] for line in lines)


def _last_line(node: yaml.Node) -> int:
    """The line where a value's text ends; a block's own mark lies on what follows it."""
    last = node.value[-1] if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style else None
    if last is not None:
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.line if node.end_mark is not None else 0

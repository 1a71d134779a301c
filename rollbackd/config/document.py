"""YAML text to plain values, with the line of each; hostile or broken text gives findings, never a crash."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import yaml
from yaml.constructor import SafeConstructor

from rollbackd.config.faults import Findings, KeyPath

MAX_BYTES = 4 * 1024 * 1024
"""The largest configuration file: room for some ten thousand services."""
MAX_VALUES = 200_000
"""The most values a file may hold once its aliases are followed."""
MAX_DEPTH = 40
"""The deepest nesting."""

_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"yes", "true", "on"})

_ADVICE = {
    "cannot start any token": "a tab or a reserved character begins a value here: indent with spaces, quote the text",
    "mapping values are not allowed": "a `:` where none can be: indent alike, or put the text in quotes",
    "could not find expected ':'": "a line without its `:`, or text over several lines that needs quotes",
    "undefined alias": "a `*` begins an alias that no anchor defines; text that begins with `*` needs quotes",
    "undefined tag": "a `!` begins a tag, which has no meaning here; text that begins with `!` needs quotes",
    "unexpected end of stream": "a quote or bracket is opened and never closed",
}
_PLAIN_ADVICE = "check indentation, brackets and quotes; text that begins with [ { & * ! % @ or ` needs quotes"


@dataclass(frozen=True)
class Document:
    """The values of a file. `lines` holds the line of every key and list item."""

    data: object = None
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int:
        """The line of a value; of the nearest one around it where it is not in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


def parse(raw: bytes, findings: Findings) -> Document:
    """The values of a YAML file; whatever is wrong with it goes to `findings`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        findings.add((), "not UTF-8 text: save the file in UTF-8", line)
        return Document()
    if (control := _NOT_YAML.search(text)) is not None:
        line = text.count("\n", 0, control.start()) + 1
        findings.add((), f"the control character U+{ord(control[0]):04X} is not allowed: remove it", line)
        return Document()
    try:
        if not _sound(text, findings):
            return Document()
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        line, message = _syntax(error)
        findings.add((), message, line)
        return Document()
    return _Builder(findings).document(root)


def _sound(text: str, findings: Findings) -> bool:
    """Whether the text is one document of bounded depth, found out without recursion."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                findings.add((), f"nested more than {MAX_DEPTH} deep", _line(event.start_mark))
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                message = "a second document begins here: a configuration is one, remove this `---`"
                findings.add((), message, _line(event.start_mark))
                return False
    return True


def _line(mark: _Mark | None) -> int:
    return mark.line + 1 if mark is not None else 1


def _syntax(error: yaml.YAMLError) -> tuple[int, str]:
    """Line and message of a syntax error. Text of the file is not repeated: it might be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return 1, f"not YAML: {_PLAIN_ADVICE}"
    problem = error.problem or "malformed"
    mark = error.problem_mark or error.context_mark
    if "could not find expected ':'" in problem and error.context_mark is not None:
        mark = error.context_mark
    line = _line(mark)
    for known, advice in _ADVICE.items():
        if known in problem:
            return line, f"not YAML: {advice}"
    return line, f"not YAML: {problem}; {_PLAIN_ADVICE}"


class _Mark(Protocol):
    @property
    def line(self) -> int: ...


class _TooMuchError(Exception):
    """The aliases of a small file make a huge one."""


class _Builder:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._lines: dict[KeyPath, int] = {}
        self._numbers = SafeConstructor()
        self._left = MAX_VALUES

    def document(self, root: yaml.Node | None) -> Document:
        if root is None:
            return Document()
        try:
            return Document(self._value(root, (), ()), self._lines)
        except _TooMuchError:
            self._findings.add((), f"more than {MAX_VALUES} values once its aliases are followed", 1)
            return Document()

    def _value(self, node: yaml.Node, path: KeyPath, around: tuple[int, ...]) -> object:
        self._spend()
        if id(node) in around:
            self._findings.add(path, "an alias to something that holds the alias itself", _line(node.start_mark))
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            self._tagged(node, path)
            return None
        around = (*around, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, around)
        items = []
        for index, item in enumerate(node.value):
            here = (*path, index)
            self._lines[here] = _line(item.start_mark)
            items.append(self._value(item, here, around))
        return items

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooMuchError

    def _tagged(self, node: yaml.Node, path: KeyPath) -> None:
        advice = "a tag (`!`) has no meaning here; text that begins with `!` needs quotes"
        self._findings.add(path, advice, _line(node.start_mark))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, around: tuple[int, ...]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in self._own(node, path):
            here, line = (*path, key.value), _line(key.start_mark)
            if key.value in found:
                message = f"written twice, first on line {self._lines[here]}: keep one of them"
                self._findings.note(here, message, line)
                continue
            self._lines[here] = line
            found[key.value] = self._value(value, here, around)
        for key, value in self._merged(node, path, around):
            self._spend()
            if key.value not in found:
                here = (*path, key.value)
                self._lines[here] = _line(key.start_mark)
                found[key.value] = self._value(value, here, around)
        return found

    def _own(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The entries but for merges. A key is the text as written: `on` and `42` are names, too."""
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                message = "a key must be plain text: is a template not filled in, or are quotes missing?"
                self._findings.note(path, message, _line(key.start_mark))
            elif key.tag != _TAG + "merge":
                yield key, value

    def _merged(
        self, node: yaml.MappingNode, path: KeyPath, around: tuple[int, ...]
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if not (isinstance(key, yaml.ScalarNode) and key.tag == _TAG + "merge"):
                continue
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                self._spend()
                if not isinstance(part, yaml.MappingNode) or id(part) in around:
                    message = "`<<` merges a mapping, or a list of mappings, defined by an anchor elsewhere"
                    self._findings.note((*path, "<<"), message, _line(key.start_mark))
                    continue
                yield from self._own(part, path)
                yield from self._merged(part, path, (*around, id(part)))

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        kind, text = node.tag.removeprefix(_TAG), str(node.value)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in _TRUE
        if kind in ("int", "float") and ":" not in text:
            return self._number(node, path)
        if kind in ("str", "timestamp", "merge", "value", "int", "float"):
            return text  # a moment stays text until a field wants one; 22:22 is no base-60 number
        self._tagged(node, path)
        return None

    def _number(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        try:
            if node.tag == _TAG + "int":
                return self._numbers.construct_yaml_int(node)
            return self._numbers.construct_yaml_float(node)
        except (ValueError, IndexError):
            self._findings.add(path, "no number that can be read: put text in quotes", _line(node.start_mark))
            return None

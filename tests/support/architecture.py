"""Rules of the house that a syntax tree shows, each as a function from a module to its violations."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_LINES = 400
"""A module longer than this does more than one thing."""

_IMPURE_MODULES = frozenset({"time", "random", "secrets", "os", "socket", "asyncio", "threading", "subprocess"})
_IMPURE_METHODS = frozenset({"now", "utcnow", "today", "read_text", "read_bytes", "write_text", "write_bytes"})
_IMPURE_FUNCTIONS = frozenset({"open", "print", "input", "exec", "eval"})


@dataclass(frozen=True)
class Module:
    """One source file, named by its dotted path."""

    name: str
    source: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.name)


def modules(package: Path) -> list[Module]:
    """All modules of a package on disk."""
    return [
        Module(".".join(path.relative_to(package.parent).with_suffix("").parts), path.read_text(encoding="utf-8"))
        for path in sorted(package.rglob("*.py"))
    ]


def without_docstring(module: Module) -> Iterator[str]:
    """A module says in its first line what it is for; an empty `__init__` has nothing to say."""
    if module.source.strip() and ast.get_docstring(module.tree) is None:
        yield f"{module.name}: no docstring"


def too_long(module: Module) -> Iterator[str]:
    lines = module.source.count("\n")
    if lines > MOST_LINES:
        yield f"{module.name}: {lines} lines, more than {MOST_LINES}"


def imports_inside_functions(module: Module) -> Iterator[str]:
    """An import inside a function hides a dependency, and often a cycle."""
    for function in ast.walk(module.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield f"{module.name}:{node.lineno}: import inside a function"


def impurities(module: Module) -> Iterator[str]:
    """Calls that read a clock, draw chance or touch the world."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and (called := _impure(node.func)) is not None:
            yield f"{module.name}:{node.lineno}: calls {called}"


def _impure(called: ast.expr) -> str | None:
    if isinstance(called, ast.Name) and called.id in _IMPURE_FUNCTIONS:
        return called.id
    if isinstance(called, ast.Attribute):
        text = ast.unparse(called)
        if text.partition(".")[0] in _IMPURE_MODULES or called.attr in _IMPURE_METHODS:
            return text
    return None

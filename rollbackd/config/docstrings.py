"""What is written below each field of a model, read from its source when somebody asks.

Pydantic can do so itself, but does it for each model whenever it is imported, which is a tenth of the daemon's start.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise

from rollbackd.fields import Model


def field_docstrings(model: type[Model]) -> dict[str, str]:
    """The docstrings of the fields, the inherited ones included, by the field's name."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, Model) and one is not Model:
            found |= _own(one)
    return found


def _own(model: type[Model]) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101  the source of a class is one
    found: dict[str, str] = {}
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = inspect.cleandoc(text)
    return found

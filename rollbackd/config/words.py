"""What pydantic found wrong, in the operator's words: the key, what is wrong with it, and what would be right.

Values are not repeated: a secret may have been written where it does not belong.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rollbackd.adapter import AdapterKind
from rollbackd.config.faults import Findings, KeyPath
from rollbackd.errors import RollbackdError
from rollbackd.fields import AsWritten, Model, Secret

ModelT = TypeVar("ModelT", bound=Model)

_SECRET = "a secret is written as the place where it is kept, {env: NAME} or {file: PATH}, never as its value"  # noqa: S105
_TEXT_OR_SECRET = "expected text, or for a secret the place where it is kept, {env: NAME} or {file: PATH}"  # noqa: S105
_SECRET_FORMS = {_SECRET, _TEXT_OR_SECRET}
_LISTS = {"list_type", "tuple_type", "set_type", "frozen_set_type"}
_MAPPINGS = {"model_type", "model_attributes_type", "dict_type", "dataclass_type"}
_SEVERAL: frozenset[AdapterKind] = frozenset({"source", "notifier"})
"""What may stand in a list."""
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean`, where something known looks alike; else what is known."""
    names = sorted(known)
    if (alike := _alike(word, names)) is not None:
        return f"did you mean `{alike}`?"
    return f"known here: {', '.join(names)}" if names else "nothing is known here"


def _alike(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1)), None)


def found(value: object) -> str:
    """What kind of thing stands there."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "something else")


def neither_bare_nor_settings(kind: AdapterKind, model: type[Model], field: str, value: object) -> str:
    """What to say where the value of one field, as text, or a mapping of settings would do, and neither is there."""
    expected = f"expected its `{field}` as text, or its settings as in {{{field}: ...}}; found {found(value)}"
    if not isinstance(value, list):
        return expected
    several = any(get_origin(one) in (list, tuple) for one in _accepted(model, (field,)))
    if several:
        return f"{expected}: write {{{field}: [...]}}"
    return f"{expected}: " + ("write an entry of its own for each" if kind in _SEVERAL else "there can be one only")


def validate(
    model: type[ModelT], value: object, path: KeyPath, findings: Findings, context: AsWritten, bare: str | None = None
) -> ModelT | None:
    """The model that `value`, which stands at `path`, makes; None where there are findings.

    `bare` says that the file has the value of that one field in place of the whole mapping.
    """
    before = len(findings.all)
    try:
        made = model.model_validate(value, context=context)
    except ValidationError as error:
        _report(model, value, path, findings, error.errors(include_url=False), bare)
        made = None
    except RollbackdError as error:
        findings.add(path, str(error))
        made = None
    _refuse_booleans([model], value, path, findings)
    return made if len(findings.all) == before else None


def _report(
    model: type[Model],
    value: object,
    path: KeyPath,
    findings: Findings,
    errors: Sequence[ErrorDetails],
    bare: str | None,
) -> None:
    said: dict[KeyPath, list[str]] = {}
    misspelt = _misspelt(model, value, errors)
    for error in errors:
        here = _in_data(value, error)
        if error["type"] == "missing" and here in misspelt:
            continue
        secret = _secret(model, here)
        if secret is None:
            said.setdefault(here, []).append(_message(model, here, error))
        else:
            said.setdefault(secret, []).append(_secret_message(model, error, secret))
    for here, messages in said.items():
        if any(other != here and other[: len(here)] == here for other in said):
            continue  # one form of a value with several is right in outline: what is wrong inside it says more
        if len(messages) > 1:
            messages = [message for message in messages if message not in _SECRET_FORMS] or messages
        shown = here[1:] if bare is not None and here[:1] == (bare,) else here
        findings.add((*path, *shown), "; or: ".join(dict.fromkeys(messages)))


def _misspelt(model: type[Model], value: object, errors: Iterable[ErrorDetails]) -> set[KeyPath]:
    """The keys that were meant by unknown ones: they are not missing as well."""
    unknown = [_in_data(value, error) for error in errors if error["type"] == "extra_forbidden"]
    meant = ((path, _alike(str(path[-1]), _keys(_accepted(model, path[:-1])))) for path in unknown)
    return {(*path[:-1], key) for path, key in meant if key is not None}


def _in_data(value: object, error: ErrorDetails) -> KeyPath:
    """The path of an error without the steps that pydantic adds for the members of a union."""
    path: list[str | int] = []
    for step in error["loc"]:
        if isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        elif isinstance(value, Mapping) and step in value:
            value = value.get(step)
        else:
            continue
        path.append(step)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    return tuple(path)


def options(annotation: object) -> list[object]:
    """The types that a field accepts, without the marks around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return options(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [option for member in get_args(annotation) for option in options(member)]
    return [annotation]


def _accepted(model: type[BaseModel], path: KeyPath) -> list[object]:
    """The types accepted at `path` in the model; empty where there is no such place."""
    here: list[object] = [model]
    for step in path:
        here = [option for accepted in here for option in _inside(accepted, step)]
    return here


def _inside(accepted: object, step: str | int) -> list[object]:
    if isinstance(accepted, type) and issubclass(accepted, BaseModel):
        for name, field in accepted.model_fields.items():
            if step in (name, field.alias):
                return options(field.annotation)
        return []
    origin, members = get_origin(accepted), get_args(accepted)
    if not isinstance(origin, type) or not members:
        return []
    if issubclass(origin, Mapping) and isinstance(step, str):
        return options(members[1])
    if issubclass(origin, Sequence | set | frozenset) and isinstance(step, int):
        return options(members[0] if members[-1] is Ellipsis or len(members) <= step else members[step])
    return []


def _keys(accepted: Iterable[object]) -> list[str]:
    return [
        field.alias or name
        for one in accepted
        if isinstance(one, type) and issubclass(one, BaseModel)
        for name, field in one.model_fields.items()
    ]


def _secret(model: type[Model], path: KeyPath) -> KeyPath | None:
    """The path of the secret that `path` is, or lies in."""
    for length in range(len(path) + 1):
        if Secret in _accepted(model, path[:length]):
            return path[:length]
    return None


def _secret_message(model: type[Model], error: ErrorDetails, secret: KeyPath) -> str:
    if error["type"] == "value_error":
        return _own_words(error)
    form = _TEXT_OR_SECRET if str in _accepted(model, secret) else _SECRET
    missing = error["type"] == "missing" and error["loc"][-1] == secret[-1]
    return f"required, but missing: {form}" if missing else form


def _own_words(error: ErrorDetails) -> str:
    return str(error.get("ctx", {}).get("error", error["msg"]))


def _message(model: type[Model], path: KeyPath, error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    accepted = _accepted(model, path)
    what = found(error["input"])
    if kind == "extra_forbidden":
        return f"unknown key; {suggestion(str(path[-1]), _keys(_accepted(model, path[:-1])))}"
    if kind == "missing":
        return "required, but missing: add it"
    if kind == "value_error":
        return _own_words(error)
    if kind in _MAPPINGS:
        keys = ", ".join(_keys(accepted))
        return f"expected a mapping{f' of {keys}' if keys else ''}; found {what}"
    if kind in _LISTS:
        return f"expected a list, as in [one, two]; found {what}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}"
    return _message_of_scalar(kind, what, accepted, error)


def _message_of_scalar(kind: str, what: str, accepted: Iterable[object], error: ErrorDetails) -> str:
    if kind in ("string_type", "path_type"):
        quote = ": put it in quotes" if what in ("a number", "true", "false") else ""
        return f"expected text; found {what}{quote}"
    if kind.startswith("bool_"):
        return f"expected true or false; found {what}"
    if kind.startswith("int_"):
        return f"expected a whole number; found {'another' if what == 'a number' else what}"
    if kind.startswith("float_"):
        return f"expected a number; found {what}"
    if kind == "literal_error":
        words = [str(word) for one in accepted if get_origin(one) is Literal for word in get_args(one)]
        value = error["input"]
        if not isinstance(value, str):
            return f"expected {' or '.join(words)}; found {what}"
        hint = f"; {suggestion(value, words)}" if _alike(value, words) else ""
        return f"expected {' or '.join(words)}{hint}"
    if kind.startswith(("datetime_", "timezone_")):
        return "expected a moment with its UTC offset, as in 2026-12-24T00:00:00Z"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _refuse_booleans(accepted: list[object], value: object, path: KeyPath, findings: Findings) -> None:
    """Where only a number will do, pydantic takes true for 1, and YAML takes `on` for true."""
    if isinstance(value, bool):
        wanted = set(accepted) - {type(None)}
        if wanted and wanted <= {int, float}:
            findings.add(
                path, f"expected a number; found {found(value)}, which is also how YAML reads yes, no, on, off"
            )
        return
    steps: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, Mapping):
        steps = value.items()
    elif isinstance(value, list):
        steps = enumerate(value)
    for step, part in steps:
        inside = [option for one in accepted for option in _inside(one, step)]
        if inside:
            _refuse_booleans(inside, part, (*path, step), findings)

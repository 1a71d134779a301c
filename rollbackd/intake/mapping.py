"""Hooks whose payload the operator maps, field by field, with JMESPath expressions (https://jmespath.org).

An expression has neither loops nor references to what is around it, so what it takes grows with the payload, which is
kept small. Whatever a payload does to it is the sender's fault and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, TypeAlias, TypeVar

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from pydantic import AfterValidator, Field, model_validator

from rollbackd.fields import Model, Size
from rollbackd.intake.base import Accepted, Delivery, Reading, Rejected, Signature
from rollbackd.intake.reading import decode, did_you_mean, each
from rollbackd.intake.signature import SecretHeaderSettings, SignedBodySettings

MAX_ITEMS = 1000
"""Items of one delivery that are looked at; more are counted as `truncated`."""

MAX_NUMBER = 1e300
"""A larger one names nothing."""


def _compiled(text: str) -> str:
    try:
        parsed = jmespath.compile(text).parsed
    except JMESPathError as error:
        raise ValueError(f"this is no JMESPath expression: {_first_line(error)}") from None
    except RecursionError:
        raise ValueError("this expression is nested too deeply") from None
    for function in _functions(parsed):
        if function not in Functions.FUNCTION_TABLE:
            hint = did_you_mean(function, Functions.FUNCTION_TABLE)
            raise ValueError(f"JMESPath has no function `{function}`{hint}")
    return text


def _functions(node: object) -> Iterator[str]:
    if not isinstance(node, dict):  # the bounds of a slice
        return
    if node["type"] == "function_expression":
        yield str(node["value"])
    children = node.get("children")
    for child in children if isinstance(children, list) else ():
        yield from _functions(child)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


HookT = TypeVar("HookT")

Expression: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_compiled)]
"""A JMESPath expression, as operators write it."""

_HOOK_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _named(hooks: dict[str, HookT]) -> dict[str, HookT]:
    for name in hooks:
        if not _HOOK_NAME.fullmatch(name):
            raise ValueError(f"`{name}` is part of a path: use letters, digits, `-` and `_`, at most 64")
    return hooks


HookNames = AfterValidator(_named)
"""Sees to it that the names of hooks can be parts of a path."""


class MappedHook(Model):
    """What every mapped hook has: who may call it, and where its items and their services are."""

    items: Expression | None = None
    """Where the list of items is; left out, the whole payload is one item."""
    service: Expression
    """Where in an item the service is named."""
    services: dict[str, str] = Field(default_factory=dict)
    """What the sender calls services, and what they are called here; other names are taken as they are."""
    hmac: SignedBodySettings | None = None
    """How the sender signs its deliveries."""
    secret_header: SecretHeaderSettings | None = None
    """The secret that the sender sends in a header of its choice."""

    @model_validator(mode="after")
    def _one_credential(self) -> MappedHook:
        if self.hmac is not None and self.secret_header is not None:
            raise ValueError("a hook has one of `hmac` and `secret_header`")
        return self

    def signature(self, name: str) -> Signature | None:
        """The credential in the sender's own form, if it has one."""
        settings = self.hmac or self.secret_header
        return settings.signature(name) if settings is not None else None


class HookSettings(Model):
    """What both kinds of mapped hooks share."""

    max_bytes: Annotated[Size, Field(gt=0, le=1024 * 1024)] = 256 * 1024
    """The largest delivery, after decompression; 1 MiB at most, since expressions take their time."""


class HookSignatures:
    """The credentials of several hooks: each lets in only to its own."""

    def __init__(self, hooks: Mapping[str, Signature]) -> None:
        self._hooks = hooks
        self._headers = sorted({header for signature in hooks.values() for header in signature.headers})

    @property
    def headers(self) -> Sequence[str]:
        return self._headers

    def presented(self, headers: Mapping[str, str]) -> bool:
        return any(signature.presented(headers) for signature in self._hooks.values())

    async def verify(self, delivery: Delivery) -> str:
        signature = self._hooks.get(delivery.params.get("hook", ""))
        if signature is None or not signature.presented(delivery.headers):
            raise Rejected("this hook asks for another credential", status=401, code="wrong_signature")
        return await signature.verify(delivery)


def signatures(kind: str, hooks: Mapping[str, MappedHook]) -> HookSignatures | None:
    """The credentials of the hooks that have one; None where none has."""
    found = {name: hook.signature(f"{kind}/{name}") for name, hook in hooks.items()}
    known = {name: signature for name, signature in found.items() if signature is not None}
    return HookSignatures(known) if known else None


class Finder:
    """One field's expression at work. Whatever it does not find, or cannot be applied to, it says by its name."""

    def __init__(self, field: str, expression: str) -> None:
        self._said = f"`{field}: {expression}`"
        self._expression = jmespath.compile(expression)

    def value(self, item: object) -> object:
        """What it finds; None for nothing. Raises Rejected where it cannot be applied."""
        try:
            return self._expression.search(item)
        except JMESPathError as error:
            raise Rejected(f"{self._said} cannot be applied: {_first_line(error)}") from None
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise Rejected(f"{self._said} cannot be applied to this payload ({type(error).__name__})") from None

    def optional_text(self, item: object) -> str | None:
        """The text or number it finds, as text; None for nothing. Raises Rejected for anything else."""
        found = self.value(item)
        if isinstance(found, str):
            return found.strip() or None
        if isinstance(found, int | float) and not isinstance(found, bool):
            if not abs(found) <= MAX_NUMBER:
                raise Rejected(f"{self._said} finds a number that is too large to be meant")
            return str(found) if abs(found) < 1e18 else repr(float(found))
        if found is None:
            return None
        raise Rejected(f"{self._said} finds a {_KINDS.get(type(found), 'value')} where text or a number is wanted")

    def text(self, item: object) -> str:
        """The same. Raises Rejected for nothing, too."""
        found = self.optional_text(item)
        if found is None:
            raise Rejected(f"{self._said} finds nothing in {excerpt(item)}")
        return found


_KINDS: Mapping[type, str] = {dict: "mapping", list: "list", bool: "boolean"}


def finder(field: str, expression: str | None) -> Finder | None:
    """A finder, where there is an expression."""
    return Finder(field, expression) if expression is not None else None


def excerpt(item: object) -> str:
    """What an item looks like, for a message: its keys, and no value, since values may be secret."""
    if isinstance(item, dict):
        keys = [str(key)[:30] for key in list(item)[:12]]
        return f"an item with the keys {', '.join(f'{key!a}' for key in keys) or '(none)'}"
    return f"an item that is a {_KINDS.get(type(item), 'value')}"


def read_items(body: bytes, items: Finder | None, read: Callable[[object], Accepted | str]) -> Reading:
    """The items of a payload, each read by `read`. Raises Rejected where there is no list of them."""
    payload = decode(body, object)
    if items is None:
        return each([payload], read, "")
    found = items.value(payload)
    if not isinstance(found, list):
        raise Rejected(f"`items` finds no list in {excerpt(payload)}")
    left = len(found) - MAX_ITEMS
    return each(found[:MAX_ITEMS], read, "item", {"truncated": left} if left > 0 else {})

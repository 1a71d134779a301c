"""One value of a YAML manifest: a small expression that finds it, and what of an image reference is the version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import yaml
from pydantic import AfterValidator

from rollbackd.errors import Permanent

LONGEST_MANIFEST = 256 * 1024
"""How many bytes of a manifest are read: hundreds of times what people write, and a second of the parser's time."""

Part: TypeAlias = Literal["whole", "tag", "digest"]

_STEP = re.compile(r"(?P<name>[^.\[\]=]+)|\[(?P<index>[0-9]{1,6})\]|\[(?P<field>[^.\[\]=]+)=(?P<value>[^\[\]]+)\]")
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")
_TAG = re.compile(r":([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$")


@dataclass(frozen=True)
class Field:
    """A name in a mapping."""

    name: str


@dataclass(frozen=True)
class Index:
    """A place in a list, from 0."""

    place: int


@dataclass(frozen=True)
class Where:
    """The first mapping of a list in which `field` is `value`."""

    field: str
    value: str


Step: TypeAlias = Field | Index | Where


def steps(expression: str) -> tuple[Step, ...]:
    """`spec.containers[name=app].image` or `images[0].newTag` as steps. Raises ValueError with what would be right."""
    found: list[Step] = []
    at = 0
    while at < len(expression):
        if found and expression[at] == ".":
            at += 1
        elif found and expression[at] != "[":
            break
        match = _STEP.match(expression, at)
        if match is None or (match["name"] is None and at > 0 and expression[at - 1] == "."):
            break
        at = match.end()
        if match["name"] is not None:
            found.append(Field(match["name"]))
        elif match["index"] is not None:
            found.append(Index(int(match["index"])))
        else:
            found.append(Where(match["field"], match["value"]))
    if not found or at < len(expression) or expression.endswith("."):
        raise ValueError("write a path such as `image.tag`, `images[0].newTag` or `containers[name=app].image`")
    return tuple(found)


def _readable(expression: str) -> str:
    steps(expression)
    return expression


Expression: TypeAlias = Annotated[str, AfterValidator(_readable)]
"""Names joined by dots, with `[0]` or `[name=app]` where there is a list."""


def value(manifest: bytes, expression: str, part: Part = "whole") -> str:
    """What the expression finds, as it is written there (`1.10` stays `1.10`).

    In a file of several documents the first one counts that has something there. Raises Permanent, the message being
    the end of a sentence that begins with the file's name, where the manifest is no YAML or has no such value.
    """
    if len(manifest) > LONGEST_MANIFEST:
        raise Permanent(f"is larger than {LONGEST_MANIFEST} bytes, which no manifest is")
    path = steps(expression)
    try:
        # every scalar as text: a tag 1.10 is not the number 1.1
        documents = yaml.load_all(manifest, Loader=yaml.BaseLoader)
        found = next((one for document in documents if (one := _follow(document, path)) is not None), None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if isinstance(mark, yaml.Mark) else ""
        raise Permanent(f"is not plain YAML{where}: a template cannot be read, name a file of values") from None
    except (RecursionError, ValueError, TypeError):
        raise Permanent("is not plain YAML: it is nested too deeply, or says what cannot be") from None
    if found is None:
        raise Permanent(f"has no text at `{expression}`")
    version = part_of(found, part)
    if version is None:
        raise Permanent(f"has an image without {part} at `{expression}`")
    return version


def part_of(reference: str, part: Part) -> str | None:
    """The tag or digest of an image reference such as `registry:5000/app:1.2@sha256:...`; None where it has none."""
    if part == "whole":
        return reference
    digest = _DIGEST.search(reference)
    if part == "digest":
        return digest[1] if digest else None
    tag = _TAG.search(reference[: digest.start()] if digest else reference)
    return tag[1] if tag else None


def _follow(node: object, path: tuple[Step, ...]) -> str | None:
    for step in path:
        node = _next(node, step)
        if node is None:
            return None
    return node.strip() if isinstance(node, str) and node.strip() else None


def _next(node: object, step: Step) -> object:
    match step:
        case Field(name):
            return node.get(name) if isinstance(node, dict) else None
        case Index(place):
            return node[place] if isinstance(node, list) and place < len(node) else None
        case Where(field, wanted):
            among = node if isinstance(node, list) else []
            return next((one for one in among if isinstance(one, dict) and one.get(field) == wanted), None)

"""What of an API server's refusal may stand in a message: pure.

A refusal quotes the manifest: the value that is wrong, or all of the object that a patch made (`patch: Invalid value:
"{...}"`), and what a field's explanation or a webhook adds may say it again without quotes. A value may be a password.
So what is passed on is what was refused, which field and how; what is quoted is, where it is a name.
Source: k8s.io/apimachinery, pkg/util/validation/field/errors.go and pkg/api/errors/errors.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from rollbackd.kubernetes.objects import Cause, Status

FIELDS = 5
"""How many fields are named; a template that is wrong at one is often wrong at many."""
HIDDEN = '"***"'

_KINDS = {
    "FieldValueNotFound": "Not found",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueTypeInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueTooLong": "Too long",
    "FieldValueTooShort": "Too short",
    "FieldValueTooMany": "Too many",
    "FieldValueTooFew": "Too few",
    "InternalError": "Internal error",
}
"""What the server itself calls each, by the reason of a cause."""

_REASON = re.compile(r"[A-Za-z]{1,60}")
"""What the reason of a cause looks like: one of a few words, and no value."""
_FIELD = re.compile(r"[A-Za-z0-9_.\-/\[\]()~:]{1,200}")
_WORD = re.compile(r"[A-Za-z0-9.\-]{1,253}")
_FREE = re.compile(
    rf"(?:{'|'.join(sorted(set(_KINDS.values())))}|denied (?:the )?request|error found in #\d+ byte)\b(?=:| of)"
)
"""What somebody else's words follow, or a value."""

_BEFORE = (
    r"(?:\b(?:User|resource|group|namespace|webhook|binding|kind|ValidatingAdmissionPolicy|Get|Post|Patch|Put|Delete) )"
)
_AFTER = r"(?= (?:is (?:invalid|forbidden)|with kind)\b)"
_QUOTED = re.compile(
    rf"(?P<before>{_BEFORE})?"
    r"""(?P<whole>"(?P<double>(?:[^"\\]|\\.)*)("|$)|`[^`]*(?:`|$)|(?<!\w)'(?P<single>[^']*)(?:'|$))"""
    rf"(?P<after>{_AFTER})?",
    re.DOTALL,
)
_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.:\-]{0,252}|https?://[A-Za-z0-9.:\-\[\]]+(?:/[A-Za-z0-9./:\-]*)?(?:\?timeout=\w+)?"
)
"""What names look like, and the addresses that Go's HTTP client quotes."""


def told(body: str) -> str:
    """The server's reason in an answer that is none of what was asked for; empty where it gives none."""
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.MsgspecError, RecursionError):
        # what is no JSON is a proxy's; broken JSON may be half of what was sent
        return "" if body.lstrip()[:1] in ("{", "[", '"') else without_values(body)
    details = status.details
    fields = list(_fields(details.causes)) if details is not None else []
    if details is None or not fields:
        return without_values(status.message, (details.name,) if details is not None else ())
    what = ".".join(word for word in (details.kind, details.group) if word)
    words = " ".join(word for word in (what, details.name) if _WORD.fullmatch(word)) or "what was sent"
    more = f", and {len(fields) - FIELDS} more" if len(fields) > FIELDS else ""
    return f"{words} is invalid: {', '.join(fields[:FIELDS])}{more}"


def _fields(causes: Iterable[Cause]) -> Iterator[str]:
    for cause in causes:
        if cause.field:
            field = cause.field if _FIELD.fullmatch(cause.field) else "a field"
            other = cause.reason if _REASON.fullmatch(cause.reason) else "Invalid value"
            yield f"{field}: {_KINDS.get(cause.reason, other)}"


def without_values(words: str, names: Iterable[str] = ()) -> str:
    """An API server's words, perhaps within those of who asked it, up to where a value or somebody else's begin.

    Before that, what stands in quotes stays where it is one of `names` or the words around it say that it is a name.
    A quotation over the end of a line is the end, too: it may be the wrong pair of quotes, and bare what is in others.
    """
    found = _FREE.search(words)
    words = words[: found.end()] if found is not None else words
    across = next((quoted for quoted in _QUOTED.finditer(words) if "\n" in quoted["whole"]), None)
    words = words[: across.start("whole")] + HIDDEN if across is not None else words
    known = {name for name in names if _NAME.fullmatch(name)}

    def shown(quoted: re.Match[str]) -> str:
        before = quoted["before"] or ""
        inside = quoted["double"] if quoted["double"] is not None else quoted["single"]
        named = inside is not None and _NAME.fullmatch(inside) is not None
        keeps = named and (inside in known or bool(before) or quoted["after"] is not None)
        return quoted[0] if keeps else before + HIDDEN

    return _QUOTED.sub(shown, words)

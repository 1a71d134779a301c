"""Checks a JSON value against a JSON Schema of the kind that msgspec makes; an unknown keyword is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_SAID_ONLY = frozenset({"title", "description", "default", "examples"})
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def faults(value: object, schema: Schema, components: Mapping[str, Schema], place: str = "$") -> list[str]:
    """Why the value does not fit, one sentence each; empty where it fits."""
    found: list[str] = []
    for keyword, wanted in schema.items():
        match keyword:
            case "$ref":
                found += faults(value, components[wanted.rsplit("/", 1)[1]], components, place)
            case "anyOf" | "oneOf":
                tried = [faults(value, option, components, place) for option in wanted]
                if all(tried):
                    found.append(f"{place}: fits no alternative: {tried}")
            case "type":
                if not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
                    found.append(f"{place}: {value!r} is no {wanted}")
            case "enum":
                if value not in wanted:
                    found.append(f"{place}: {value!r} is none of {wanted}")
            case "const":
                if value != wanted:
                    found.append(f"{place}: {value!r} is not {wanted!r}")
            case "format" if wanted == "binary":
                pass  # says that any text will do
            case "required":
                found += [
                    f"{place}: {name} is missing" for name in wanted if isinstance(value, dict) and name not in value
                ]
            case "properties":
                found += _properties(value, schema, components, place)
            case "additionalProperties":
                found += _others(value, schema, components, place)
            case "items" | "prefixItems":
                found += _items(value, schema, components, place) if keyword == "items" else []
            case "minItems" | "minLength":
                if isinstance(value, list | str) and len(value) < wanted:
                    found.append(f"{place}: too short")
            case "maxItems" | "maxLength":
                if isinstance(value, list | str) and len(value) > wanted:
                    found.append(f"{place}: too long")
            case "minimum":
                if isinstance(value, int | float) and value < wanted:
                    found.append(f"{place}: below {wanted}")
            case "discriminator":
                pass
            case _:
                if keyword not in _SAID_ONLY:
                    found.append(f"{place}: the schema uses `{keyword}`, which is not checked here")
    return found


def _properties(value: object, schema: Schema, components: Mapping[str, Schema], place: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    known = schema["properties"]
    # An answer with a field that the document does not tell is a fault here, though JSON Schema would let it pass.
    extra = (
        [] if "additionalProperties" in schema else [f"{place}: {name} is not told" for name in value.keys() - known]
    )
    return extra + [
        fault
        for name in value.keys() & known.keys()
        for fault in faults(value[name], known[name], components, f"{place}.{name}")
    ]


def _others(value: object, schema: Schema, components: Mapping[str, Schema], place: str) -> list[str]:
    allowed = schema["additionalProperties"]
    if not isinstance(value, dict) or allowed is True:
        return []
    names = value.keys() - schema.get("properties", {}).keys()
    if allowed is False:
        return [f"{place}: {name} is not allowed" for name in names]
    return [fault for name in names for fault in faults(value[name], allowed, components, f"{place}.{name}")]


def _items(value: object, schema: Schema, components: Mapping[str, Schema], place: str) -> list[str]:
    if not isinstance(value, list):
        return []
    first = schema.get("prefixItems", [])
    rest = schema["items"]
    found: list[str] = []
    for index, item in enumerate(value):
        wanted = first[index] if index < len(first) else rest
        if wanted is False:
            found.append(f"{place}[{index}]: one too many")
        else:
            found += faults(item, wanted, components, f"{place}[{index}]")
    return found

"""The JSON Schema (draft 2020-12) of the whole file, the adapters' blocks among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from rollbackd.adapter import AdapterKind
from rollbackd.config.blocks import STREAMS, Catalog
from rollbackd.config.docstrings import field_docstrings
from rollbackd.config.schema import Config
from rollbackd.errors import ConfigError
from rollbackd.fields import Model, Secret, duration_text, ratio_text, size_text

JsonObject: TypeAlias = dict[str, Any]

_TEXT: Mapping[str, Callable[[Any], str]] = {"duration": duration_text, "ratio": ratio_text, "size": size_text}


class _Generator(GenerateJsonSchema):
    """Writes defaults as an operator would, and leaves out those that only repeat the fields of a section."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        if issubclass(schema["cls"], Model):
            docstrings = field_docstrings(schema["cls"])
            for name, field in made.get("properties", {}).items():
                if name in docstrings:
                    field.setdefault("description", docstrings[name])
        return made

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        default = schema.get("default")
        if isinstance(default, Model):
            made.pop("default", None)
            if made.get("type") == "string":
                made["default"] = str(default)
        elif isinstance(default, frozenset):
            made["default"] = sorted(default)
        elif made.get("x-kind") in _TEXT and default is not None:
            made["default"] = _TEXT[made["x-kind"]](default)
        return made


def json_schema(catalog: Catalog) -> JsonObject:
    """The schema of a configuration file that may name any adapter of the catalog.

    `x-kind` marks durations, ratios, sizes and secrets for those who make something of the schema. Adapters that
    cannot be imported, for want of a package, are left out.
    """
    schema: JsonObject = Config.model_json_schema(schema_generator=_Generator)
    definitions: JsonObject = schema.setdefault("$defs", {})
    places = _Blocks(catalog, definitions).by_place()
    filled: JsonObject = _filled(schema, {place: _filled(form, {}) for place, form in places.items()})
    filled["$defs"] = dict(sorted(filled["$defs"].items()))
    filled["required"] = []
    filled["type"] = ["object", "null"]
    filled["title"] = "rollbackd configuration"
    _allow_null(filled)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **filled}


class _Blocks:
    def __init__(self, catalog: Catalog, definitions: JsonObject) -> None:
        self._catalog, self._definitions = catalog, definitions
        self._known: dict[AdapterKind, dict[str, JsonObject]] = {
            kind: self._settings_of(kind) for kind in ("target", "source", "notifier", "intake", "ledger")
        }

    def by_place(self) -> dict[str, JsonObject]:
        """What may stand at each place that the configuration's own model leaves open, by its `x-block`."""
        source = self._known["source"]
        named = {"name": {"type": "string", "minLength": 1, "description": "Tells this entry from others of its kind."}}
        places: dict[str, JsonObject] = {
            "target": self._one_of("target"),
            "ledger": {"anyOf": [self._one_of("ledger"), {"type": "null"}]},
            "sources": {"type": ["array", "null"], "items": self._one_of("source", named)},
            "notify": {"type": ["array", "null"], "items": self._one_of("notifier", named)},
            "intake": {
                "type": ["object", "null"],
                "properties": {
                    name: {"anyOf": [settings, {"type": "boolean"}]} for name, settings in self._known["intake"].items()
                },
                "additionalProperties": False,
            },
        }
        for key, name in STREAMS.items():
            form = source.get(name, False)
            places[key] = {"anyOf": [form, {"type": "array", "items": form}, {"type": "null"}]}
        return places

    def _one_of(self, kind: AdapterKind, beside: JsonObject | None = None) -> JsonObject:
        return {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {name: settings, **(beside or {})},
                    "required": [name],
                    "additionalProperties": False,
                }
                for name, settings in self._known[kind].items()
            ]
            or [False]
        }

    def _settings_of(self, kind: AdapterKind) -> dict[str, JsonObject]:
        """For each adapter what may follow its name: its settings, and its shorthand; nothing, if all has defaults."""
        known: dict[str, JsonObject] = {}
        for name in self._catalog.names(kind):
            try:
                adapter = self._catalog.load(kind, name)
            except ConfigError:
                continue
            prefix = f"{kind}.{name}"
            model: type[Model] = adapter.config
            settings = model.model_json_schema(schema_generator=_Generator, ref_template=f"#/$defs/{prefix}.{{model}}")
            for inner, definition in settings.pop("$defs", {}).items():
                if inner != Secret.__name__:  # it is every adapter's, and the file's own
                    self._definitions[f"{prefix}.{inner}"] = definition
            if "$ref" in settings and len(settings) == 1:
                settings = {"allOf": [settings]}
            self._definitions[prefix] = settings
            forms: list[JsonObject] = [{"$ref": f"#/$defs/{prefix}"}]
            if adapter.shorthand is not None:
                forms.append({"type": "string", "title": adapter.shorthand})
            if not settings.get("required"):
                forms.append({"type": "null"})
            known[name] = {"anyOf": forms} if len(forms) > 1 else forms[0]
        return known


def _filled(node: Any, places: Mapping[str, JsonObject]) -> Any:
    """A copy of the schema in which every `x-block` is what may stand there."""
    if isinstance(node, list):
        return [_filled(item, places) for item in node]
    if not isinstance(node, dict):
        return node
    filled = {key: _filled(value, places) for key, value in node.items()}
    reference = filled.get("$ref")
    if isinstance(reference, str) and reference.endswith(f".{Secret.__name__}"):
        filled["$ref"] = f"#/$defs/{Secret.__name__}"
    place = filled.pop("x-block", None)
    if place is None:
        return filled
    filled.pop("default", None)
    return {**filled, "x-block": place, **places[place]}


def _allow_null(schema: JsonObject) -> None:
    """A section may be left empty, as when everything in it is commented out."""
    for key in ("log", "auth", "limits", "fleet", "defaults", "services"):
        section = schema["properties"][key]
        form = {"$ref": section.pop("$ref")} if "$ref" in section else {"type": section.pop("type")}
        section["anyOf"] = [form, {"type": "null"}]
    services = schema["properties"]["services"]
    services["x-block"] = "services"
    services["additionalProperties"] = {"anyOf": [services["additionalProperties"], {"type": "null"}]}

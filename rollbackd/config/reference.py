"""The reference of the configuration file as Markdown, made from the schema and from an example file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rollbackd.config.excerpt import SHORT, Example
from rollbackd.config.json_schema import JsonObject

_INTRODUCTION = """\
# Configuration

*Made by `tools/configuration_reference.py` from the schema and from `config/full.yaml`: edit those, not this page.*

One YAML file says everything, and a useful one is short:

```yaml
{minimal}
```

Everything may be left out; what is left out has the default given below, and the defaults are meant to be left alone.
`rollbackd check -c FILE` lists every fault of a file in one run, each with its line and what would be right.
`rollbackd schema` prints the same as this page for programs; an editor that knows JSON Schema completes and checks
with it. More examples are in `config/`: `minimal.yaml`, `shadow.yaml`, `fleet.yaml`, `own-scripts.yaml` and
`full.yaml`, which shows every setting.

## How values are written

| kind | written | note |
|---|---|---|
| duration | `30s`, `5m`, `1h30m`, `250ms`, `2d` | always with its unit; only `0` needs none |
| ratio | `1%` or `0.01` | a share of one |
| size | `64MiB`, `10MB` or a number of bytes | |
| secret | `{{env: NAME}}` or `{{file: PATH}}` | where the credential is kept, never the credential itself |
| moment | `2026-12-24T00:00:00Z` | with its UTC offset |

The file of a secret is read anew when it is needed, so a credential can be rotated without a reload.
A key is text as it stands there, also `on`, `no` or `42`. Anchors, aliases and `<<` merges work. The file is UTF-8, and
at most 4 MiB.

## Checking it

`rollbackd check -c FILE` exits with 0 where the file is in order and with 2 where it has faults. Each fault is a line
`FILE:LINE: where: what is wrong, and what would be right` on standard output. It also asks that every secret can be
read; `--without-secrets` leaves that out, for machines that must not have them. With `--format json` it prints one
object: `file`, `valid`, `faults` (each with `file`, `line`, `where`, `message`; line 0 is the file as a whole),
`config` (`sha256`, and `commit` or null), `services` (each with `name`, `mode`, `target` or null, `sources`), and
`notes`, sentences on what is allowed but perhaps not meant.

## Changing it

The daemon reads the file again when it changes, and on SIGHUP (`systemctl reload rollbackd`, or `kill -HUP PID`).

- **Taken over at once**: `services` with their sources and targets, `defaults`, `mode`, `auth`, `fleet`, `notify` and
  `limits`. Services that did not change go on undisturbed, and open watches keep the baselines they have.
- **Only at a restart**: `listen`, `data_dir`, `ledger`, `record`, `log` and `intake`. Where one of them changed, the
  whole file is refused until then. At a restart watches, evidence and rollbacks go on where they were.
- **Later**: while a rollback of a service runs whose settings changed, the whole file waits for its end.
- **Without any reload**: the file of a secret. An environment variable changes at a restart only.
- **Never**: a file that leaves no service, as one that was cut short does. To watch nothing, stop the daemon.

A file with faults is refused as a whole: the log names
every fault (`config_refused`), `rollbackd status` shows the problem, and the configuration in force stays. Each
decision is recorded with the SHA-256 of the file it was made under and, where the file lies in a git work tree, with
the commit, marked `-dirty` where the file differs from it. The repository has to be readable for the daemon's user, and
to belong to that user or to root.
"""

_ADAPTERS = {
    "target": ("Targets", "Where a service's releases run, and how an old one is put back: `target: {NAME: ...}`."),
    "source": ("Sources", "What is watched: an entry `{NAME: ...}` of a service's `sources`."),
    "notifier": ("Notifiers", "Who is told: an entry `{NAME: ...}` of `notify`, with a `name` of its own if you like."),
    "intake": ("Intakes", "What others may push over HTTP: `intake: {NAME: ...}`, or `{NAME: off}`."),
    "ledger": ("Ledgers", "Where it is remembered what was decided and done: `ledger: {NAME: ...}`."),
}
_TITLES = {
    "LogSettings": "log",
    "AuthSettings": "auth",
    "Limits": "limits",
    "FleetPolicy": "fleet",
    "Service": "a service",
}


def markdown(schema: JsonObject, full: str, minimal: str) -> str:
    """The page. `full` is the example file from which each section shows its part, `minimal` the one to begin with."""
    return _Page(schema, full).text(_INTRODUCTION.format(minimal=_bare(minimal)))


def _bare(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()


class _Page:
    def __init__(self, schema: JsonObject, full: str) -> None:
        definitions = schema["$defs"]
        shared = definitions["Defaults"]["properties"]
        service = definitions["Service"]
        own = {key: field for key, field in service["properties"].items() if key not in shared}
        self._definitions: Mapping[str, JsonObject] = {**definitions, "Service": {**service, "properties": own}}
        self._schema = schema
        self._example = Example(full)
        self._shown: list[str] = []

    def text(self, introduction: str) -> str:
        parts = [introduction, "## The file", self._table(self._schema)]
        for key in ("log", "auth", "limits", "fleet"):
            parts += self._section(_referred(self._schema["properties"][key]), f"## `{key}`", (key,))
        too = "Every key of [`defaults`](#defaults) may stand here, too."
        parts += self._section("Service", "## A service", ("services", "checkout"), too)
        parts += self._section("Defaults", "## `defaults`", ("defaults",))
        for kind, (title, about) in _ADAPTERS.items():
            parts += [f"## {title}", about]
            for name in sorted(self._definitions):
                if name.startswith(f"{kind}.") and name.count(".") == 1:
                    parts += self._adapter(kind, name)
        return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"

    def _adapter(self, kind: str, name: str) -> Iterator[str]:
        plain = name.partition(".")[2]
        yield from self._section(name, f"### `{plain}`", self._example.adapter(kind, plain), self._forms(kind, plain))

    def _forms(self, kind: str, name: str) -> str:
        """The shorter ways to write an adapter's block."""
        texts = [form["title"] for form in _block_forms(self._schema, kind, name) if form.get("type") == "string"]
        sentences = []
        if kind == "source" and name in SHORT:
            key = SHORT[name]
            sentences.append(f"A service's `{key}:` is this source without its name, one or a list.")
        if texts:
            sentences.append(f"Text alone is its `{texts[0]}`.")
        return " ".join(sentences)

    def _section(self, name: str, heading: str, at: tuple[str | int, ...] | None, beside: str = "") -> Iterator[str]:
        definition = self._definitions[name]
        self._shown.append(name)
        yield heading
        yield _prose(definition)
        yield beside
        yield self._table(definition)
        if at is not None and (excerpt := self._example.excerpt(at)):
            yield f"```yaml\n{excerpt}\n```"
        level = heading.partition(" ")[0] + "#"
        for inner in dict.fromkeys(_references(definition)):
            if self._link(inner) is None and inner != "Secret":
                yield from self._section(inner, f"{level} {_title(inner)}", None)

    def _link(self, name: str) -> str | None:
        """The anchor of what was described before, here or under another adapter in the same words."""
        for shown in self._shown:
            if self._definitions[shown] == self._definitions[name] and _title(shown) == _title(name):
                return f"#{_anchor(_title(shown))}"
        return None

    def _table(self, definition: JsonObject) -> str:
        rows = ["| key | written | default | meaning |", "|---|---|---|---|"]
        required = definition.get("required", [])
        fields = definition.get("properties", {})
        for key in sorted(fields, key=lambda key: key not in required):
            field = fields[key]
            default = "**required**" if key in required else _default(field)
            meaning = _prose(field) or _prose(self._definitions.get(_referred(field), {}))
            rows.append(f"| `{key}` | {self._written(field)} | {default} | {_cell(meaning)} |")
        return "\n".join(rows) if len(rows) > 2 else ""

    def _written(self, field: JsonObject) -> str:
        block = field.get("x-block")
        if block is not None:
            return _BLOCKS[block]
        if "x-kind" in field:
            return str(field["x-kind"])
        if "$ref" in field:
            name = _referred(field)
            if name == "Secret":
                return "secret"
            return f"[{_title(name)}]({self._link(name) or '#' + _anchor(_title(name))})"
        if "enum" in field:
            return " or ".join(f"`{value}`" for value in field["enum"])
        for several in ("anyOf", "oneOf", "allOf"):
            if several in field:
                forms = [self._written(one) for one in field[several] if one.get("type") != "null"]
                return " or ".join(
                    dict.fromkeys("`on`, `off`" if form == "`true`, `false`" else form for form in forms)
                )
        return self._plain(field)

    def _plain(self, field: JsonObject) -> str:
        kind = field.get("type")
        if field.get("format") in _FORMATS:
            return _FORMATS[field["format"]]
        if kind == "array":
            return f"list of {self._written(field.get('items', {}))}"
        if kind == "object":
            inner = field.get("additionalProperties")
            return f"mapping of names to {self._written(inner)}" if isinstance(inner, dict) else "mapping"
        words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
        return words.get(str(kind), "anything") + _bounds(field)


_FORMATS = {"path": "path", "date-time": "moment"}
_BLOCKS = {
    "services": "mapping of names to [services](#a-service)",
    "target": "[target](#targets)",
    "sources": "list of [sources](#sources)",
    "metrics": "URL, [`scrape`](#scrape) settings, or a list of these",
    "probe": "URL, [`probe`](#probe) settings, or a list of these",
    "logs": "path, [`log_file`](#log_file) settings, or a list of these",
    "notify": "list of [notifiers](#notifiers)",
    "intake": "mapping of [intakes](#intakes)",
    "ledger": "[ledger](#ledgers)",
}
_BLOCK_DEFAULTS = {
    "ledger": "`{sqlite: {}}`",
    "intake": "`{alertmanager: on, deployments: on}`",
    "target": "none",
    "services": "`{}`",
}


def _default(field: JsonObject) -> str:
    block = field.get("x-block")
    if block is not None:
        return _BLOCK_DEFAULTS.get(block, "`[]`")
    if "default" not in field:
        return ""
    value = field["default"]
    if value is None:
        return "none"
    return f"`{value}`" if isinstance(value, str) else f"`{_flow(value)}`"


def _flow(value: object) -> str:
    """A value as YAML on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _bounds(field: JsonObject) -> str:
    words = {"minimum": "from {:g}", "exclusiveMinimum": "above {:g}", "maximum": "up to {:g}"}
    said = [text.format(field[bound]) for bound, text in words.items() if bound in field]
    return f" {' '.join(said)}" if said else ""


def _referred(field: JsonObject) -> str:
    """The name of the definition that a field refers to; empty where it refers to none."""
    return next(iter(_references(field)), "")


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield str(value).removeprefix("#/$defs/")
            elif key != "x-block" and "x-block" not in node:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _block_forms(schema: JsonObject, kind: str, name: str) -> list[JsonObject]:
    """Everything that may follow an adapter's name."""
    found: list[JsonObject] = []
    target = {"$ref": f"#/$defs/{kind}.{name}"}

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if target in node.get("anyOf", []):
                found.extend(node["anyOf"])
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for item in node:
                look(item)

    look(schema)
    return found


def _title(name: str) -> str:
    """A definition's name in words: `source.scrape.Series` is series, `FreezeWindow` is freeze window."""
    if name in _TITLES:
        return _TITLES[name]
    last = name.rpartition(".")[2].removesuffix("Settings")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", last).lower()


def _anchor(title: str) -> str:
    return title.replace(" ", "-").replace("`", "")


def _prose(definition: JsonObject) -> str:
    return " ".join(str(definition.get("description", "")).split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

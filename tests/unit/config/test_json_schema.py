"""The JSON Schema agrees with what is read, over the fake adapters and over the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rollbackd import registry
from rollbackd.config.document import parse
from rollbackd.config.faults import Findings
from rollbackd.config.json_schema import json_schema
from rollbackd.config.loading import load
from rollbackd.detect.settings import ErrorRatioSettings
from tests.unit.config.catalog import FakeCatalog, faults, parsed

EXAMPLES = sorted((Path(__file__).parents[3] / "config").glob("*.yaml"))


def errors(schema: dict[str, Any], text: bytes) -> list[str]:
    findings = Findings()
    document = parse(text, findings)
    assert not findings.all
    return [error.message for error in Draft202012Validator(schema).iter_errors(document.data)]


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    """The schema over the real adapters."""
    return json_schema(registry)


@pytest.fixture(scope="module")
def fake() -> dict[str, Any]:
    """The schema over the adapters of these tests."""
    return json_schema(FakeCatalog())


def test_it_is_a_valid_schema(real: dict[str, Any], fake: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(real)
    Draft202012Validator.check_schema(fake)


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"minimal.yaml", "shadow.yaml", "full.yaml"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_read_and_fits_the_schema(path: Path, real: dict[str, Any]) -> None:
    assert load(path, registry, reveal=False).config.services
    assert errors(real, path.read_bytes()) == []


def test_the_example_of_everything_shows_every_key_of_every_adapter(real: dict[str, Any]) -> None:
    path = next(path for path in EXAMPLES if path.name == "full.yaml")
    data = parse(path.read_bytes(), Findings()).data
    written = set(_keys(data))
    known = {
        (name, key)
        for name, definition in [("the file", real), *real["$defs"].items()]
        for key in definition.get("properties", {})
    }
    assert {f"{key} of {name}" for name, key in known if key not in written} == set()


def _keys(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _keys(value)
    elif isinstance(node, list):
        for item in node:
            yield from _keys(item)


GOOD = [
    "",
    "{}",
    "services:\nauth:\nnotify:\nintake:\nledger:\n",
    "listen: '[::1]:80'",
    "services: {a: , b: {}}",
    "services: {a: {metrics: http://a, probe: [http://a, {url: http://b}], logs: {path: /l}}}",
    "services: {a: {sources: [{scrape: http://a}, {name: x, probe: {url: http://a, interval: 5s}}]}}",
    "services: {a: {target: {release_dir: /srv/a}}}",
    "services: {a: {target: {command: {run: x, env: {A: b, T: {env: T}}}}}}",
    "services: {a: {rules: {alert: off, latency: on, error_ratio: {floor: 1%}}, bake: 1h30m, cooldown: 0}}",
    "defaults: {mode: shadow, freeze: [{start: 2026-01-01T00:00:00Z, end: 2026-01-02T00:00:00Z}]}",
    "auth: {tokens: [{name: x, token: {file: /t}, scopes: [read]}], anonymous: []}",
    "notify: [{webhook: http://a}, {name: x, webhook: {url: {env: U}}}, {log: }]",
    "intake: {alertmanager: off, deployments: on, loki: {}}",
    "ledger: {sqlite: {}}",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_read_fits_the_schema(text: str, fake: dict[str, Any]) -> None:
    parsed(text)
    assert errors(fake, text.encode()) == []


BAD = [
    "lisen: 1",
    "listen: 80",
    "mode: x",
    "services: {a: {bake: 30}}",
    "services: {a: {bake: soon}}",
    "services: {a: {rules: {alert: }}}",
    "services: {a: {rules: {error_ratio: {floor: 2}}}}",
    "services: {a: {target: {relase_dir: /a}}}",
    "services: {a: {target: {release_dir: {}}}}",
    "services: {a: {target: {release_dir: /a, command: {run: x}}}}",
    "services: {a: {metrics: 5}}",
    "services: {a: {sources: {scrape: http://a}}}",
    "auth: {tokens: [{name: x, token: hunter2, scopes: [read]}]}",
    "auth: {tokens: [{name: x, token: {}, scopes: [read]}]}",
    "auth: {tokens: [{name: x, token: {env: A, file: /b}, scopes: [read]}]}",
    "auth: {tokens: [{name: x, token: {env: A}, scopes: [write]}]}",
    "notify: [{name: x}]",
    "intake: {alertmanger: off}",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_refused_does_not_fit_the_schema(text: str, fake: dict[str, Any]) -> None:
    assert faults(text)
    assert errors(fake, text.encode())


def test_adapters_that_cannot_be_imported_are_left_out(fake: dict[str, Any]) -> None:
    assert "ledger.postgres" not in fake["$defs"]


def test_defaults_are_written_as_an_operator_would(fake: dict[str, Any]) -> None:
    properties = fake["$defs"]["Defaults"]["properties"]
    assert properties["bake"]["default"] == "1h"
    floor = fake["$defs"]["ErrorRatioSettings"]["properties"]["floor"]
    assert floor["default"] == f"{100 * ErrorRatioSettings().floor:g}%"
    assert fake["properties"]["listen"]["default"] == "127.0.0.1:9797"
    assert fake["$defs"]["AuthSettings"]["properties"]["anonymous"]["default"] == ["read"]


def test_every_key_says_what_it_means(real: dict[str, Any]) -> None:
    silent = [
        f"{name}.{key}"
        for name, definition in [("file", real), *real["$defs"].items()]
        for key, field in definition.get("properties", {}).items()
        if not field.get("description") and not _described(real, field)
    ]
    assert silent == []


def _described(schema: dict[str, Any], field: dict[str, Any]) -> bool:
    forms = [field, *field.get("anyOf", [])]
    names = [form["$ref"].removeprefix("#/$defs/") for form in forms if "$ref" in form]
    return any(schema["$defs"][name].get("description") for name in names)

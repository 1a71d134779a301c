"""A catalog of small adapters, so that these tests do not depend on what the real ones can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.config.faults import ConfigFaults, Fault
from rollbackd.config.reading import read
from rollbackd.config.schema import Config
from rollbackd.errors import ConfigError, Permanent
from rollbackd.fields import Duration, Model, Secret


class DirSettings(Model):
    """A folder."""

    path: Path
    """Where it is."""
    restart: str | None = None


class ScriptSettings(Model):
    run: str
    env: dict[str, str | Secret] = Field(default_factory=dict)


class UrlSettings(Model):
    url: str
    interval: Duration = 10.0
    series: int = 100
    bearer: Secret | None = None

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if "://" not in url:
            raise ValueError("no URL: write http://host:port/path")
        return url


class PathSettings(Model):
    path: Path | tuple[Path, ...]
    format: str = "auto"


class PostSettings(Model):
    url: str | Secret
    headers: dict[str, str | Secret] = Field(default_factory=dict)


class HookSettings(Model):
    labels: tuple[str, ...] = ("service",)
    secret: Secret | None = None
    more: dict[str, HookSettings] = Field(default_factory=dict)


class Nothing(Model):
    pass


class Grumpy(Model):
    @field_validator("*", mode="before")
    @classmethod
    def _never(cls, value: object) -> object:
        raise Permanent("never in the mood")

    mood: str = "bad"


def _build(_config: object, _context: object) -> object:
    raise AssertionError("reading a configuration builds nothing")


class FakeCatalog:
    """The same shapes and some of the same names as the real registry's."""

    def __init__(self) -> None:
        self._known: dict[AdapterKind, dict[str, Adapter[Any, Any, Any]]] = {
            "target": {
                "release_dir": Adapter(DirSettings, _build, shorthand="path"),
                "command": Adapter(ScriptSettings, _build),
                "grumpy": Adapter(Grumpy, _build),
            },
            "source": {
                "scrape": Adapter(UrlSettings, _build, shorthand="url"),
                "probe": Adapter(UrlSettings, _build, shorthand="url"),
                "log_file": Adapter(PathSettings, _build, shorthand="path"),
            },
            "notifier": {"webhook": Adapter(PostSettings, _build, shorthand="url"), "log": Adapter(Nothing, _build)},
            "intake": {
                "alertmanager": Adapter(HookSettings, _build),
                "deployments": Adapter(Nothing, _build),
                "loki": Adapter(Nothing, _build),
            },
            "ledger": {"sqlite": Adapter(Nothing, _build)},
        }

    def names(self, kind: AdapterKind) -> list[str]:
        return sorted([*self._known[kind], *(["postgres"] if kind == "ledger" else [])])

    def load(self, kind: AdapterKind, name: str) -> Adapter[Any, Any, Any]:
        if name not in self._known[kind]:
            raise ConfigError(f"{kind} `{name}` needs a package that is not installed: install rollbackd[{name}]")
        return self._known[kind][name]


SIX_FAULTS = """\
mode: actt
notfy: []
auth:
  tokens: [{name: ci, token: hunter2, scopes: [deploy]}]
services:
  checkout:
    target: {relase_dir: {path: /srv/checkout}}
    bake: 30
    depends_on: [sarch]
  search: {}
"""
"""Six different mistakes, on lines 1, 2, 4, 7, 8 and 9."""


def parsed(text: str | bytes, *, reveal: bool = False) -> Config:
    """The configuration in a text."""
    raw = text if isinstance(text, bytes) else text.encode()
    return read(raw, "file.yaml", FakeCatalog(), reveal=reveal)


def faults(text: str | bytes, *, reveal: bool = False) -> tuple[Fault, ...]:
    """The faults of a text, which must have some."""
    try:
        parsed(text, reveal=reveal)
    except ConfigFaults as error:
        return error.faults
    raise AssertionError("there are no faults")


def fault(text: str | bytes, *, reveal: bool = False) -> Fault:
    """The one fault of a text."""
    found = faults(text, reveal=reveal)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]

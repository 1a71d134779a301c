"""What an operator is told whose configuration wants a package that is not installed."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from rollbackd import registry
from rollbackd.errors import ConfigError
from rollbackd.sources.probe import OPTIONAL, ProbeConfig


@pytest.fixture(params=["h2", "dns"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that this Python does not have."""
    for name in [name for name in sys.modules if name.split(".")[0] == request.param]:
        monkeypatch.delitem(sys.modules, name)
    for module, _ in OPTIONAL.values():
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, request.param, None)
    return str(request.param)


def test_a_missing_half_of_an_adapter_is_named_with_its_own_extra(package: str) -> None:
    url, extra = {"h2": ("grpc://h:1", "probe-grpc"), "dns": ("dns:///name", "probe-dns")}[package]
    with pytest.raises(ValidationError) as raised:
        ProbeConfig.model_validate({"url": url})
    assert "probe needs a package that is not installed" in str(raised.value)
    assert f"install rollbackd[{extra}]" in str(raised.value)
    ProbeConfig.model_validate({"url": "http://h/"})


def test_a_missing_adapter_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BUILTIN", {"source": {"log_tail": "rollbackd.sources.nowhere"}})
    with pytest.raises(ConfigError, match=r"source `log_tail` needs a package .*: install rollbackd\[log-tail\]"):
        registry.load("source", "log_tail")

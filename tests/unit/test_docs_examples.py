"""The examples in the pages on adding a source and a rule are whole modules, so they are run as what they are."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rollbackd.adapter import Adapter
from rollbackd.detect import settings
from rollbackd.detect.base import Rule, Scene
from rollbackd.detect.history import History
from rollbackd.fields import Model, Switch
from rollbackd.model import Gauge, Probe
from rollbackd.sources.base import SourceContext
from tests.support.clock import ManualClock
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually

DOCS = Path(__file__).parents[2] / "docs"


Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Imports a page's Python block as a module."""

    def load_page(page: str) -> ModuleType:
        block = re.search(
            r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        assert block is not None
        path = tmp_path / f"example_{page.removesuffix('.md').replace('-', '_')}.py"
        path.write_text(block[1], encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return load_page


async def test_the_example_of_a_source_reports_what_it_sees_and_that_it_cannot_look(load: Load) -> None:
    answers = {"status": 200}

    async def page(_request: web.Request) -> web.Response:
        return web.Response(status=answers["status"])

    app = web.Application()
    app.router.add_get("/", page)
    server = TestServer(app)
    await server.start_server()
    adapter = load("adding-a-source.md").ADAPTER
    assert isinstance(adapter, Adapter)
    clock, sink = ManualClock(), RecordingSink()
    source = adapter.build(adapter.config(url=str(server.make_url("/"))), SourceContext(service="shop", clock=clock))

    task = asyncio.create_task(source.run(sink))
    try:
        await eventually(lambda: clock.sleeping)
        assert sink.events == [Probe(t=clock.now(), service="shop", up=True, duration=0.0)]

        answers["status"] = 503
        await clock.advance(15.0)
        await eventually(lambda: len(sink.events) == 2)
        assert isinstance(sink.events[1], Probe)
        assert not sink.events[1].up

        await server.close()
        await eventually(lambda: clock.sleeping)
        await clock.advance(15.0)
        await eventually(lambda: sink.state.startswith("down: "))
        assert len(sink.events) == 2
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await server.close()


class RestartsSettings(Model):
    """Worse means: the service was restarted more than `allowed` times."""

    allowed: int = 2


class RulesWithRestarts(settings.Rules):
    """The default pack, and the example."""

    restarts: Annotated[RestartsSettings | None, Switch()] = RestartsSettings()


def restarts(t: float, value: float) -> Gauge:
    return Gauge(t=t, service="shop", name="restarts", value=value)


def test_the_example_of_a_rule_convicts_on_its_own_evidence_alone(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "RestartsSettings", RestartsSettings, raising=False)
    scene = Scene(
        rules=RulesWithRestarts(),
        alpha=0.001,
        warmup=60.0,
        bake=3600.0,
        history=History(),
        version="v2",
        previous="v1",
        deployed_at=100.0,
        now=100.0,
    )
    kind = load("adding-a-rule.md").Restarts
    rule = kind.open(scene)
    assert isinstance(rule, Rule)
    assert rule.standing(scene, 100.0) == "insufficient"

    def seen(t: float, value: float) -> None:
        scene.now = t
        scene.history.add(restarts(t, value))
        rule.observe(restarts(t, value), scene)

    for t, value in ((90.0, 1.0), (110.0, 7.0), (120.0, 8.0), (130.0, 9.0)):
        seen(t, value)
    assert not rule.convicts(scene)
    seen(140.0, 10.0)
    assert rule.convicts(scene)
    assert rule.standing(scene, 100.0) == "degraded"
    assert rule.charge(scene).since == 120.0
    assert kind.wants == (Gauge,)
    found = rule.evidence(scene)
    assert (found.onset, found.worse) == (120.0, 2.0)
    assert found.chart[-1][0] == 140.0

    assert msgspec.json.decode(msgspec.json.encode(rule), type=kind) == rule, "a watch is written down and read back"
    assert not rule.fresh().convicts(scene)
    assert rule.fresh().evidence(scene).verdict == "insufficient"

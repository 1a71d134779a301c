"""The example in docs/adding-a-source.md is a whole source, so it is run as one."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rollbackd.adapter import Adapter
from rollbackd.model import AnyEvent, Probe
from rollbackd.sources.base import SourceContext
from tests.support.clock import ManualClock
from tests.support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs/adding-a-source.md"


class Recorder:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.problems: list[str] = []

    async def emit(self, event: AnyEvent) -> None:
        self.events.append(event)

    def up(self) -> None:
        self.problems.clear()

    def down(self, reason: str) -> None:
        self.problems.append(reason)

    def dropped(self, reason: str, count: int = 1) -> None:
        raise AssertionError(reason)


@pytest.fixture
def example(tmp_path: Path) -> Iterator[ModuleType]:
    """The page's Python block, imported as a module."""
    block = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    path = tmp_path / "uptime_example.py"
    path.write_text(block[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


async def test_the_example_of_a_source_reports_what_it_sees_and_that_it_cannot_look(example: ModuleType) -> None:
    answers = {"status": 200}

    async def page(_request: web.Request) -> web.Response:
        return web.Response(status=answers["status"])

    app = web.Application()
    app.router.add_get("/", page)
    server = TestServer(app)
    await server.start_server()
    adapter = example.ADAPTER
    assert isinstance(adapter, Adapter)
    clock, sink = ManualClock(), Recorder()
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
        await eventually(lambda: sink.problems)
        assert len(sink.events) == 2
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await server.close()

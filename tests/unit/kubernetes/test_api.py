"""Requests and watches, against a server that misbehaves in every way we know of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.kubernetes import api as api_module
from rollbackd.kubernetes.access import Credentials
from rollbackd.kubernetes.api import Api, Forbidden, Gone, NotThere, Stale
from rollbackd.kubernetes.kubeconfig import ClusterOptions
from rollbackd.kubernetes.objects import Requirement, Selector, Thing
from rollbackd.kubernetes.watch import Changed, Deleted, Listed, Quiet, Watch
from tests.support.clock import ManualClock
from tests.support.kube_server import KubeServer, status
from tests.support.waiting import eventually

TOKEN = "sesame-4c1d"
PODS = "/api/v1/namespaces/shop/pods"


@pytest.fixture
async def server() -> AsyncIterator[KubeServer]:
    one = KubeServer(TOKEN)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def api(server: KubeServer, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Api]:
    options = ClusterOptions(kubeconfig=server.kubeconfig(tmp_path / "kubeconfig"))
    one = Api(Credentials(options, clock), 2)
    yield one
    await one.close()


def answering(server: KubeServer, make: Callable[[], web.Response]) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return make()

    server.misbehave = answer


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, NotThere), (403, Forbidden), (409, Stale), (410, Gone), (422, Permanent), (400, Permanent), (302, Permanent)]
    + [(code, Temporary) for code in (401, 408, 429, 500, 502, 503, 504)],
)
async def test_each_refusal_says_whether_trying_again_helps(
    server: KubeServer, api: Api, code: int, kind: type[RollbackdError]
) -> None:
    answering(server, lambda: status(code, "X", f"no,\n\x1b[31m thanks {TOKEN}"))
    with pytest.raises(kind) as caught:
        await api.get(f"{PODS}/a", Thing, "pod a")
    assert TOKEN not in str(caught.value)
    assert str(caught.value).isprintable()


async def test_a_refusal_that_quotes_the_manifest_is_told_without_it_however_long_it_is(
    server: KubeServer, api: Api
) -> None:
    value = "hunter2" * 20_000
    cause = {"reason": "FieldValueInvalid", "message": f'Invalid value: "{value}": no', "field": "spec.template"}
    details = {"name": "checkout", "group": "apps", "kind": "Deployment", "causes": [cause]}
    whole = {
        "message": f'x is invalid: spec.template: Invalid value: "{value}"',
        "reason": "Invalid",
        "details": details,
    }
    answering(server, lambda: web.json_response(whole, status=422))
    with pytest.raises(Permanent) as caught:
        await api.get(f"{PODS}/a", Thing, "pod a")
    assert str(caught.value) == "GET pod a: Deployment.apps checkout is invalid: spec.template: Invalid value (422)"


async def test_a_servers_wish_to_wait_is_passed_on(server: KubeServer, api: Api) -> None:
    answering(server, lambda: web.Response(status=429, headers={"Retry-After": "7"}))
    with pytest.raises(Temporary) as caught:
        await api.get(f"{PODS}/a", Thing, "pod a")
    assert caught.value.retry_after == 7


async def test_a_token_that_is_refused_is_read_anew_and_tried_once_more(
    server: KubeServer, api: Api, tmp_path: Path
) -> None:
    server.store.put("pods", {"metadata": {"name": "a"}})
    await api.get(f"{PODS}/a", Thing, "pod a")
    server.token = "another"
    server.kubeconfig(tmp_path / "kubeconfig")
    assert (await api.get(f"{PODS}/a", Thing, "pod a")).metadata.name == "a"


async def test_a_long_list_comes_in_pieces(server: KubeServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "PAGE", 3)
    for at in range(10):
        server.store.put("pods", {"metadata": {"name": f"p{at}"}})
    found, version = await api.all(PODS, Thing, "pods", {})
    assert [one.metadata.name for one in found] == [f"p{at}" for at in range(10)]
    assert version == server.store.version
    monkeypatch.setattr(api_module, "MAX_ITEMS", 5)
    with pytest.raises(Permanent, match="more than 5 pods"):
        await api.all(PODS, Thing, "pods", {})


async def test_an_answer_without_end_is_given_up(server: KubeServer, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_ANSWER", 1000)
    answering(server, lambda: web.Response(body=b" " * 5000))
    with pytest.raises(Permanent, match="larger than 1000 bytes"):
        await api.get(f"{PODS}/a", Thing, "pod a")


async def test_an_answer_that_does_not_come_is_not_waited_for(
    server: KubeServer, clock: ManualClock, tmp_path: Path
) -> None:
    async def wait(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(20)
        return web.Response()

    server.misbehave = wait
    slow = Api(Credentials(ClusterOptions(kubeconfig=server.kubeconfig(tmp_path / "k")), clock), 0.2)
    with pytest.raises(Temporary, match=r"0\.2 s"):
        await slow.get(f"{PODS}/a", Thing, "pod a")
    await slow.close()


async def test_nothing_is_asked_once_closed(api: Api) -> None:
    await api.close()
    await api.close()
    with pytest.raises(Temporary, match="closed"):
        await api.get(f"{PODS}/a", Thing, "pod a")


def test_a_selector_is_written_as_in_a_query() -> None:
    several = Requirement(key="tier", operator="In", values=("a", "b"))
    there, absent = Requirement(key="x", operator="Exists"), Requirement(key="y", operator="DoesNotExist")
    selector = Selector(match_labels={"app": "shop"}, match_expressions=(several, there, absent))
    assert selector.text() == "app=shop,tier in (a,b),x,!y"
    with pytest.raises(Permanent, match="not known here"):
        Selector(match_expressions=(Requirement(key="x", operator="Gt"),)).text()


# -- watching


Seen = list[Listed[Thing] | Changed[Thing] | Deleted[Thing] | RollbackdError]


@pytest.fixture
async def seen(server: KubeServer, api: Api, clock: ManualClock) -> AsyncIterator[Seen]:
    found: Seen = []
    server.store.put("pods", {"metadata": {"name": "a"}})

    async def collect() -> None:
        async with aclosing(Watch(api, PODS, Thing, "pods", {}, clock).run()) as events:
            async for event in events:
                if not isinstance(event, Quiet):
                    found.append(event)

    task = asyncio.create_task(collect())
    await eventually(lambda: server.watching)
    yield found
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def words(seen: Seen) -> list[str]:
    return [
        f"listed {','.join(one.metadata.name for one in event.objects)}"
        if isinstance(event, Listed)
        else str(type(event).__name__)
        if isinstance(event, RollbackdError)
        else f"{type(event).__name__.lower()} {event.object.metadata.name}"
        for event in seen
    ]


async def test_changes_follow_what_is_there(server: KubeServer, seen: Seen) -> None:
    server.store.put("pods", {"metadata": {"name": "b"}})
    server.store.put("pods", {"metadata": {"name": "b", "labels": {"x": "y"}}})
    server.store.delete("pods", "a")
    await eventually(lambda: words(seen) == ["listed a", "changed b", "changed b", "deleted a"])


async def test_a_fault_is_told_once_and_its_end_too(server: KubeServer, seen: Seen, clock: ManualClock) -> None:
    with capture_logs() as logs:
        answering(server, lambda: status(503, "Unavailable", "no"))
        for task in [*server.watching]:
            assert task is not None
            task.cancel()
        await eventually(lambda: clock.sleeping)
        for _ in range(5):
            await clock.advance(30)
            await eventually(lambda: clock.sleeping)
        server.misbehave = None
        server.store.put("pods", {"metadata": {"name": "b"}})
        await clock.advance(30)
        await eventually(lambda: words(seen) == ["listed a", "BrokeOff", "changed b"])
    assert [log["event"] for log in logs] == ["watch_broken", "watch_restored"]


async def test_what_is_too_old_to_go_on_from_is_listed_anew(server: KubeServer, seen: Seen, clock: ManualClock) -> None:
    server.store.forget()
    await clock.advance(5)
    for task in [*server.watching]:
        assert task is not None
        task.cancel()
    await eventually(lambda: words(seen) == ["listed a", "listed a"])
    again = seen[1]
    assert isinstance(again, Listed)
    assert again.since is not None


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\n",
        b"{}\n",
        b"[]\n",
        b'{"type":"MODIFIED","object":{}}\n',
        b'{"type":"ERROR","object":{"code":500}}\n',
        b'{"type":"MODIFIED"',
        b"[" * 100_000 + b"\n",
        json.dumps({"type": "MODIFIED", "object": {"metadata": {"name": 7}}}).encode() + b"\n",
    ],
)
async def test_garbage_in_a_watch_ends_that_watch_alone(
    server: KubeServer, api: Api, clock: ManualClock, line: bytes
) -> None:
    bad = True

    async def answer(request: web.Request) -> web.StreamResponse | None:
        return web.Response(body=line) if bad and "watch" in request.query else None

    server.misbehave = answer
    found: Seen = []

    async def collect() -> None:
        async with aclosing(Watch(api, PODS, Thing, "pods", {}, clock).run()) as events:
            async for event in events:
                if not isinstance(event, Quiet):
                    found.append(event)

    task = asyncio.create_task(collect())
    await eventually(lambda: server.requests.count(f"GET {PODS} watch"))
    bad = False
    while not server.watching:
        await clock.advance(30)
        await asyncio.sleep(0.01)
    server.store.put("pods", {"metadata": {"name": "b"}})
    await eventually(lambda: words(found)[-1:] == ["changed b"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

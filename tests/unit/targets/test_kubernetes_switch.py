"""Blue/green: the target `kubernetes` with a Service that is switched between Deployments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.kubernetes import ADAPTER, switching
from rollbackd.targets.kubernetes.colours import switched
from tests.support.kube_server import KubeServer, status
from tests.support.kube_store import Object
from tests.support.waiting import eventually
from tests.support.watching import seen, watching
from tests.unit.targets.kube_shop import IMAGE, ORDER, in_place, versions
from tests.unit.targets.making import Make, making


class Street:
    """A Service `checkout`, and Deployments that are called by their colour."""

    def __init__(self, server: KubeServer, make: Make) -> None:
        self.server, self.make = server, make

    def deploy(self, colour: str, version: str, *, replicas: int = 2, **labels: str) -> None:
        labels = {"app": "checkout", "colour": colour, **labels}
        container = {"name": "app", "image": f"{IMAGE}:{version}"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        name = f"checkout-{colour}"
        with suppress(Exception):
            found = self.server.store.get("deployments", name)
            found["spec"] |= {"template": template, "replicas": replicas}
            self.server.store.put("deployments", found)
            self.run()
            return
        spec = {"replicas": replicas, "selector": {"matchLabels": {"colour": colour}}, "template": template}
        self.server.store.put("deployments", {"metadata": {"name": name}, "spec": spec})
        self.run()

    def run(self) -> None:
        for _ in range(2):
            self.server.controllers.run()

    @property
    def service(self) -> Object:
        return self.server.store.get("services", "checkout")

    @property
    def live(self) -> str:
        return str(self.service["spec"]["selector"]["colour"])

    def switch(self, colour: str, **notes: str) -> None:
        with suppress(Exception):
            found = self.service
            found["spec"]["selector"]["colour"] = colour
            found["metadata"].setdefault("annotations", {}).update(notes)
            self.server.store.put("services", found)
            return
        spec = {"selector": {"app": "checkout", "colour": colour}}
        self.server.store.put("services", {"metadata": {"name": "checkout"}, "spec": spec})

    def route(self, *colours: str) -> None:
        """Endpoints to the pods of these Deployments, as the endpoints' controller writes them."""
        pods = [pod for pod in self.server.store.all("pods") if pod["metadata"]["labels"]["colour"] in colours]
        endpoints = [{"targetRef": {"kind": "Pod", "uid": pod["metadata"]["uid"]}} for pod in pods]
        meta = {"name": "checkout-1", "labels": {"kubernetes.io/service-name": "checkout"}}
        self.server.store.put("endpointslices", {"metadata": meta, "endpoints": endpoints})


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    server = KubeServer("a-token")
    await server.start()
    usual: dict[str, object] = {"service": "checkout", "kubeconfig": server.kubeconfig(tmp_path / "kubeconfig")}
    async with making(ADAPTER, usual, tmp_path / "state") as make:
        one = Street(server, make)
        one.deploy("blue", "v1")
        one.deploy("green", "v2")
        one.switch("green")
        yield one
    await server.stop()


async def problems(target: Target, to: str = "v1") -> tuple[str, ...]:
    return (await target.readiness(to)).problems


async def test_what_the_service_selects_is_in_place_and_what_stands_by_can_be(street: Street) -> None:
    target = street.make()
    assert await in_place(target) == "v2"
    assert sorted(await versions(target)) == ["v1", "v2"]
    assert await problems(target) == ()


async def test_a_revert_switches_the_service_back_and_touches_no_pod(street: Street) -> None:
    target = street.make()
    pods = street.server.store.all("pods")
    await target.revert(ORDER)
    assert street.live == "blue"
    assert await in_place(target) == "v1"
    assert street.server.store.all("pods") == pods
    (patched,) = street.server.patched
    assert patched["metadata"]["name"] == "checkout"
    await target.revert(ORDER)
    assert len(street.server.patched) == 1, "the same order once more changes nothing"


async def test_it_has_settled_once_no_traffic_goes_to_the_old_pods(street: Street) -> None:
    target = street.make()
    await target.revert(ORDER)
    assert not await target.settled("v1"), "nobody knows yet where its traffic goes"
    street.route("green")
    assert not await target.settled("v1")
    street.route("green", "blue")
    assert not await target.settled("v1")
    street.route("blue")
    assert await target.settled("v1")
    assert not await target.settled("v2")


async def test_somebody_who_switches_or_deploys_meanwhile_is_not_overwritten(street: Street) -> None:
    target = street.make()
    street.deploy("red", "v3")
    street.switch("red")
    with pytest.raises(Conflict, match="v3 is live, not v2"):
        await target.revert(ORDER)
    assert street.live == "red"


async def test_who_switches_between_our_look_and_our_change_is_seen(street: Street) -> None:
    street.deploy("red", "v3")
    target = street.make()

    async def faster(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PATCH":
            street.server.misbehave = None
            street.switch("red")
        return None

    street.server.misbehave = faster
    with pytest.raises(Conflict, match="v3 is live"):
        await target.revert(ORDER)
    assert street.live == "red"


async def test_a_key_is_spent_when_somebody_switched_since(street: Street) -> None:
    target = street.make()
    await target.revert(ORDER)
    street.switch("green")
    with pytest.raises(Conflict, match="is spent"):
        await target.revert(ORDER)
    assert street.live == "green"


async def test_an_answer_that_got_lost_makes_no_second_switch(street: Street) -> None:
    target = street.make()

    async def lost(_request: web.Request) -> web.StreamResponse:
        street.server.after_patch = None
        return status(500, "InternalError", "lost")

    street.server.after_patch = lost
    with pytest.raises(Temporary):
        await target.revert(ORDER)
    await street.make().revert(ORDER)
    assert (street.live, len(street.server.patched)) == ("blue", 1)


async def test_what_was_switched_back_by_hand_is_only_noted(street: Street) -> None:
    target = street.make()
    street.switch("blue")
    await target.revert(ORDER)
    assert street.live == "blue"
    assert ORDER.key in street.service["metadata"]["annotations"]["io.rollbackd/key"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda street: street.deploy("blue", "v1", replicas=0), "no replicas: scale it up first"),
        (lambda street: street.server.store.delete("deployments", "checkout-blue"), "no Deployment stands by"),
        (lambda street: street.deploy("blue", "v1", colour="azure"), "selects none"),
        (lambda street: street.switch("green", **{"argocd.argoproj.io/tracking-id": "shop:x"}), "switch it there"),
        (lambda street: street.server.denied.add("patch services"), "may not patch services"),
        (lambda street: street.server.denied.add("list endpointslices"), "may not list endpointslices"),
        (lambda street: street.server.store.delete("services", "checkout"), "there is no Service shop/checkout"),
    ],
)
async def test_what_is_in_the_way_is_told_beforehand(street: Street, fault: object, told: str) -> None:
    target = street.make()
    assert callable(fault)
    if told == "selects none":
        street.switch("purple")
    else:
        fault(street)
    assert any(told in problem for problem in await problems(target)), await problems(target)
    if "may not" not in told:
        with pytest.raises(Permanent):
            await target.revert(ORDER)
        assert street.server.patched == []


async def test_pods_that_are_not_available_get_no_traffic(street: Street) -> None:
    street.server.controllers.broken.add(f"{IMAGE}:v0")
    street.deploy("blue", "v0")
    target = street.make()
    (problem,) = await problems(target, "v0")
    assert "is not ready to take over" in problem


async def test_two_colours_of_one_release_have_two_names(street: Street) -> None:
    street.deploy("red", "v2")
    target = street.make()
    assert await in_place(target) == "v2"
    assert sorted(await versions(target)) == ["v1", "v2", "v2-red"]


async def test_the_other_of_two_of_one_release_can_be_gone_back_to(street: Street) -> None:
    street.deploy("red", "v2")
    target = street.make()
    order = RevertOrder(to="v2-red", expect="v2", key="key-2")
    assert await problems(target, "v2-red") == ()
    await target.revert(order)
    assert street.live == "red"
    street.route("red")
    assert await target.settled("v2-red"), "though it is called v2 now that it is live"
    await target.revert(order)
    assert len(street.server.patched) == 1
    street.switch("green")
    with pytest.raises(Conflict, match="is spent"):
        await target.revert(order)


async def test_another_label_can_be_named(street: Street) -> None:
    target = street.make(switch="colour")
    await target.revert(ORDER)
    assert street.live == "blue"


async def test_a_switch_is_seen_as_a_deployment(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "LOOK_S", 0.1)
    street.switch("blue")
    target = street.make()
    async with watching(target) as found:
        asked = "GET /apis/apps/v1/namespaces/shop/replicasets"
        await eventually(lambda: street.server.requests.count(asked) >= 2 and not street.server.busy)
        street.switch("green")
        await eventually(lambda: len(found) == 2, within=20)
        assert seen(found) == [("v2", "v1", "started"), ("v2", "v1", "finished")]


def test_the_switched_label_is_the_one_by_which_alone_deployments_differ() -> None:
    selector = {"app": "a", "colour": "blue"}
    blue, green = {"app": "a", "colour": "blue", "x": "1"}, {"app": "a", "colour": "green"}
    assert switched(selector, [blue, green, {"app": "b", "colour": "red"}], "S") == "colour"
    assert switched(selector, [blue], "S") is None
    assert switched({"app": "a"}, [{"app": "a"}, {"app": "b"}], "S") is None
    with pytest.raises(Permanent, match="app or colour"):
        switched(selector, [blue, green, {"app": "c", "colour": "blue"}], "S")

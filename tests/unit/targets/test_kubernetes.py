"""The target `kubernetes` on a small Kubernetes; tests/system/kubernetes has the real one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from aiohttp import web
from pydantic import ValidationError

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.targets.kubernetes import ADAPTER, KubernetesConfig
from tests.support.kube_store import digest
from tests.support.waiting import eventually
from tests.unit.targets.kube_shop import IMAGE, ORDER, Shop, in_place, shop, versions

__all__ = ["shop"]


# -- what releases are called


@pytest.mark.parametrize(
    ("image", "labels", "by", "version"),
    [
        (f"{IMAGE}:2.4.1", {}, "image_tag", "2.4.1"),
        (f"{IMAGE}:2.4.1@{digest('x')}", {}, "image_tag", "2.4.1"),
        (f"{IMAGE}:2.4.1", {"app.kubernetes.io/version": "1.16"}, "image_tag", "2.4.1"),
        (f"{IMAGE}:2.4.1", {"app.kubernetes.io/version": "1.16"}, "label", "1.16"),
        (f"{IMAGE}:latest", {"app.kubernetes.io/version": "1.16"}, "image_tag", "1.16"),
        (f"{IMAGE}:latest", {}, "image_tag", "latest"),
        ("registry.test:5000/shop/checkout", {}, "image_tag", "latest"),
        (f"{IMAGE}@{digest('x')}", {}, "image_tag", digest("x")[7:19]),
    ],
)
async def test_a_release_is_called_by_tag_or_label(
    shop: Shop, image: str, labels: dict[str, str], by: str, version: str
) -> None:
    shop.deploy(image, labels)
    assert await in_place(shop.make(version=by)) == version


async def test_releases_of_one_tag_are_told_apart_and_keep_their_names(shop: Shop) -> None:
    shop.deploy("latest")
    shop.deploy("latest", {"settings": "2"})
    first = await versions(shop.make())
    assert first[1] == "latest"
    assert first[0].startswith("latest-")
    (oldest,) = [
        one["metadata"]["name"]
        for one in shop.server.store.all("replicasets")
        if "settings" not in one["metadata"]["labels"]
    ]
    shop.server.store.delete("replicasets", oldest)
    assert await versions(shop.make()) == first[:1], "a name was given again when its owner was gone"
    shop.deploy("latest", {"settings": "3"})
    assert "latest" not in await versions(shop.make())


async def test_a_release_has_its_images_digest_and_its_commit(shop: Shop) -> None:
    shop.deploy("v1", {"org.opencontainers.image.revision": "5f0c9a1"})
    target = shop.make()
    release = await target.current()
    assert release is not None
    assert (release.digest, release.commit) == (digest(f"{IMAGE}:v1"), "5f0c9a1")
    shop.deploy("v2")
    assert [one.digest for one in await target.history()] == [None, digest(f"{IMAGE}:v1")]


async def test_a_container_that_is_not_there_is_told(shop: Shop) -> None:
    shop.deploy("v1")
    with pytest.raises(Permanent, match="set `container` to one of app"):
        await shop.make(container="web").current()


def test_one_workload_is_named() -> None:
    for wrong in ({}, {"deployment": "a", "daemonset": "b"}, {"deployment": "../secrets"}):
        with pytest.raises(ValidationError):
            KubernetesConfig.model_validate(wrong)


def test_workloads_of_one_name_in_two_namespaces_are_two_places() -> None:
    assert ADAPTER.place is not None
    written: list[dict[str, object]] = [
        {"deployment": "a", "namespace": "b"},
        {"deployment": "a", "namespace": "c"},
        {"statefulset": "a", "namespace": "b"},
        {"deployment": "a", "namespace": "b", "context": "d"},
        {"deployment": "a", "namespace": "b", "version": "label"},
    ]
    places = [ADAPTER.place(KubernetesConfig.model_validate(one)) for one in written]
    assert len(set(places)) == 4
    assert places[0] == places[-1]


# -- reverting


async def test_a_rollout_in_progress_is_paused_reverted_and_resumed(shop: Shop) -> None:
    shop.deploy("v1")
    shop.server.controllers.broken = {f"{IMAGE}:v2"}
    shop.deploy("v2")
    target = shop.make()
    await target.revert(ORDER)
    paused, reverted = shop.server.patched
    assert paused["spec"]["paused"] is True
    assert str(paused["spec"]["template"]).count(":v2") == 1, "pausing changes nothing else"
    assert reverted["spec"]["paused"] is False
    assert "io.rollbackd/pausing" not in reverted["metadata"]["annotations"]
    shop.run()
    assert await target.settled("v1")


async def test_killed_after_the_pause_it_goes_on_from_there(shop: Shop) -> None:
    shop.deploy("v1")
    shop.server.controllers.broken = {f"{IMAGE}:v2"}
    shop.deploy("v2")
    await _killed_after_the_pause(shop)
    await shop.make().revert(ORDER)
    assert [one["spec"]["paused"] for one in shop.server.patched] == [True, False]
    assert shop.image == "v1"


async def _killed_after_the_pause(shop: Shop) -> None:
    arrived = asyncio.Event()

    async def hold(_request: web.Request) -> web.StreamResponse | None:
        arrived.set()
        await asyncio.sleep(30)
        return None

    shop.server.after_patch = hold
    reverting = asyncio.create_task(shop.make().revert(ORDER))
    await arrived.wait()
    reverting.cancel()
    with suppress(asyncio.CancelledError):
        await reverting
    shop.server.after_patch = None
    assert shop.deployment["spec"]["paused"] is True


async def test_what_somebody_deploys_while_we_pause_is_rolled_out(shop: Shop) -> None:
    shop.deploy("v1")
    shop.server.controllers.broken = {f"{IMAGE}:v2"}
    shop.deploy("v2")
    await _killed_after_the_pause(shop)
    shop.deploy("v3")
    with pytest.raises(Conflict):
        await shop.make().revert(ORDER)
    shop.run()
    assert (shop.image, shop.deployment["spec"]["paused"]) == ("v3", False)
    assert await in_place(shop.make()) == "v3"


async def test_what_somebody_resumed_is_not_paused_again(shop: Shop) -> None:
    shop.deploy("v1")
    shop.server.controllers.broken = {f"{IMAGE}:v2"}
    shop.deploy("v2")
    await _killed_after_the_pause(shop)
    shop.change("spec", paused=False)
    with pytest.raises(Conflict, match="resumed"):
        await shop.make().revert(ORDER)
    assert shop.image == "v2"


async def test_a_deployment_that_somebody_paused_is_reverted_and_resumed(shop: Shop) -> None:
    shop.deploy("v1")
    shop.deploy("v2")
    shop.change("spec", paused=True)
    target = shop.make()
    assert (await target.readiness("v1")).ready
    await target.revert(ORDER)
    shop.run()
    assert await target.settled("v1")


async def test_a_template_that_somebody_prepares_is_not_overwritten(shop: Shop) -> None:
    shop.deploy("v1")
    shop.deploy("v2")
    shop.change("spec", paused=True)
    shop.deploy("v3")
    target = shop.make()
    assert await in_place(target) == "v2"
    assert "somebody prepares it" in (await target.readiness("v1")).problems[0]
    with pytest.raises(Conflict, match="somebody prepares it"):
        await target.revert(ORDER)
    assert shop.image == "v3"


async def test_a_status_that_changes_meanwhile_is_no_obstacle(shop: Shop) -> None:
    shop.deploy("v1")
    shop.deploy("v2")
    left = 3

    async def disturb(request: web.Request) -> web.StreamResponse | None:
        nonlocal left
        if request.method == "PATCH" and left:
            left -= 1
            shop.change("status", readyReplicas=left)
        return None

    shop.server.misbehave = disturb
    await shop.make().revert(ORDER)
    assert (shop.image, left) == ("v1", 0)


async def test_without_an_answer_from_the_controllers_it_is_tried_later(shop: Shop) -> None:
    shop.deploy("v1")
    shop.server.controllers.off = True
    shop.deploy("v2")
    with pytest.raises(Temporary, match="have not taken up"):
        await shop.make().current()


@pytest.mark.parametrize("question", ["current", "history", "readiness"])
async def test_a_change_that_is_about_to_be_taken_up_is_waited_for(shop: Shop, question: str) -> None:
    shop.deploy("v1")
    shop.server.controllers.off = True
    shop.deploy("v2")
    arguments = ("v1",) if question == "readiness" else ()
    asked = asyncio.create_task(getattr(shop.make(), question)(*arguments))
    await eventually(lambda: len(shop.server.requests) > 2)
    shop.server.controllers.off = False
    assert await asked


async def test_a_deployments_annotations_go_back_with_it(shop: Shop) -> None:
    shop.deploy("v1")
    shop.change(
        "metadata", annotations={**shop.deployment["metadata"]["annotations"], "kubernetes.io/change-cause": "1"}
    )
    shop.deploy("v2")
    notes = {**shop.deployment["metadata"]["annotations"], "kubernetes.io/change-cause": "2"}
    kept = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    shop.change("metadata", annotations=notes | kept)
    await shop.make().revert(ORDER)
    after = shop.deployment["metadata"]["annotations"]
    assert after["kubernetes.io/change-cause"] == "1"
    assert after["kubectl.kubernetes.io/last-applied-configuration"] == "{}"


async def test_what_somebody_else_wrote_for_keys_counts_for_nothing(shop: Shop) -> None:
    shop.deploy("v1")
    shop.deploy("v2")
    shop.change("metadata", annotations={**shop.deployment["metadata"]["annotations"], "io.rollbackd/key": "{]"})
    await shop.make().revert(ORDER)
    assert shop.image == "v1"

"""Reverts of a workload that Flux looks after: suspended, by a commit, and both."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from structlog.testing import capture_logs

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.kubernetes.api import Api
from rollbackd.targets.base import RevertOrder, Target
from rollbackd.targets.git_mirror import Mirror
from rollbackd.targets.kubernetes import ADAPTER, flux, flux_git, flux_objects
from rollbackd.targets.kubernetes.revert import Reverter
from tests.support.dying import Killed
from tests.support.flux_played import MANIFEST, Flux, manifest
from tests.support.kube_server import status
from tests.support.repository import Repository
from tests.unit.targets.kube_shop import Shop, in_place, shop

__all__ = ["shop"]
pytestmark = pytest.mark.needs("git")
ORDER = RevertOrder(to="v1", expect="v2", key="key-1", reason="23% of requests failed")
KEY = "spec.template.spec.containers[name=app].image"


class Kept:
    """The shop's Deployment in the hands of Flux, with v2 in place."""

    def __init__(self, shop: Shop, repository: Repository, flux: Flux) -> None:
        self.shop, self.repository, self.flux = shop, repository, flux
        git = {"url": repository.url, "path": "apps/checkout", "image": {"file": MANIFEST, "key": KEY, "part": "tag"}}
        self.owners: dict[str, dict[str, object]] = {"flux": {"flux": {}}, "git": {"git": git}}
        self.owners["both"] = {"flux": {}, "git": git}

    def target(self, way: str, **git: object) -> Target:
        owners = self.owners[way]
        if "git" in owners:
            owners = {**owners, "git": {**owners["git"], **git}}  # type: ignore[dict-item]  # it is one
        return self.shop.make(owners=owners)

    def release(self, version: str) -> None:
        """Push a release, which Flux deploys."""
        self.repository.commit({MANIFEST: manifest(version)})
        self.flux.run()
        self.shop.run()


@pytest.fixture
async def kept(shop: Shop, tmp_path: Path) -> Kept:
    repository = Repository(tmp_path / "deploy.git")
    one = Flux(shop.server.store, repository)
    shop.deploy("v0")
    shop.change("metadata", labels={"kustomize.toolkit.fluxcd.io/name": "apps"})
    found = Kept(shop, repository, one)
    found.release("v1")
    found.release("v2")

    async def reconcile(_request: web.Request) -> None:
        one.run()

    shop.server.after_patch = reconcile
    return found


def images_deployed(kept: Kept) -> list[str]:
    """Each image that the Deployment had, one after the other."""
    found: list[str] = []
    for _, plural, _, one in kept.shop.server.store.changes:
        if plural == "deployments":
            image = one["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]
            found += [image] if not found or found[-1] != image else []
    return found


@pytest.mark.parametrize("way", ["flux", "git", "both"])
async def test_a_revert_stays(kept: Kept, way: str) -> None:
    target = kept.target(way)
    assert await in_place(target) == "v2"
    assert (await target.readiness("v1")).problems == ()
    await target.revert(ORDER)
    kept.shop.run()
    kept.flux.run()
    kept.shop.run()
    assert await in_place(target) == "v1"
    assert await target.settled("v1")
    assert images_deployed(kept) == ["v0", "v1", "v2", "v1"]
    assert kept.flux.suspended == (way == "flux")
    said = kept.repository.git("log", "-1", "--format=%B", "main")
    assert ("Because: 23% of requests failed" in said) == (way != "flux")
    commits = kept.repository.git("rev-list", "--count", "main")
    await target.revert(ORDER)
    assert kept.repository.git("rev-list", "--count", "main") == commits
    assert images_deployed(kept) == ["v0", "v1", "v2", "v1"]


@pytest.mark.parametrize("way", ["flux", "both"])
async def test_a_key_is_spent_though_flux_took_it_off_the_workload(kept: Kept, way: str) -> None:
    """It does, as soon as it goes on: the key lies among the fields that are its own."""
    await kept.target(way).revert(ORDER)
    kept.flux.change("spec", suspend=False)
    found = kept.shop.deployment
    del found["metadata"]["annotations"]["io.rollbackd/key"]
    kept.shop.server.store.put("deployments", found)
    kept.release("v2")
    with pytest.raises(Conflict):
        await kept.target(way).revert(ORDER)
    assert kept.shop.image == "v2"


async def test_a_suspension_says_whose_it_is_and_how_it_ends(kept: Kept) -> None:
    with capture_logs() as logs:
        await kept.target("flux").revert(ORDER)
    note = json.loads(kept.flux.found["metadata"]["annotations"][flux.SUSPENDED])
    assert (note["key"], note["from"], note["to"], note["why"]) == ("key-1", "v2", "v1", "23% of requests failed")
    (told,) = [one for one in logs if one["event"] == "flux_stays_suspended"]
    assert "flux resume kustomization apps -n shop" in told["cure"]


async def test_what_somebody_else_suspended_is_not_claimed_and_not_resumed(kept: Kept) -> None:
    kept.flux.change("spec", suspend=True)
    await kept.target("both").revert(ORDER)
    kept.shop.run()
    assert kept.shop.image == "v1"
    assert kept.flux.suspended
    assert flux.SUSPENDED not in kept.flux.found["metadata"].get("annotations", {})


async def test_a_release_that_came_back_is_not_undone_twice(kept: Kept) -> None:
    """Somebody resumed Flux while git still says the bad release: it deploys that again, and there it ends."""
    target = kept.target("flux")
    await target.revert(ORDER)
    kept.shop.run()
    kept.flux.change("spec", suspend=False)
    kept.flux.run()
    kept.shop.run()
    assert kept.shop.image == "v2"
    for key in ("key-1", "key-2"):
        with pytest.raises(Conflict):
            await target.revert(RevertOrder(to="v1", expect="v2", key=key))
    assert kept.shop.image == "v2"
    assert not kept.flux.suspended


async def test_a_parent_that_takes_the_suspension_back_wins(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    change = flux_objects.Flux.change

    async def undone(self: flux_objects.Flux, *arguments: Any) -> Any:
        answer = await change(self, *arguments)
        kept.flux.change("spec", suspend=False)
        return answer

    monkeypatch.setattr(flux_objects.Flux, "change", undone)
    with pytest.raises(Conflict, match="is `suspend` in its manifest"):
        await kept.target("flux").revert(ORDER)
    assert kept.shop.image == "v2"


async def test_a_manifest_that_says_suspend_is_told_beforehand(kept: Kept) -> None:
    applied = {"manager": "kustomize-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}
    kept.flux.change("metadata", managedFields=[applied])
    (problem,) = (await kept.target("flux").readiness("v1")).problems
    assert "`suspend` in its own manifest" in problem


async def test_an_owner_in_the_middle_of_applying_is_waited_for(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flux, "QUIET_S", 0.3)
    busy = {"type": "Reconciling", "status": "True", "reason": "Progressing", "message": "Detecting drift for ..."}
    kept.flux.change("status", conditions=[busy])
    target = kept.target("flux")
    with pytest.raises(Temporary, match="still applying"):
        await target.revert(ORDER)
    assert kept.shop.image == "v2"
    kept.flux.change("status", conditions=[{**busy, "message": "Running health checks for revision ..."}])
    await target.revert(ORDER)
    assert kept.shop.image == "v1"


@pytest.mark.parametrize("way", ["flux", "both"])
async def test_a_deployment_meanwhile_is_not_overwritten_and_flux_goes_on(
    kept: Kept, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the suspension and before the revert."""
    quiet = flux.FluxRoad._quiet

    async def late(self: flux.FluxRoad, *arguments: Any) -> None:
        await quiet(self, *arguments)
        kept.repository.commit({MANIFEST: manifest("v3")})
        kept.shop.deploy("v3")

    monkeypatch.setattr(flux.FluxRoad, "_quiet", late)
    with pytest.raises(Conflict, match="v3 is in place"):
        await kept.target(way).revert(ORDER)
    assert kept.shop.image == "v3"
    assert not kept.flux.suspended


async def test_a_push_meanwhile_is_deployed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after the workload was reverted and before the commit: git has the last word."""
    carry_out = Reverter.carry_out

    async def late(self: Reverter, order: RevertOrder) -> None:
        await carry_out(self, order)
        kept.repository.commit({MANIFEST: manifest("v3")})

    monkeypatch.setattr(Reverter, "carry_out", late)
    with pytest.raises(Conflict):
        await kept.target("both").revert(ORDER)
    kept.shop.run()
    assert kept.shop.image == "v3"
    assert not kept.flux.suspended


async def test_a_protected_branch_leaves_the_workload_reverted_and_held(kept: Kept) -> None:
    kept.repository.hook("pre-receive", "echo protected >&2; exit 1")
    with pytest.raises(Permanent, match=r"back at v1, and .* suspended: .*`flux resume kustomization apps -n shop`"):
        await kept.target("both").revert(ORDER)
    kept.shop.run()
    kept.flux.run()
    assert kept.shop.image == "v1"
    assert kept.flux.suspended


async def test_a_pull_request_leaves_it_suspended_until_somebody_merged(kept: Kept) -> None:
    target = kept.target("both", mode="pull_request")
    with capture_logs() as logs:
        await target.revert(ORDER)
    kept.shop.run()
    assert await target.settled("v1")
    assert kept.flux.suspended
    assert "flux_stays_suspended" in [one["event"] for one in logs]


async def test_flux_is_not_resumed_before_it_has_the_commit(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flux_git, "FETCHED_S", 0.0)
    kept.flux.fetches = False
    target = kept.target("both")
    with pytest.raises(Temporary, match="has not fetched it"):
        await target.revert(ORDER)
    assert kept.flux.suspended
    kept.flux.fetches = True
    kept.flux.run()
    await target.revert(ORDER)
    assert not kept.flux.suspended
    assert images_deployed(kept)[-1] == "v1"


async def test_it_is_not_settled_before_flux_has_turned_to_the_commit(kept: Kept) -> None:
    target = kept.target("git")
    await target.revert(ORDER)
    kept.shop.run()
    kept.flux.change("status", lastAttemptedRevision=f"main@sha1:{40 * 'a'}")
    with pytest.raises(Temporary, match="still at commit aaaaaaaaaaaa"):
        await target.settled("v1")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_between_any_two_calls_it_reverts_once(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """At each change in turn: just before it is sent, and just before its answer is read. Looking changes nothing."""
    patch, push = Api.patch, Mirror.push
    changes, fatal = 0, 0

    def mortal(real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def change(*arguments: Any, **more: Any) -> Any:
            nonlocal changes
            changes += not more.get("dry")
            if changes == fatal and when == "before":
                raise Killed
            got = await real(*arguments, **more)
            if changes == fatal:
                raise Killed
            return got

        return change

    monkeypatch.setattr(Api, "patch", mortal(patch))
    monkeypatch.setattr(Mirror, "push", mortal(push))
    for fatal_change in range(1, 20):
        fatal = 0
        kept.release("v2")
        kept.shop.server.store.changes.clear()
        order = RevertOrder(to="v1", expect="v2", key=f"key-{fatal_change}")
        commits = int(kept.repository.git("rev-list", "--count", "main"))
        changes, fatal, died = 0, fatal_change, False
        try:
            await kept.target("both").revert(order)
        except Killed:
            died = True
        fatal = 0
        await kept.target("both").revert(order)
        kept.shop.run()
        assert int(kept.repository.git("rev-list", "--count", "main")) == commits + 1
        assert [image for image in images_deployed(kept) if image != "v2"] == ["v1"]
        assert not kept.flux.suspended
        if not died:
            break
    assert fatal_change > 6, "suspend, revert, push, ask twice, resume"


@pytest.mark.parametrize("code", [403, 409, 429, 500])
@pytest.mark.parametrize("way", ["flux", "git", "both"])
async def test_faults_of_the_api_end_in_errors_of_ours_and_are_got_over(kept: Kept, way: str, code: int) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse | None:
        return status(code, "No", "a-token is no good") if "fluxcd" in request.path else None

    target = kept.target(way)
    kept.shop.server.misbehave = refuse
    with capture_logs() as logs:
        error = await _met(target)
    assert "a-token" not in f"{logs}{error}"
    assert isinstance(error, Permanent) == (code == 403 and way != "git")
    assert kept.shop.image == "v2"
    kept.shop.server.misbehave = None
    await target.revert(ORDER)
    kept.flux.run()
    kept.shop.run()
    assert kept.shop.image == "v1"


async def _met(target: Target) -> RollbackdError | None:
    """What a revert raises; in git alone, what Flux is asked for besides may fail."""
    try:
        await target.revert(ORDER)
    except RollbackdError as error:
        return error
    return None


@pytest.mark.parametrize("body", [b"", b"\xff\xfe{", b"[]", b'{"metadata": 7}', b"[" * 50_000])
async def test_an_answer_that_is_no_object_is_a_permanent_fault(kept: Kept, body: bytes) -> None:
    async def garbage(request: web.Request) -> web.StreamResponse | None:
        return web.Response(body=body) if "fluxcd" in request.path else None

    kept.shop.server.misbehave = garbage
    with pytest.raises(Permanent, match="is none that can be read"):
        await kept.target("flux").revert(ORDER)
    assert kept.shop.image == "v2"


async def test_missing_rights_and_objects_are_told_beforehand(kept: Kept) -> None:
    kept.shop.server.denied = {"patch kustomizations"}
    (problem,) = (await kept.target("flux").readiness("v1")).problems
    assert "may not patch kustomizations apps" in problem
    kept.shop.server.denied = set()
    kept.shop.change("metadata", labels={"kustomize.toolkit.fluxcd.io/name": "gone"})
    (problem,) = (await kept.target("flux").readiness("v1")).problems
    assert "there is no Flux kustomization shop/gone" in problem


async def test_helm_releases_are_left_to_git(kept: Kept) -> None:
    kept.shop.change("metadata", labels={"helm.toolkit.fluxcd.io/name": "checkout"})
    target = kept.target("flux")
    (problem,) = (await target.readiness("v1")).problems
    assert "configure `owners.git`" in problem
    with pytest.raises(Permanent, match=r"owners\.git"):
        await target.revert(ORDER)
    assert (await kept.target("git").readiness("v1")).problems == ()


async def test_names_that_git_does_not_know_are_told(kept: Kept) -> None:
    kept.shop.deploy("v9")
    (problem,) = (await kept.target("git").readiness("v2")).problems
    assert "git says v2 and the cluster runs v9" in problem
    (problem,) = (await kept.target("git").readiness("v9")).problems
    assert "does not know release v9" in problem
    with pytest.raises(Conflict, match="v9 is in place"):
        await kept.target("git").revert(ORDER)


async def test_one_image_with_two_templates_is_not_guessed_at(kept: Kept) -> None:
    kept.shop.deploy("v1", {"other": "template"})
    twin = await in_place(kept.target("git"))
    kept.shop.deploy("v2")
    target = kept.target("git")
    (problem,) = (await target.readiness("v1")).problems
    assert problem.startswith(f"{twin} has the same image as v1")
    with pytest.raises(Permanent, match="does not tell them apart"):
        await target.revert(ORDER)


async def test_a_source_that_follows_another_branch_is_told(kept: Kept) -> None:
    store = kept.shop.server.store
    source = store.get("gitrepositories", "deploy")
    source["status"] = {"artifact": {"revision": f"production@sha1:{40 * 'a'}"}}
    store.put("gitrepositories", source)
    (problem,) = (await kept.target("git").readiness("v1")).problems
    assert "follows production, not the branch main" in problem


async def test_argo_cd_is_asked_to_look_and_asked_what_it_applies(kept: Kept) -> None:
    kept.shop.change("metadata", labels={"argocd.argoproj.io/instance": "apps"})
    store = kept.shop.server.store
    store.put("applications", {"metadata": {"name": "apps"}, "status": {"sync": {"revision": 40 * "a"}}})
    target = kept.target("git", argocd_namespace="shop")
    await target.revert(ORDER)
    application = store.get("applications", "apps")
    assert application["metadata"]["annotations"] == {"argocd.argoproj.io/refresh": "normal"}
    kept.shop.deploy("v1")
    with pytest.raises(Temporary, match="still at commit"):
        await target.settled("v1")
    application["status"]["sync"]["revision"] = kept.repository.head
    store.put("applications", application)
    assert await target.settled("v1")
    kept.shop.server.misbehave = _no_argo_cd
    assert await target.settled("v1")


async def _no_argo_cd(request: web.Request) -> web.StreamResponse | None:
    return status(403, "Forbidden", "no") if "argoproj" in request.path else None


def test_a_repository_without_image_is_refused() -> None:
    with pytest.raises(ValidationError, match="`image` is needed"):
        ADAPTER.config.model_validate({"deployment": "checkout", "owners": {"git": {"url": "/srv/deploy.git"}}})

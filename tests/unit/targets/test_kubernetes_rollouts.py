"""Rollouts of Argo Rollouts on the small Kubernetes; tests/system/kubernetes/test_rollouts.py has the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.kubernetes.api import Api
from rollbackd.targets.base import RevertOrder
from tests.support.dying import Deadly, Killed
from tests.support.kube_server import status
from tests.support.kube_store import digest
from tests.support.waiting import eventually
from tests.unit.targets.kube_rollout import TOKEN, Rollout, opened
from tests.unit.targets.kube_shop import IMAGE, ORDER, in_place, watching


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Rollout]:
    async with opened(tmp_path) as one:
        yield one


# -- reverting


async def test_a_release_on_its_way_is_aborted_and_then_undone(rollout: Rollout) -> None:
    rollout.deploy("v1")
    rollout.deploy("v2")
    target = rollout.make()
    assert (await in_place(target), rollout.images) == ("v2", ["v1", "v2"])
    assert (await target.readiness("v1")).ready
    await target.revert(ORDER)
    noted, aborted, undone = rollout.server.patched
    assert not noted["status"]["abort"]
    assert aborted["status"]["abort"] is True
    assert ":v2" in str(aborted["spec"]["template"]), "the abort changes nothing else"
    assert undone["metadata"]["annotations"]["io.rollbackd/key"] == '["key-1"]'
    rollout.run()
    assert await target.settled("v1")
    assert (rollout.images, rollout.found["status"]["abort"]) == (["v1", "v1"], False)
    await target.revert(ORDER)
    assert len(rollout.server.patched) == 3


async def test_a_release_that_was_promoted_is_undone_and_the_old_one_promoted(rollout: Rollout) -> None:
    rollout.deploy("v1")
    rollout.promoted("v2")
    target = rollout.make()
    await target.revert(ORDER)
    assert rollout.patches == ["/", "/status"]
    rollout.run()
    assert await target.settled("v1")


async def test_steps_are_kept_where_that_is_wanted(rollout: Rollout) -> None:
    rollout.deploy("v1")
    rollout.promoted("v2")
    target = rollout.make(rollout_steps="keep")
    await target.revert(ORDER)
    assert rollout.patches == ["/"]
    rollout.run()
    assert (rollout.images, await target.settled("v1")) == (["v1", "v2"], False)


async def test_a_human_pause_is_lifted(rollout: Rollout) -> None:
    rollout.deploy("v1")
    rollout.promoted("v2")
    rollout.change("spec", paused=True)
    target = rollout.make()
    await target.revert(ORDER)
    rollout.run()
    assert (rollout.found["spec"]["paused"], await target.settled("v1")) == (False, True)


async def test_what_argo_aborted_itself_is_undone(rollout: Rollout) -> None:
    rollout.deploy("v1")
    rollout.deploy("v2")
    rollout.change("status", abort=True)
    target = rollout.make()
    await target.revert(ORDER)
    assert rollout.patches == ["/"]
    rollout.run()
    assert await target.settled("v1")


async def test_what_somebody_put_back_is_seen_through(rollout: Rollout) -> None:
    rollout.deploy("v1")
    rollout.promoted("v2")
    rollout.deploy("v1")
    target = rollout.make()
    await target.revert(ORDER)
    rollout.run()
    assert (rollout.patches, await target.settled("v1")) == (["/", "/status"], True)


async def test_a_tag_that_was_moved_is_no_success(rollout: Rollout) -> None:
    rollout.deploy("v1")
    target = rollout.make()
    await target.current()
    rollout.promoted("v2")
    rollout.server.rollouts.moved = {f"{IMAGE}:v1": digest("another")}
    await target.revert(ORDER)
    rollout.run()
    with pytest.raises(Permanent, match="tag was moved"):
        await target.settled("v1")


# -- what would keep it from working


@pytest.mark.parametrize(
    ("denied", "told"),
    [
        ("patch rollouts", "we may not patch rollouts checkout:"),
        ("patch rollouts/status", "we may not patch rollouts checkout status:"),
    ],
)
async def test_a_missing_right_is_told(rollout: Rollout, denied: str, told: str) -> None:
    rollout.deploy("v1")
    rollout.deploy("v2")
    rollout.server.denied = {denied}
    (problem,) = (await rollout.make().readiness("v1")).problems
    assert told in problem


async def test_a_template_that_is_kept_elsewhere_is_left_alone(rollout: Rollout) -> None:
    rollout.deploy("v1")
    rollout.deploy("v2")
    rollout.change("spec", workloadRef={"kind": "Deployment", "name": "checkout"})
    target = rollout.make()
    (problem,) = (await target.readiness("v1")).problems
    assert "its pod template is that of Deployment checkout" in problem
    with pytest.raises(Permanent, match="workloadRef"):
        await target.revert(ORDER)
    assert rollout.patches == []


# -- somebody else


@pytest.mark.parametrize("call", [1, 2, 3])
async def test_a_humans_change_is_not_overwritten(rollout: Rollout, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Just before the abort is noted and sent, and just before the old template is."""
    rollout.deploy("v1")
    rollout.deploy("v2")
    _at_patch(monkeypatch, call, lambda: rollout.deploy("v3"))
    with pytest.raises(Conflict, match="v3 is in place"):
        await rollout.make().revert(ORDER)
    assert (rollout.image, rollout.found["status"]["phase"]) == ("v3", "Paused")


async def test_who_resumes_what_was_aborted_is_left_alone(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout.deploy("v1")
    rollout.deploy("v2")
    _at_patch(monkeypatch, 3, lambda: rollout.change("status", abort=False))
    with pytest.raises(Conflict, match="somebody resumed"):
        await rollout.make().revert(ORDER)
    assert rollout.image == "v2"


@pytest.mark.parametrize("then", [{"abort": False}, {"abort": False, "promoteFull": True}])
async def test_who_resumes_or_promotes_what_was_aborted_is_left_alone_after_a_death_as_well(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch, then: dict[str, bool]
) -> None:
    """Killed right after the abort; somebody acts before the order is given again."""
    rollout.deploy("v1")
    rollout.deploy("v2")
    with monkeypatch.context() as patched:
        _at_patch(patched, 3, _die)
        with pytest.raises(Killed):
            await rollout.make().revert(ORDER)
    rollout.run()
    assert rollout.found["status"]["abort"] is True
    rollout.change("status", **then)
    with pytest.raises(Conflict, match="somebody resumed"):
        await rollout.make().revert(ORDER)
    assert rollout.image == "v2"
    # another order, given by who knows of that, is carried out
    await rollout.make().revert(RevertOrder(to="v1", expect="v2", key="key-2"))
    assert rollout.image == "v1"
    assert "io.rollbackd/aborting" not in rollout.found["metadata"]["annotations"]


async def test_a_step_that_ends_before_the_abort_is_tried_again_is_nobody(rollout: Rollout) -> None:
    """The abort is noted and not carried out; what turned the rollout since is its own step."""
    rollout.deploy("v1")
    rollout.deploy("v2")
    refuses = True

    async def overloaded(request: web.Request) -> web.StreamResponse | None:
        return status(503, "ServiceUnavailable", "no") if refuses and request.path.endswith("/status") else None

    rollout.server.misbehave = overloaded
    target = rollout.make()
    with pytest.raises(Temporary):
        await target.revert(ORDER)
    turned = {"type": "Progressing", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}
    rollout.change("status", conditions=[turned])
    refuses = False
    await target.revert(ORDER)
    rollout.run()
    assert await target.settled("v1")


@pytest.mark.parametrize("lost", [False, True])
async def test_who_resumes_what_was_aborted_is_left_alone_when_the_order_is_given_again(
    rollout: Rollout, lost: bool
) -> None:
    """The old template cannot be put back at first; perhaps the answer to the abort was lost, too."""
    rollout.deploy("v1")
    rollout.deploy("v2")
    answered = 0

    async def loses(request: web.Request) -> web.StreamResponse | None:
        nonlocal answered
        answered += 1
        return status(503, "ServiceUnavailable", "no") if answered == 2 and lost else None

    async def overloaded(request: web.Request) -> web.StreamResponse | None:
        puts_back = request.method == "PATCH" and answered >= 2 and not request.path.endswith("/status")
        return status(503, "ServiceUnavailable", "no") if puts_back else None

    rollout.server.misbehave, rollout.server.after_patch = overloaded, loses
    target = rollout.make()
    for _ in range(2):
        with pytest.raises(Temporary):
            await target.revert(ORDER)
    rollout.server.misbehave = rollout.server.after_patch = None
    assert rollout.found["status"]["abort"] is True
    rollout.change("status", abort=False)
    with pytest.raises(Conflict, match="somebody resumed"):
        await target.revert(ORDER)
    assert rollout.image == "v2"


def _die() -> None:
    raise Killed


async def test_who_aborts_what_was_put_back_is_left_alone(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout.deploy("v1")
    rollout.promoted("v2")
    _at_patch(monkeypatch, 2, lambda: rollout.change("status", abort=True))
    with pytest.raises(Conflict, match="was aborted"):
        await rollout.make().revert(ORDER)


def _at_patch(monkeypatch: pytest.MonkeyPatch, call: int, happens: Callable[[], object]) -> None:
    """Just before this patch is sent, something happens."""
    patch, tried = Api.patch, 0

    async def late(self: Api, *arguments: Any) -> bytes:
        nonlocal tried
        tried += 1
        if tried == call:
            happens()
        return await patch(self, *arguments)

    monkeypatch.setattr(Api, "patch", late)


async def test_a_spec_that_is_observed_but_not_named_yet_is_not_taken_for_the_old_one(rollout: Rollout) -> None:
    """Or what somebody else puts back would be overwritten in that moment."""
    rollout.deploy("v0")
    rollout.promoted("v1")
    rollout.promoted("v2")
    target = rollout.make()
    await target.current()
    rollout.server.rollouts.hasty = True
    rollout.deploy("v0")
    with pytest.raises(Temporary, match="have not taken up"):
        await target.revert(ORDER)
    assert rollout.image == "v0"


# -- dying and faults, at each call in turn


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("promoted", [False, True])
async def test_killed_between_any_two_calls_it_reverts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, promoted: bool
) -> None:
    deadly = Deadly(when)
    monkeypatch.setattr(Api, "_answer", deadly.around(Api._answer))

    async def once(rollout: Rollout, call: int) -> bool:
        deadly.at(call)
        died = False
        try:
            await rollout.make().revert(ORDER)
        except Killed:
            died = True
        deadly.at(0)
        await rollout.make().revert(ORDER)
        return died

    await _at_each_call(tmp_path, once, promoted=promoted)


@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("fault", ["429", "500", "403", "409", "cut", "garbage"])
async def test_a_fault_of_the_server_is_got_over(tmp_path: Path, fault: str, promoted: bool) -> None:
    async def once(rollout: Rollout, call: int) -> bool:
        calls = 0

        async def misbehave(request: web.Request) -> web.StreamResponse | None:
            nonlocal calls
            calls += 1
            if calls != call:
                return None
            if fault == "cut" and request.transport is not None:
                request.transport.close()
                return None
            return web.Response(body=b"\xff{\0") if fault == "garbage" else status(int(fault), "X", TOKEN)

        rollout.server.misbehave = misbehave
        target = rollout.make()
        told = ""
        try:
            await target.revert(ORDER)
        except RollbackdError as error:
            told = str(error)
        assert TOKEN not in told
        struck = calls >= call
        rollout.server.misbehave = None
        await target.revert(ORDER)
        return struck

    await _at_each_call(tmp_path, once, promoted=promoted)


async def _at_each_call(folder: Path, once: Callable[[Rollout, int], Awaitable[bool]], *, promoted: bool) -> None:
    """Revert with something happening at the first call, at the second and so on, until it happens no more."""
    for call in range(1, 40):
        place = folder / str(call)
        place.mkdir()
        async with opened(place) as rollout:
            rollout.deploy("v1")
            rollout.deploy("v2")
            if promoted:
                rollout.change("status", promoteFull=True)
            generation = rollout.found["metadata"]["generation"]
            happened = await once(rollout, call)
            rollout.run()
            assert await rollout.make().settled("v1")
            after = rollout.found
            assert after["metadata"]["generation"] - generation == 1, "one template was put in place"
            assert after["status"]["abort"] is False
            assert after["metadata"]["annotations"]["io.rollbackd/key"] == '["key-1"]'
        if not happened:
            break
    assert call > 4, "it has more calls than that"


# -- seeing releases


async def test_a_release_is_started_until_it_is_promoted(rollout: Rollout) -> None:
    rollout.deploy("v1")
    async with watching(rollout.server, rollout.make()) as seen:
        rollout.deploy("v2")
        await eventually(lambda: seen == [("v2", "v1", "started")])
        rollout.change("status", promoteFull=True)
        await eventually(lambda: seen[1:] == [("v2", "v1", "finished")])


async def test_a_release_that_is_aborted_has_failed(rollout: Rollout) -> None:
    rollout.deploy("v1")
    async with watching(rollout.server, rollout.make()) as seen:
        rollout.deploy("v2")
        await eventually(lambda: seen == [("v2", "v1", "started")])
        rollout.change("status", abort=True)
        await eventually(lambda: seen[1:] == [("v2", "v1", "failed")])

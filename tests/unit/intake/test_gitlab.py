"""GitLab's deployment events."""

from __future__ import annotations

import pytest

from rollbackd.fields import Secret
from rollbackd.intake.base import Reading, Rejected
from rollbackd.model import DeploymentEvent
from tests.support.deliveries import NOW, Known, delivery
from tests.support.deploys import SHA, gitlab
from tests.support.website import build_intake


def read(body: object, **settings: object) -> Reading:
    return build_intake("gitlab", Known(), settings).read(delivery(body))


def told(body: object, **settings: object) -> DeploymentEvent:
    [accepted] = read(body, **settings).accepted
    assert isinstance(accepted.event, DeploymentEvent)
    return accepted.event


def test_a_success_is_a_finished_deployment_of_the_whole_commit() -> None:
    event = told(gitlab())
    assert (event.service, event.version, event.phase, event.t) == ("checkout", SHA, "finished", NOW - 20)


@pytest.mark.parametrize(("status", "phase"), [("running", "started"), ("success", "finished"), ("failed", "failed")])
def test_each_status_that_moves_something_is_a_phase(status: str, phase: str) -> None:
    assert told(gitlab(status=status)).phase == phase


@pytest.mark.parametrize("status", ["created", "blocked", "canceled", "skipped"])
def test_a_status_that_moves_nothing_is_left_out(status: str) -> None:
    assert read(gitlab(status=status)) == Reading(dropped={"no_change": 1})


def test_the_phases_of_one_deployment_are_different_facts() -> None:
    keys = {read(gitlab(status=status)).accepted[0].key for status in ("running", "success")}
    assert len(keys) == 2
    assert read(gitlab()).accepted[0].key == read(gitlab()).accepted[0].key


def test_the_tier_tells_an_environment_of_another_name() -> None:
    assert told(gitlab(environment="eu-west")).service == "checkout"
    other = gitlab(environment="eu-west", environment_tier="staging")
    assert read(other) == Reading(dropped={"other_environment": 1})


@pytest.mark.parametrize(("version", "expected"), [("sha", SHA), ("short_sha", SHA[:8]), ("ref", "main")])
def test_what_the_target_calls_a_release_is_configurable(version: str, expected: str) -> None:
    assert told(gitlab(), version=version).version == expected


def test_without_a_whole_commit_the_short_one_must_do() -> None:
    assert told(gitlab(commit_url="https://gitlab.example.com/acme/checkout/-/commit/other")).version == SHA[:8]


def test_a_service_may_be_named_by_its_project() -> None:
    body = gitlab(project="shop-frontend")
    assert read(body).dropped == {"unknown_service": 1}
    assert told(body, services={"search": {"project": "acme/shop-frontend"}}).service == "search"


def test_other_events_are_none_of_our_business() -> None:
    assert read({"object_kind": "push", "ref": "refs/heads/main"}) == Reading(dropped={"other_event": 1})


@pytest.mark.parametrize("stamp", ["2023-11-14 22:13:00 UTC", "2023-11-14 17:13:00 -0500"])
def test_its_way_of_writing_moments_is_understood(stamp: str) -> None:
    assert told(gitlab(status_changed_at=stamp)).t == NOW - 20


def test_what_is_no_moment_is_refused_by_its_place() -> None:
    with pytest.raises(Rejected, match=r"\$\.status_changed_at"):
        read(gitlab(status_changed_at="yesterday"))


async def test_its_token_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "t0ken")
    signature = build_intake("gitlab", Known(), {"secret": Secret(env="HOOK_SECRET")}).signature
    assert signature is not None
    assert await signature.verify(delivery({}, x_gitlab_token="t0ken")) == "gitlab"
    with pytest.raises(Rejected) as refused:
        await signature.verify(delivery({}, x_gitlab_token="t0kem"))
    assert refused.value.status == 401
    assert "t0ke" not in str(refused.value)

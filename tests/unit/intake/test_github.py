"""GitHub's webhooks as deployments."""

from __future__ import annotations

import pytest

from rollbackd.fields import Secret
from rollbackd.intake.base import Reading, Rejected
from rollbackd.intake.github import GitHub
from rollbackd.intake.signature import SignedBody
from rollbackd.model import DeploymentEvent
from tests.support.deliveries import NOW, Known, delivery
from tests.support.deploys import SHA, github_created, github_run, github_status
from tests.support.website import build_intake


def read(event: str, body: object, **settings: object) -> Reading:
    return build_intake("github", Known(), settings).read(delivery(body, x_github_event=event))


def told(event: str, body: object, **settings: object) -> DeploymentEvent:
    [accepted] = read(event, body, **settings).accepted
    assert isinstance(accepted.event, DeploymentEvent)
    return accepted.event


def test_a_status_tells_of_a_deployment_of_the_commit() -> None:
    event = told("deployment_status", github_status())
    assert (event.service, event.version, event.phase, event.t) == ("checkout", SHA, "finished", NOW - 20)


@pytest.mark.parametrize(
    ("state", "phase"),
    [("in_progress", "started"), ("success", "finished"), ("failure", "failed"), ("error", "failed")],
)
def test_each_state_that_moves_something_is_a_phase(state: str, phase: str) -> None:
    assert told("deployment_status", github_status(state=state)).phase == phase


@pytest.mark.parametrize("state", ["pending", "queued", "waiting", "inactive", "a-state-of-tomorrow"])
def test_a_state_that_moves_nothing_is_left_out(state: str) -> None:
    assert read("deployment_status", github_status(state=state)) == Reading(dropped={"no_change": 1})


def test_the_same_status_again_is_the_same_fact_and_the_next_one_is_not() -> None:
    first, again = read("deployment_status", github_status()), read("deployment_status", github_status())
    other = read("deployment_status", github_status(state="in_progress"))
    assert first.accepted[0].key == again.accepted[0].key != other.accepted[0].key


def test_other_environments_are_left_out_unless_wanted() -> None:
    body = github_status(environment="staging")
    assert read("deployment_status", body) == Reading(dropped={"other_environment": 1})
    assert told("deployment_status", body, environments=["staging"]).service == "checkout"
    assert told("deployment_status", body, environments=[]).service == "checkout"


def test_a_service_may_be_named_by_what_the_deployment_says() -> None:
    services = {"search": {"repository": "acme/monorepo", "environment": "production", "part": "search"}}
    body = github_status("monorepo", payload={"part": "search"})
    assert told("deployment_status", body, services=services).service == "search"
    assert read("deployment_status", github_status("monorepo"), services=services).dropped == {"unknown_service": 1}


def test_the_payload_may_name_service_and_version() -> None:
    event = told("deployment_status", github_status("monorepo", payload={"service": "search", "version": "v9"}))
    assert (event.service, event.version) == ("search", "v9")


@pytest.mark.parametrize(("version", "expected"), [("sha", SHA), ("short_sha", SHA[:7]), ("ref", "v2.4.1")])
def test_what_the_target_calls_a_release_is_configurable(version: str, expected: str) -> None:
    assert told("deployment_status", github_status(), version=version).version == expected


def test_a_deployment_that_was_only_created_waits_unless_it_is_all_there_will_be() -> None:
    assert read("deployment", github_created()) == Reading(dropped={"no_change": 1})
    assert told("deployment", github_created(), created="started").phase == "started"


def test_a_workflow_s_run_is_a_deployment_if_it_is_named() -> None:
    assert read("workflow_run", github_run()) == Reading(dropped={"other_workflow": 1})
    event = told("workflow_run", github_run(), workflows=["Deploy"])
    assert (event.version, event.phase) == (SHA, "finished")
    assert told("workflow_run", github_run(conclusion="failure"), workflows=["Deploy"]).phase == "failed"
    begun = github_run(status="in_progress", conclusion=None)
    assert told("workflow_run", begun, workflows=["Deploy"]).phase == "started"
    cancelled = read("workflow_run", github_run(conclusion="cancelled"), workflows=["Deploy"])
    assert cancelled == Reading(dropped={"no_change": 1})


def test_a_second_attempt_of_a_run_is_a_deployment_of_its_own() -> None:
    runs = [read("workflow_run", github_run(run_attempt=n), workflows=["Deploy"]).accepted[0].key for n in (1, 2)]
    assert len(set(runs)) == 2


def test_other_events_are_none_of_our_business_and_a_ping_is_answered() -> None:
    assert read("ping", {"zen": "Design for failure.", "hook_id": 1}) == Reading(dropped={"other_event": 1})


def test_a_body_without_github_s_header_is_refused_with_the_cure() -> None:
    with pytest.raises(Rejected, match="X-GitHub-Event"):
        build_intake("github", Known()).read(delivery(github_status()))


def test_a_delivery_sent_again_an_hour_later_is_refused_and_says_why() -> None:
    intake = build_intake("github", Known())
    with pytest.raises(Rejected, match="lies 3620 s back") as refused:
        intake.read(delivery(github_status(), NOW + 3600, x_github_event="deployment_status"))
    assert (refused.value.status, refused.value.code) == (422, "bad_time")


async def test_its_signature_is_the_one_that_github_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published vector: docs.github.com, validating webhook deliveries, testing the webhook payload validation."""
    monkeypatch.setenv("HOOK_SECRET", "It's a Secret to Everybody")
    signature = build_intake("github", Known(), {"secret": Secret(env="HOOK_SECRET")}).signature
    assert isinstance(signature, SignedBody)
    good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert await signature.verify(delivery(b"Hello, World!", x_hub_signature_256=good)) == "github"
    with pytest.raises(Rejected):
        await signature.verify(delivery(b"Hello, World?", x_hub_signature_256=good))


def test_without_a_secret_there_is_no_signature_to_trust() -> None:
    intake = build_intake("github", Known())
    assert isinstance(intake, GitHub)
    assert intake.signature is None

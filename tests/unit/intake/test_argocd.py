"""Argo CD's notifications as deployments."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from rollbackd.intake.base import Reading, Rejected
from rollbackd.model import DeploymentEvent
from tests.support.deliveries import NOW, Known, delivery
from tests.support.deploys import SHA, argocd
from tests.support.website import build_intake

PAGE = (Path(__file__).parents[3] / "docs/webhooks/argocd.md").read_text(encoding="utf-8")


def read(body: object, **settings: object) -> Reading:
    return build_intake("argocd", Known(), settings).read(delivery(body))


def told(body: object, **settings: object) -> DeploymentEvent:
    [accepted] = read(body, **settings).accepted
    assert isinstance(accepted.event, DeploymentEvent)
    return accepted.event


def test_a_sync_that_succeeded_is_a_finished_deployment_of_its_revision() -> None:
    event = told(argocd())
    assert (event.service, event.version, event.phase, event.t) == ("checkout", SHA, "finished", NOW - 20)


def test_a_sync_that_runs_has_started() -> None:
    event = told(argocd(phase="Running", finishedAt=""))
    assert (event.phase, event.t) == ("started", NOW - 80)


@pytest.mark.parametrize("phase", ["Failed", "Error"])
def test_a_sync_that_failed_is_a_failed_deployment(phase: str) -> None:
    assert told(argocd(phase=phase)).phase == "failed"


def test_a_phase_that_decides_nothing_is_left_out() -> None:
    assert read(argocd(phase="Terminating")) == Reading(dropped={"no_change": 1})


def test_without_moments_it_was_now() -> None:
    assert told(argocd(startedAt="", finishedAt="")).t == NOW


def test_what_is_no_moment_is_refused_by_its_place() -> None:
    with pytest.raises(Rejected, match=r"\$\.finishedAt"):
        read(argocd(finishedAt="<no value>"))


def test_the_tag_of_the_image_may_be_the_version() -> None:
    assert told(argocd(), version="image_tag", image="acme/checkout").version == "v2.4.1"
    alone = argocd(images=["registry.example.com:5000/acme/checkout@sha256:0a1b"])
    assert told(alone, version="image_tag").version == "sha256:0a1b"


def test_of_several_images_none_is_guessed() -> None:
    assert read(argocd(), version="image_tag") == Reading(dropped={"no_revision": 1})


def test_one_sync_told_twice_is_one_fact_and_the_next_sync_is_another() -> None:
    assert read(argocd()).accepted[0].key == read(argocd()).accepted[0].key
    later = argocd(startedAt="2023-11-14T22:12:30Z")
    assert read(argocd()).accepted[0].key != read(later).accepted[0].key


def test_a_service_may_be_named_by_its_project_and_app() -> None:
    body = argocd(app="shop-prod-search")
    assert read(body).dropped == {"unknown_service": 1}
    assert told(body, services={"search": {"app": "shop-prod-search", "project": "shop"}}).service == "search"


def test_the_template_of_the_page_writes_just_the_fields_that_are_read() -> None:
    """Go's templates cannot be run here: what they are filled with is put in their place by hand."""
    [block] = [
        text for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "template." in text
    ]
    written = yaml.safe_load(yaml.safe_load(block)["template.rollbackd"])["webhook"]["rollbackd"]["body"]
    filled = re.sub(r"{{ *toJson [^}]*}}", '["acme/checkout:v2"]', written)
    filled = re.sub(r"{{[^}]*(?:At)\b[^}]*}}", "2023-11-14T22:13:00Z", filled.replace("{{.}}{{end}}", ""))
    filled = re.sub(r"{{[^}]*\.phase[^}]*}}", "Succeeded", filled)
    filled = re.sub(r"{{[^}]*}}", "checkout", filled)
    assert set(json.loads(filled)) == set(argocd())
    assert told(json.loads(filled)).service == "checkout"

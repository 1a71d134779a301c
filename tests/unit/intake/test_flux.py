"""Flux' events as deployments."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from rollbackd.fields import Secret
from rollbackd.intake.base import Reading, Rejected
from rollbackd.model import DeploymentEvent
from tests.support.deliveries import NOW, Known, delivery
from tests.support.deploys import flux
from tests.support.website import build_intake

REVISION = "main@sha1:6f2ae2c3d2a1f0b9e8d7c6b5a4938271605f4e3d"
APPLIED: dict[str, Any] = {
    "reason": "ReconciliationSucceeded",
    "metadata": {"kustomize.toolkit.fluxcd.io/revision": REVISION},
}


def read(body: object, **settings: object) -> Reading:
    return build_intake("flux", Known(), settings).read(delivery(body))


def told(body: object, **settings: object) -> DeploymentEvent:
    [accepted] = read(body, **settings).accepted
    assert isinstance(accepted.event, DeploymentEvent)
    return accepted.event


def test_an_upgrade_of_a_helm_release_is_a_deployment_of_its_chart_version() -> None:
    event = told(flux())
    assert (event.service, event.version, event.phase, event.t) == ("checkout", "6.5.1", "finished", NOW - 20)


def test_a_kustomization_that_was_applied_is_a_deployment_of_its_revision() -> None:
    assert told(flux(kind="Kustomization", **APPLIED)).version == REVISION


@pytest.mark.parametrize(("version", "expected"), [("revision", REVISION), ("commit", REVISION[10:]), ("tag", "main")])
def test_what_the_target_calls_a_release_is_configurable(version: str, expected: str) -> None:
    assert told(flux(kind="Kustomization", **APPLIED), version=version).version == expected


@pytest.mark.parametrize("reason", ["UpgradeFailed", "InstallFailed", "HealthCheckFailed", "ReconciliationFailed"])
def test_a_failure_is_a_failed_deployment(reason: str) -> None:
    assert told(flux(reason=reason, severity="error")).phase == "failed"


def test_other_reasons_and_other_objects_tell_of_no_deployment() -> None:
    assert read(flux(reason="NewArtifact")) == Reading(dropped={"other_event": 1})
    assert read(flux(kind="GitRepository")) == Reading(dropped={"other_event": 1})


def test_an_event_without_a_revision_tells_of_no_release() -> None:
    assert read(flux(metadata={})) == Reading(dropped={"no_revision": 1})


def test_a_service_may_be_named_by_the_alert_s_own_metadata() -> None:
    body = flux(name="apps", metadata={"revision": "v7", "service": "search"})
    assert told(body).service == "search"
    listed = {"checkout": {"cluster": "eu", "name": "apps"}}
    assert told(flux(name="apps", metadata={"revision": "v7", "cluster": "eu"}), services=listed).service == "checkout"
    assert read(flux(name="apps")).dropped == {"unknown_service": 1}


async def test_its_signature_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "k3y")
    signature = build_intake("flux", Known(), {"secret": Secret(env="HOOK_SECRET")}).signature
    assert signature is not None
    body = json.dumps(flux()).encode()
    right = "sha256=" + hmac.new(b"k3y", body, hashlib.sha256).hexdigest()
    assert await signature.verify(delivery(body, x_signature=right)) == "flux"
    with pytest.raises(Rejected):
        await signature.verify(delivery(body + b" ", x_signature=right))

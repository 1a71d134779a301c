"""CloudEvents in all their modes: alerts at one path, deployments at another with another scope."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rollbackd.intake import cloudevents, cloudevents_deployments
from rollbackd.intake.base import Delivery, Intake, IntakeContext, Reading, Rejected
from rollbackd.model import Alert, DeploymentEvent
from tests.support.deliveries import NOW, Known
from tests.support.payloads import altered, payload

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json; charset=utf-8"


def alerts(**config: object) -> Intake:
    adapter = cloudevents.ADAPTER
    return adapter.build(adapter.config.model_validate(config), IntakeContext(services=Known()))


def deployments(**config: object) -> Intake:
    adapter = cloudevents_deployments.ADAPTER
    return adapter.build(adapter.config.model_validate(config), IntakeContext(services=Known()))


def sent(body: Any, kind: str = STRUCTURED, **headers: str) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": kind} | {f"ce-{name}": value for name, value in headers.items()}
    return Delivery(body=raw, headers=named, query={}, received_at=NOW)


def firing(**changed: object) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": "4711",
        "source": "/monitoring",
        "subject": "checkout",
        "type": "io.rollbackd.alert.firing",
        "time": "2023-11-14T22:12:20Z",
        "data": {"name": "TooManyErrors", "severity": "critical"},
    } | changed


def deployed(**changed: object) -> dict[str, object]:
    told = firing(type="io.rollbackd.deployment.finished", data={"version": "v2", "previous": "v1"})
    return told | changed


ALERT = Alert(t=NOW - 60, service="checkout", name="TooManyErrors", status="firing", severity="critical")


def one(reading: Reading) -> object:
    (accepted,) = reading.accepted
    return accepted.event


class TestModes:
    """The same event, however it travels."""

    def test_structured(self) -> None:
        assert one(alerts().read(sent(firing()))) == ALERT

    def test_batched_with_one_broken_event_among_others(self) -> None:
        reading = alerts().read(sent([firing(), {"id": "broken"}, firing(id="2")], BATCH))
        assert [accepted.event for accepted in reading.accepted] == [ALERT, ALERT]
        assert reading.dropped == {"malformed": 1}

    @pytest.mark.parametrize("kind", ["application/json", "application/cdevents+json"])
    def test_binary(self, kind: str) -> None:
        told = firing()
        headers = {name: str(value) for name, value in told.items() if name != "data"}
        assert one(alerts().read(sent(told["data"], kind, **headers))) == ALERT

    def test_binary_headers_are_percent_encoded(self) -> None:
        told = firing(subject="caf%C3%A9")
        headers = {name: str(value) for name, value in told.items() if name != "data"}
        reading = alerts(match={"search": {"subject": "café"}}).read(sent(told["data"], "application/json", **headers))
        assert isinstance(event := one(reading), Alert)
        assert event.service == "search"

    def test_bytes_in_headers_that_are_no_text_hurt_nobody(self) -> None:
        headers = {"specversion": "1.0", "id": "\udcff", "source": "%FF", "type": "io.rollbackd.alert.firing"}
        reading = alerts().read(sent({"name": "a"}, "application/json", subject="checkout", **headers))
        assert isinstance(one(reading), Alert)

    def test_binary_without_its_headers_is_told_what_is_missing(self) -> None:
        with pytest.raises(Rejected, match=r"`ce-` headers do not fit: .*specversion"):
            alerts().read(sent({"name": "a"}, "application/json"))

    def test_another_version_is_refused(self) -> None:
        with pytest.raises(Rejected, match=r"only CloudEvents `1.0`"):
            alerts().read(sent(firing(specversion="0.3")))

    def test_a_batch_of_which_nothing_can_be_read_is_refused(self) -> None:
        with pytest.raises(Rejected, match="not one event"):
            alerts().read(sent([{}, {"id": "1"}], BATCH))


class TestAlerts:
    def test_it_may_have_begun_before_it_is_told(self) -> None:
        told = firing(data={"name": "a", "began": NOW - 7200})
        assert isinstance(event := one(alerts().read(sent(told))), Alert)
        assert (event.t, event.since) == (NOW, NOW - 7200)

    def test_without_any_moment_it_began_now_and_is_still_one_fact(self) -> None:
        told = firing()
        del told["time"]
        first, later = (
            sent(told),
            Delivery(body=sent(told).body, headers=sent(told).headers, query={}, received_at=NOW + 99),
        )
        (a,), (b,) = alerts().read(first).accepted, alerts().read(later).accepted
        assert a.event.t == NOW
        assert a.key == b.key

    def test_the_same_source_and_id_is_the_same_fact(self) -> None:
        keys = [
            alerts().read(sent(firing(**changed))).accepted[0].key
            for changed in ({}, {"id": "4711"}, {"id": "2"}, {"source": "/other"})
        ]
        assert keys[0] == keys[1]
        assert len(set(keys)) == 3

    def test_it_ends(self) -> None:
        event = one(alerts().read(sent(firing(type="io.rollbackd.alert.resolved"))))
        assert isinstance(event, Alert)
        assert (event.status, event.t) == ("resolved", NOW - 60)

    def test_an_incident_of_cdevents_fires_and_ends_under_its_id(self) -> None:
        found = one(alerts().read(sent(payload("cdevents_incident_detected"))))
        assert found == Alert(
            t=NOW - 60, service="checkout", name="incident incident-123", status="firing", severity="warning"
        )
        over = payload("cdevents_incident_detected") | {"type": "dev.cdevents.incident.resolved.0.3.0"}
        assert isinstance(ended := one(alerts().read(sent(over))), Alert)
        assert (ended.name, ended.status) == ("incident incident-123", "resolved")

    @pytest.mark.parametrize(
        ("where", "value"), [("subject", "service/checkout"), ("source", "//shop/checkout"), ("source", "checkout")]
    )
    def test_the_service_is_named_by_subject_or_source(self, where: str, value: str) -> None:
        assert isinstance(event := one(alerts().read(sent(firing(**{"subject": None, where: value})))), Alert)
        assert event.service == "checkout"

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"type": "com.github.push"}, "other_type"),
            ({"type": "io.rollbackd.alert.pondered"}, "other_type"),
            ({"type": "io.rollbackd.deployment.finished"}, "other_type"),
            ({"subject": "other"}, "unknown_service"),
            ({"data": {"name": "a", "environment": "staging"}}, "other_environment"),
        ],
    )
    def test_what_is_left_out_is_counted(self, changed: dict[str, object], reason: str) -> None:
        reading = alerts().read(sent(firing(**changed)))
        assert (reading.accepted, reading.dropped) == ((), {reason: 1})


class TestDeployments:
    def test_it_needs_another_scope(self) -> None:
        assert (alerts().scope, deployments().scope) == ("ingest", "deploy")

    @pytest.mark.parametrize("phase", ["started", "finished", "failed"])
    def test_of_our_own_type(self, phase: str) -> None:
        event = one(deployments().read(sent(deployed(type=f"io.rollbackd.deployment.{phase}"))))
        assert isinstance(event, DeploymentEvent)
        assert (event.t, event.service, event.version, event.previous) == (NOW - 60, "checkout", "v2", "v1")
        assert event.phase == phase

    @pytest.mark.parametrize("word", ["deployed", "upgraded", "rolledback"])
    def test_of_cdevents_the_release_is_the_artifacts_version(self, word: str) -> None:
        told = payload("cdevents_service_deployed") | {"type": f"dev.cdevents.service.{word}.0.3.0"}
        digest = "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427"
        assert one(deployments().read(sent(told))) == DeploymentEvent(
            t=NOW - 60, service="checkout", version=digest, phase="finished"
        )

    @pytest.mark.parametrize("purl", ["", "checkout", "pkg:oci/checkout", "pkg:oci/checkout@"])
    def test_an_artifact_without_a_version_is_refused(self, purl: str) -> None:
        told = altered(payload("cdevents_service_deployed"), "data.subject.content.artifactId", purl)
        with pytest.raises(Rejected, match="package URL"):
            deployments().read(sent(told))

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"type": "io.rollbackd.alert.firing"}, "other_type"),
            ({"type": "dev.cdevents.service.removed.0.3.0"}, "other_type"),
            ({"subject": "other"}, "unknown_service"),
            ({"data": {"version": "v2", "environment": "staging"}}, "other_environment"),
        ],
    )
    def test_what_is_left_out_is_counted(self, changed: dict[str, object], reason: str) -> None:
        reading = deployments().read(sent(deployed(**changed)))
        assert (reading.accepted, reading.dropped) == ((), {reason: 1})

    def test_one_that_comes_too_late_is_refused_alone_and_counted_among_others(self) -> None:
        late = deployed(time="2023-11-14T22:00:00Z")
        with pytest.raises(Rejected) as refused:
            deployments().read(sent(late))
        assert (refused.value.status, refused.value.code) == (422, "bad_time")
        reading = deployments().read(sent([late, deployed(id="2")], BATCH))
        assert (len(reading.accepted), reading.dropped) == (1, {"bad_time": 1})

    def test_a_source_can_be_listed_for_a_service(self) -> None:
        listed = deployments(services={"search": {"source": "/ci/find"}})
        assert isinstance(event := one(listed.read(sent(deployed(source="/ci/find", subject="x")))), DeploymentEvent)
        assert event.service == "search"

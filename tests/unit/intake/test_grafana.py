"""Grafana's webhook: what is a verdict about a service and what is not, and who may tell of it."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest

from rollbackd.intake.base import Delivery, IntakeContext, Reading, Rejected
from rollbackd.intake.grafana import ADAPTER, Config, Grafana
from rollbackd.model import Alert
from tests.support.deliveries import NOW, Known, delivery
from tests.support.payloads import altered, payload
from tests.support.website import bearer, served


def intake(**config: object) -> Grafana:
    return ADAPTER.build(Config.model_validate(config), IntakeContext(services=Known()))


def read(body: Any) -> Reading:
    return intake().read(delivery(body))


def test_the_documented_payload_is_one_alert_and_one_that_says_nothing_of_the_service() -> None:
    reading = read(payload("grafana"))
    (accepted,) = reading.accepted
    assert accepted.event == Alert(
        t=1699999940.157076,
        service="checkout",
        name="High error ratio",
        status="firing",
        severity="critical",
        instance="c6eadffa33fcdf37",
    )
    assert reading.dropped == {"no_data": 1}


@pytest.mark.parametrize(("name", "reason"), [("DatasourceNoData", "no_data"), ("DatasourceError", "source_error")])
@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_grafana_that_sees_nothing_is_no_verdict(name: str, reason: str, status: str) -> None:
    body = altered(payload("grafana"), "alerts.0.labels.alertname", name)
    reading = read(altered(body, "alerts.0.status", status))
    assert reading.accepted == ()
    assert reading.dropped[reason] >= 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("NoData", "no_data"),
        ("Error", "source_error"),
        ("NoData, KeepLast", "no_data"),
        ("Error,KeepLast", "source_error"),
    ],
)
def test_a_rule_that_is_set_to_fire_without_data_is_no_verdict_either(said: str, reason: str) -> None:
    reading = read(altered(payload("grafana"), "alerts.0.annotations.grafana_state_reason", said))
    assert reading.accepted == ()
    assert reading.dropped[reason] >= 1


def test_any_other_reason_leaves_the_alert_what_it_is() -> None:
    assert len(read(altered(payload("grafana"), "alerts.0.annotations.grafana_state_reason", "Updated")).accepted) == 1


def test_an_alert_ends_also_when_its_series_are_gone() -> None:
    body = altered(payload("grafana"), "alerts.0.annotations.grafana_state_reason", "MissingSeries")
    (accepted,) = read(altered(body, "alerts.0.status", "resolved")).accepted
    assert isinstance(accepted.event, Alert)
    assert accepted.event.status == "resolved"


def test_alertmanagers_payload_is_told_to_go_elsewhere() -> None:
    with pytest.raises(Rejected, match="only Grafana's version `1`") as refused:
        read(altered(payload("grafana"), "version", "4"))
    assert refused.value.status == 400


class TestTheSignature:
    """Hexadecimal HMAC-SHA256, as grafana/alerting `http/hmac.go` makes it."""

    BODY = b'{"version":"1","alerts":[]}'

    def signed(self, text: bytes, **headers: str) -> Delivery:
        digest = hmac.new(b"shared secret", text, hashlib.sha256).hexdigest()
        named = {"x-grafana-alerting-signature": digest} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return Delivery(body=self.BODY, headers=named, query={}, received_at=NOW)

    async def verify(self, tmp_path: Path, sent: Delivery, **config: object) -> str:
        secret = tmp_path / "hmac"
        secret.write_text("shared secret\n")
        chosen = intake(hmac={"file": str(secret)}, **config)
        assert chosen.signature is not None
        assert chosen.signature.presented(sent.headers)
        return await chosen.signature.verify(sent)

    async def test_over_the_body_alone(self, tmp_path: Path) -> None:
        assert await self.verify(tmp_path, self.signed(self.BODY)) == "grafana"
        with pytest.raises(Rejected):
            await self.verify(tmp_path, self.signed(self.BODY + b" "))

    async def test_over_the_moment_and_the_body(self, tmp_path: Path) -> None:
        stamp = str(int(NOW) - 60)
        sent = self.signed(stamp.encode() + b":" + self.BODY, x_stamp=stamp)
        assert await self.verify(tmp_path, sent, timestamp_header="X-Stamp") == "grafana"

    async def test_a_moment_long_ago_is_a_recording(self, tmp_path: Path) -> None:
        stamp = str(int(NOW) - 301)
        sent = self.signed(stamp.encode() + b":" + self.BODY, x_stamp=stamp)
        with pytest.raises(Rejected, match="300 s"):
            await self.verify(tmp_path, sent, timestamp_header="X-Stamp")

    async def test_a_moment_that_is_expected_cannot_be_left_out(self, tmp_path: Path) -> None:
        with pytest.raises(Rejected, match="missing"):
            await self.verify(tmp_path, self.signed(self.BODY), timestamp_header="X-Stamp")

    def test_without_a_secret_there_is_none(self) -> None:
        assert intake().signature is None


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_contact_point_may_post_or_put(method: str) -> None:
    async with served() as site:
        headers = bearer("ingest") | {"Content-Type": "application/json"}
        body = payload("grafana")
        async with site.client.request(method, "/hooks/grafana", json=body, headers=headers) as response:
            assert response.status == 200, await response.text()
        async with site.client.request(method, "/hooks/grafana", json=body) as response:
            assert response.status == 401

"""A real Alertmanager tells the daemon of a bad release: it is reverted, and the end of the alert is the proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd.aiokit import SystemClock
from tests.support.alertmanager import RealAlertmanager, real_alertmanager
from tests.support.inside import Inside, Shop
from tests.support.waiting import eventually, eventually_async

pytestmark = pytest.mark.needs("prometheus-alertmanager")

TOKEN = "alertmanager-secret-0123456789"


async def tell(alertmanager: RealAlertmanager, *, ago: float, resolved: bool = False) -> None:
    """Of an alert that convicts, and began so many seconds ago."""
    await alertmanager.tell(resolved, ago, alertname="TooManyErrors", service="shop", severity="critical")


def auth(home: Path) -> str:
    """Nobody may tell of alerts without Alertmanager's token."""
    (home / "token").write_text(TOKEN)
    token = f"{{name: am, token: {{file: {home / 'token'}}}, scopes: [ingest]}}"
    return f"auth: {{tokens: [{token}], anonymous: [read, operate, deploy]}}"


async def test_an_alert_after_a_deployment_reverts_it_and_its_end_proves_the_revert(tmp_path: Path) -> None:
    """In real time, since Alertmanager knows no other: its moments are those that blame rests on."""
    async with (
        Shop(tmp_path, faults={"v2": "alert"}) as shop,
        Inside(tmp_path, shop.block(), extra=auth(tmp_path), clock=SystemClock()) as daemon,
        real_alertmanager(tmp_path, daemon.url, TOKEN) as alertmanager,
    ):
        await daemon.until_known(looks=3)
        shop.deploy("v2")
        await daemon.until_watching("v2")
        await tell(alertmanager, ago=0.0)
        await eventually(lambda: shop.in_place == "v1")
        await tell(alertmanager, ago=0.0, resolved=True)
        rollback = await daemon.ended()
        assert (rollback.state, rollback.version, rollback.to) == ("verified", "v2", "v1"), rollback.steps
        (told,) = await daemon.decisions()
        assert (told.decision.action, told.decision.rule) == ("rollback", "alert")
        assert "TooManyErrors" in told.decision.reason
        assert shop.restarts == ["v1"]


async def test_an_alert_that_fired_before_a_deployment_is_not_held_against_it(tmp_path: Path) -> None:
    """Though Alertmanager repeats it after the deployment."""
    async with (
        Shop(tmp_path, faults={}) as shop,
        Inside(tmp_path, shop.block(bake="10s"), extra=auth(tmp_path), clock=SystemClock()) as daemon,
        real_alertmanager(tmp_path, daemon.url, TOKEN) as alertmanager,
    ):
        await daemon.until_known(looks=3)
        shop.deploy("v2")
        await daemon.until_watching("v2")
        await tell(alertmanager, ago=60.0)

        async def good() -> bool:
            return (await daemon.shop()).last_known_good == "v2"

        await eventually_async(good)
        taken = 'rollbackd_intake_events_total{intake="alertmanager",result="accepted"}'
        assert await daemon.metric(taken) == 1.0, "it was told of the alert"
        assert await daemon.decisions() == []
        assert shop.restarts == []

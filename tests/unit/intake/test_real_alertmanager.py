"""The webhook as a real Alertmanager calls it: with a token, again and again, and until it is heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd.aiokit import SystemClock
from rollbackd.errors import Temporary
from rollbackd.model import Alert
from tests.support.alertmanager import real_alertmanager
from tests.support.backend import FakeBackend
from tests.support.waiting import eventually
from tests.support.website import served

pytestmark = pytest.mark.needs("prometheus-alertmanager")


def alerts(backend: FakeBackend) -> list[Alert]:
    return [item.event for item in backend.delivered if isinstance(item.event, Alert)]


async def test_an_alert_is_told_once_as_firing_and_once_as_resolved_however_often_it_is_repeated(
    tmp_path: Path,
) -> None:
    clock = SystemClock()
    async with served(clock=clock) as site, real_alertmanager(tmp_path, site.url, "ingest-secret") as alertmanager:
        began = clock.now() - 30
        await alertmanager.tell(alertname="HighErrors", service="checkout", severity="critical")
        await eventually(lambda: len(site.backend.actors) >= 2)
        (firing,) = alerts(site.backend)
        assert (firing.service, firing.name, firing.status, firing.severity) == (
            "checkout",
            "HighErrors",
            "firing",
            "critical",
        )
        assert firing.t == pytest.approx(began, abs=5)

        await alertmanager.tell(resolved=True, alertname="HighErrors", service="checkout", severity="critical")
        await eventually(lambda: len(alerts(site.backend)) == 2)
        resolved = alerts(site.backend)[1]
        assert resolved.status == "resolved"
        assert resolved.t == pytest.approx(clock.now(), abs=10)
        assert set(site.backend.actors) == {"the-ingest-token"}


async def test_what_could_not_be_kept_at_first_is_sent_again_until_it_is(tmp_path: Path) -> None:
    answers: list[int] = []

    class Counted(FakeBackend):
        def _ledger(self) -> None:
            answers.append(503 if self.broken else 200)
            super()._ledger()

    backend = Counted()
    backend.broken = Temporary("the ledger's disk is full")
    async with (
        served(backend, clock=SystemClock()) as site,
        real_alertmanager(tmp_path, site.url, "ingest-secret") as alertmanager,
    ):
        await alertmanager.tell(alertname="HighErrors", service="checkout")
        await eventually(lambda: len(answers) >= 2)
        assert alerts(backend) == []
        backend.broken = None
        await eventually(lambda: len(alerts(backend)) == 1)

"""What the daemon says of itself: metrics, liveness and readiness."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.support.deliveries import alert, deployment, notification
from tests.support.website import authenticator, bearer, served


async def test_metrics_come_from_the_registry_that_was_passed_in() -> None:
    registry = CollectorRegistry()
    Gauge("speed", "How fast.", registry=registry).set(7)
    async with served(metrics=registry) as site, site.client.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        families = {family.name: family for family in read_text(await response.text())}
    assert families["speed"].samples[0].value == 7


async def test_metrics_come_as_openmetrics_to_who_prefers_it() -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    async with served() as site, site.client.get("/metrics", headers=accept) as response:
        assert response.content_type == "application/openmetrics-text"
        text = await response.text()
    assert text.endswith("# EOF\n")
    assert "# TYPE rollbackd_http_requests counter" in text


async def test_requests_and_deliveries_are_counted_with_bounded_labels() -> None:
    registry = CollectorRegistry()
    async with served(metrics=registry) as site:
        for path in ("/api/v1/services/a", "/api/v1/services/b", "/nowhere/1", "/nowhere/2"):
            async with site.client.get(path) as response:
                assert response.status == 404
        async with site.client.request("PROPFIND", "/nowhere") as response:
            assert response.status == 404
        told = [deployment(id="1"), deployment(id="2")]
        for body in (told, told[:1]):
            async with site.client.post("/api/v1/deployments", json=body, headers=bearer("deploy")) as response:
                assert response.status == 200
        posted = notification(alert(labels={"service": "other"}))
        async with site.client.post("/hooks/alertmanager", json=posted, headers=bearer("ingest")) as response:
            assert response.status == 200

    def count(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    requests = "rollbackd_http_requests_total"
    assert count(requests, route="/api/v1/services/{service}", method="GET", status="404") == 2
    assert count(requests, route="unmatched", method="GET", status="404") == 2
    assert count(requests, route="unmatched", method="other", status="404") == 1
    events = "rollbackd_intake_events_total"
    assert count(events, intake="deployments", result="accepted") == 2
    assert count(events, intake="deployments", result="duplicate") == 1
    assert count("rollbackd_intake_dropped_total", intake="alertmanager", reason="unknown_service") == 1


async def test_a_living_daemon_is_healthy_even_when_it_is_not_ready() -> None:
    async with served() as site:
        site.backend.not_ready = ("the ledger cannot be written",)
        async with site.client.get("/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_readiness_tells_what_is_missing() -> None:
    async with served() as site:
        async with site.client.get("/readyz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ok"})
        site.backend.not_ready = ("the ledger cannot be written", "source `metrics` has not started")
        async with site.client.get("/readyz") as response:
            assert response.status == 503
            told = await response.json()
            assert told["error"] == "not_ready"
            assert told["problems"] == list(site.backend.not_ready)
            assert site.backend.not_ready[1] in told["message"]


async def test_readiness_keeps_to_itself_what_is_missing_where_reading_needs_a_credential() -> None:
    async with served(auth=authenticator(frozenset())) as site:
        site.backend.not_ready = ("the ledger cannot be written",)
        async with site.client.get("/readyz") as response:
            assert response.status == 503
            assert "ledger" not in await response.text()
        async with site.client.get("/readyz", headers=bearer("read")) as response:
            assert (await response.json())["problems"] == ["the ledger cannot be written"]

"""The API: what it answers, and how it says that something is not so."""

from __future__ import annotations

import msgspec
import pytest
from structlog.testing import capture_logs

from rollbackd.errors import Conflict, Permanent, RollbackdError, Temporary
from rollbackd.ledger.base import AuditEntry
from rollbackd.web.views import (
    DecisionView,
    DeploymentView,
    ErrorView,
    RollbackView,
    ServiceView,
    StatusView,
)
from tests.support.backend import FakeBackend, decision, deployment, rollback, service
from tests.support.website import Site, bearer, served


async def get(site: Site, path: str, wanted: type, status: int = 200) -> object:
    async with site.client.get(path) as response:
        body = await response.read()
        assert response.status == status, body
        assert response.content_type == "application/json"
        return msgspec.json.decode(body, type=wanted)


async def command(site: Site, path: str, body: object, status: int = 200) -> bytes:
    async with site.client.post(path, json=body, headers=bearer("operate")) as response:
        answered = await response.read()
        assert response.status == status, answered
        return answered


async def test_everything_can_be_read_as_it_stands() -> None:
    async with served() as site:
        assert await get(site, "/api/v1/status", StatusView) == site.backend.status()
        assert await get(site, "/api/v1/services", list[ServiceView]) == [service()]
        assert await get(site, "/api/v1/services/checkout", ServiceView) == service()
        assert await get(site, "/api/v1/deployments", list[DeploymentView]) == [deployment()]
        assert await get(site, "/api/v1/decisions", list[DecisionView]) == [decision()]
        assert await get(site, "/api/v1/decisions/dec-1", DecisionView) == decision()
        assert await get(site, "/api/v1/rollbacks", list[RollbackView]) == [rollback()]
        assert await get(site, "/api/v1/rollbacks/rb-1", RollbackView) == rollback()
        assert await get(site, "/api/v1/audit", list[AuditEntry]) == site.backend.audit_list


async def test_lists_can_be_narrowed() -> None:
    async with served() as site:
        await get(site, "/api/v1/deployments?service=search&limit=3", list[DeploymentView])
        await get(site, "/api/v1/decisions?service=search", list[DecisionView])
        await get(site, "/api/v1/rollbacks?limit=1000", list[RollbackView])
        await get(site, "/api/v1/audit?limit=1", list[AuditEntry])
        assert site.backend.asked == [
            ("deployments", "search", 3),
            ("decisions", "search", 50),
            ("rollbacks", None, 1000),
            ("audit", None, 1),
        ]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "1e2", "", "\N{SUPERSCRIPT TWO}", "99999999999999999999"])
async def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    async with served() as site:
        error = await get(site, f"/api/v1/decisions?limit={limit}", ErrorView, 400)
        assert isinstance(error, ErrorView)
        assert "from 1 to 1000" in error.message


async def test_a_misspelt_filter_does_not_show_everything() -> None:
    async with served() as site:
        error = await get(site, "/api/v1/decisions?servce=checkout", ErrorView, 400)
        assert isinstance(error, ErrorView)
        assert "did you mean `service`" in error.message
        await get(site, "/api/v1/decisions?service=a&service=b", ErrorView, 400)
        await get(site, "/api/v1/status?verbose=1", ErrorView, 400)


@pytest.mark.parametrize("path", ["services/chekout", "decisions/none", "rollbacks/none"])
async def test_what_is_unknown_is_not_found(path: str) -> None:
    async with served() as site:
        error = await get(site, f"/api/v1/{path}", ErrorView, 404)
        assert isinstance(error, ErrorView)
        assert error.error == "unknown"


async def test_a_service_may_have_a_slash_in_its_name() -> None:
    async with served(FakeBackend([service("shop/checkout")])) as site:
        found = await get(site, "/api/v1/services/shop%2Fcheckout", ServiceView)
        assert isinstance(found, ServiceView)
        assert found.name == "shop/checkout"


async def test_a_rollback_is_planned_on_an_operators_word() -> None:
    async with served() as site:
        async with site.client.post(
            "/api/v1/services/checkout/rollback",
            json={"to": "v0", "reason": "customers call"},
            headers=bearer("operate"),
        ) as response:
            assert response.status == 202
            planned = msgspec.json.decode(await response.read(), type=RollbackView)
            assert (planned.to, planned.requested_by) == ("v0", "operator:the-operate-token")
            location = response.headers["Location"]
        assert await get(site, location, RollbackView) == planned
        again = msgspec.json.decode(
            await command(site, "/api/v1/services/checkout/rollback", {}, 202), type=RollbackView
        )
        assert again.to == "v1"


async def test_a_rollback_of_an_unknown_service_is_not_found() -> None:
    async with served() as site:
        await command(site, "/api/v1/services/other/rollback", {}, 404)


async def test_a_refused_rollback_says_why() -> None:
    backend = FakeBackend()
    backend.rollback_list = [msgspec.structs.replace(rollback(), state="reverting")]
    async with served(backend) as site:
        error = msgspec.json.decode(await command(site, "/api/v1/services/checkout/rollback", {}, 409), type=ErrorView)
        assert (error.error, error.message) == ("refused", "a rollback of `checkout` is running already: wait for it")


async def test_acting_can_be_paused_and_resumed() -> None:
    async with served() as site:
        status = msgspec.json.decode(
            await command(site, "/api/v1/pause", {"reason": "migration", "service": "checkout"}), type=StatusView
        )
        assert status.paused is not None
        assert (status.paused.service, status.paused.actor) == ("checkout", "the-operate-token")
        status = msgspec.json.decode(await command(site, "/api/v1/resume", {}), type=StatusView)
        assert status.paused is None
        await command(site, "/api/v1/pause", {"reason": "migration", "service": "other"}, 404)
        await command(site, "/api/v1/resume", {"service": "other"}, 404)


async def test_an_unknown_path_is_answered_in_json() -> None:
    async with served() as site:
        for path in ("/nowhere", "/api/v1/", "/api/v1/services/", "/api/v2/status", "/%ff"):
            error = await get(site, path, ErrorView, 404)
            assert isinstance(error, ErrorView)
            assert error.error == "not_found"


async def test_a_wrong_method_is_answered_in_json_with_the_right_ones() -> None:
    async with served() as site, site.client.delete("/api/v1/deployments") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD, POST"
        assert (await response.json())["error"] == "method_not_allowed"


async def test_a_head_request_is_answered_like_a_get_without_a_body() -> None:
    async with served() as site, site.client.head("/api/v1/status") as response:
        assert response.status == 200
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Temporary("the ledger is locked"), 503, "unavailable"),
        (Conflict("someone deployed"), 409, "conflict"),
        (Permanent("the ledger is of a newer version"), 500, "failed"),
    ],
)
async def test_a_failing_ledger_is_told_by_its_kind(fault: RollbackdError, status: int, code: str) -> None:
    async with served() as site:
        site.backend.broken = fault
        error = await get(site, "/api/v1/decisions", ErrorView, status)
        assert error == ErrorView(error=code, message=str(fault))


@pytest.mark.parametrize(("wish", "header"), [(None, "5"), (0.2, "1"), (17.1, "18")])
async def test_a_temporary_fault_says_when_to_come_back(wish: float | None, header: str) -> None:
    async with served() as site:
        site.backend.broken = Temporary("the disk is full", retry_after=wish)
        async with site.client.get("/api/v1/decisions") as response:
            assert response.headers["Retry-After"] == header


async def test_a_fault_nobody_foresaw_is_logged_and_shows_the_client_nothing() -> None:
    class Broken(FakeBackend):
        def status(self) -> StatusView:
            raise RuntimeError("inner secret")

    async with served(Broken()) as site:
        with capture_logs() as logs:
            error = await get(site, "/api/v1/status", ErrorView, 500)
        assert isinstance(error, ErrorView)
        assert error.error == "internal"
        assert "secret" not in error.message
    assert [entry for entry in logs if entry["event"] == "http_request_crashed"]


async def test_every_answer_carries_the_security_headers() -> None:
    async with served() as site:
        for path in ("/", "/api/v1/status", "/nowhere", "/metrics"):
            async with site.client.get(path) as response:
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
                assert response.headers["Cache-Control"] == "no-store"
                assert response.headers["Server"] == "rollbackd"

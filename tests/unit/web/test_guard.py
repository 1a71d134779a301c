"""What stands before every handler: scopes, and browsers that foreign pages use."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from rollbackd.intake.base import Scope
from tests.support.website import authenticator, bearer, served

PAUSE = {"reason": "looking at it"}


async def test_each_scope_opens_its_own_doors_and_no_other() -> None:
    doors: dict[str, Scope] = {
        "/api/v1/pause": "operate",
        "/api/v1/deployments": "deploy",
        "/hooks/alertmanager": "ingest",
    }
    scopes: tuple[Scope, ...] = ("operate", "deploy", "ingest", "read")
    async with served() as site:
        for path, wanted in doors.items():
            for scope in scopes:
                async with site.client.post(path, json={}, headers=bearer(scope)) as response:
                    # 400: let through, and then the empty object does not fit
                    assert response.status == (400 if scope == wanted else 403), (path, scope)
            async with site.client.post(path, json={}) as response:
                assert response.status == 401
                assert any(value.startswith("Bearer") for value in response.headers.getall("WWW-Authenticate"))
            async with site.client.post(path, json={}, headers={"Authorization": "Bearer wrong"}) as response:
                assert response.status == 401


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost", "://"])
async def test_a_foreign_page_cannot_make_a_browser_change_anything(origin: str) -> None:
    async with served() as site:
        headers = bearer("operate") | {"Origin": origin}
        async with site.client.post("/api/v1/pause", json=PAUSE, headers=headers) as response:
            assert response.status == 403
            assert (await response.json())["error"] == "foreign_origin"
        assert site.backend.paused is None


async def test_a_page_under_a_rebound_name_cannot_change_anything() -> None:
    async with served() as site:
        host = f"evil.example:{site.server.address[1]}"
        headers = bearer("operate") | {"Origin": f"http://{host}", "Host": host}
        async with site.client.post("/api/v1/pause", json=PAUSE, headers=headers) as response:
            assert response.status == 403


async def test_our_own_origin_and_allowed_ones_may_change_things() -> None:
    async with served(allowed_hosts=frozenset({"Rollbackd.Example"})) as site:
        for origin in (site.url, "https://rollbackd.example"):
            headers = bearer("operate") | {"Origin": origin}
            async with site.client.post("/api/v1/pause", json=PAUSE, headers=headers) as response:
                assert response.status == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/metrics"])
async def test_a_rebound_name_cannot_read_without_a_credential(path: str) -> None:
    async with served(allowed_hosts=frozenset({"rollbackd.example"})) as site:
        async with site.client.get(path, headers={"Host": "evil.example"}) as response:
            assert response.status == 421
            assert (await response.json())["error"] == "foreign_host"
        for host in ("rollbackd.example:80", "localhost:1", "a.localhost", "[::1]:9797", "192.0.2.7"):
            async with site.client.get(path, headers={"Host": host}) as response:
                assert response.status == 200, host
        async with site.client.get(path, headers={"Host": "evil.example"} | bearer("read")) as response:
            assert response.status == 200


async def test_reading_can_be_made_to_need_a_credential_but_health_never_does() -> None:
    async with served(auth=authenticator(frozenset())) as site:
        for path in ("/", "/metrics", "/api/v1/status", "/api/v1/openapi.json"):
            async with site.client.get(path) as response:
                assert response.status == 401, path
        for path in ("/healthz", "/readyz"):
            async with site.client.get(path, headers={"Authorization": "Bearer wrong"}) as response:
                assert response.status == 200, path


async def test_guessing_tokens_ends_in_being_shut_out() -> None:
    async with served() as site:
        seen = []
        for number in range(12):
            headers = {"Authorization": f"Bearer guess-{number}"}
            async with site.client.post("/api/v1/pause", json=PAUSE, headers=headers) as response:
                seen.append(response.status)
        assert seen == [401] * 10 + [429] * 2


async def test_a_request_is_logged_without_its_secrets() -> None:
    async with served() as site:
        with capture_logs() as logs:
            headers = bearer("operate") | {"Cookie": "cookie-secret"}
            async with site.client.post("/api/v1/pause?q=query-secret", json=PAUSE, headers=headers) as response:
                assert response.status == 400
    (entry,) = [entry for entry in logs if entry["event"] == "http_request"]
    assert entry["log_level"] == "debug"
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/api/v1/pause", 400)
    assert "secret" not in str(logs)


async def test_a_request_that_is_no_http_is_refused_without_a_trace_of_it() -> None:
    async with served() as site:
        reader, writer = await asyncio.open_connection(*site.server.address)
        with capture_logs() as logs:
            writer.write(b"GET / HTTP/1.1\r\nAuthorization: Bearer sec\0ret\r\n\r\n")
            answered = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert [entry["event"] for entry in logs] == ["http_request_unreadable"]
    assert "sec" not in str(logs)
    assert answered.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b"Traceback" not in answered

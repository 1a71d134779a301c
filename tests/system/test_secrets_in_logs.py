"""A service that logs secrets: the daemon judges its lines, and shows and keeps none of the secrets."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from tests.support.inside import Inside, Shop
from tests.support.servers import Server
from tests.support.waiting import eventually

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJlLXBsYW50ZWQ"
PLANTED = {
    "password=pl4nted-password": "pl4nted-password",
    "Authorization: Bearer pl4nted.bearer": "pl4nted.bearer",
    "postgres://joe:pl4nted-url@db/shop": "pl4nted-url",
    "AKIAPLANTED0EXAMPLE0": "AKIAPLANTED0EXAMPLE0",
    JWT: JWT,
    "4111 1111 1111 1111": "4111 1111 1111 1111",
}
"""What a line says, and the secret in it."""

SHOWN = ("/", "/metrics", *(f"/api/v1/{what}" for what in ("status", "services/shop", "decisions", "rollbacks")))


async def test_no_secret_of_a_line_is_kept_or_shown(tmp_path: Path) -> None:
    told = list[bytes]()

    async def hear(request: web.Request) -> web.StreamResponse:
        told.append(await request.read())
        return web.Response()

    receiver, recording = Server(hear), tmp_path / "events.jsonl"
    shop = Shop(tmp_path, faults={"v2": "logs"})
    shop.complaint = f"ERROR cart is broken: {', '.join(PLANTED)}"
    await receiver.start()
    extra = f"notify:\n  - webhook: {receiver.url('/hook')}"
    try:
        async with shop, Inside(tmp_path, shop.block(), extra=extra, record=recording) as daemon:
            await daemon.until_known()
            shop.deploy("v2")
            rollback = await daemon.ended()
            assert (rollback.version, rollback.to) == ("v2", "v1")
            await eventually(lambda: len(told) >= 3)
            (decision,) = await daemon.decisions()
            assert "***" in decision.decision.reason
            shown = [await daemon.get(path) for path in (*SHOWN, f"/api/v1/decisions/{decision.id}")]
    finally:
        await receiver.stop()
    kept = {path: path.read_bytes() for path in [*(tmp_path / "data").rglob("*"), recording] if path.is_file()}
    assert b"cart is broken" in kept[recording]
    assert any(b"cart is broken" in data for path, data in kept.items() if path != recording)
    assert any(b"cart is broken" in data for data in told)
    for secret in PLANTED.values():
        assert [path for path, data in kept.items() if secret.encode() in data] == []
        assert not any(secret.encode() in data for data in (*shown, *told))

"""A real Alertmanager on a free port of loopback, in a folder of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from tests.support.waiting import eventually_async

_CONFIG = """\
route:
  receiver: rollbackd
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1s
receivers:
  - name: rollbackd
    webhook_configs:
      - url: {url}/hooks/alertmanager
        send_resolved: true
        http_config:
          authorization: {{type: Bearer, credentials: {token}}}
"""


class RealAlertmanager:
    """Takes alerts and notifies the webhook about them."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def ready(self) -> bool:
        try:
            async with self._client.get("/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def tell(self, resolved: bool = False, **labels: str) -> None:
        """Post an alert as Prometheus does; a resolved one ended just now."""
        now = datetime.now(UTC)
        ends = now if resolved else now + timedelta(minutes=5)
        body = [{"labels": labels, "startsAt": (now - timedelta(seconds=30)).isoformat(), "endsAt": ends.isoformat()}]
        async with self._client.post("/api/v2/alerts", json=body) as response:
            assert response.status == 200, await response.text()


@asynccontextmanager
async def real_alertmanager(folder: Path, webhook: str, token: str) -> AsyncIterator[RealAlertmanager]:
    """Run until the block ends; it posts to `webhook` with that bearer token."""
    config = folder / "am.yml"
    config.write_text(_CONFIG.format(url=webhook, token=token), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            running = RealAlertmanager(client)
            await eventually_async(running.ready, within=20)
            yield running
    finally:
        process.terminate()
        await process.wait()

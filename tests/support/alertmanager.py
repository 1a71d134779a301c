"""A real Alertmanager on a free port of loopback, in a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from tests.support.running import running

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

    async def tell(self, resolved: bool = False, ago: float = 30.0, **labels: str) -> None:
        """Post an alert as Prometheus does, one that began so many seconds ago; a resolved one ended just now."""
        now = datetime.now(UTC)
        ends = now if resolved else now + timedelta(minutes=5)
        body = [{"labels": labels, "startsAt": (now - timedelta(seconds=ago)).isoformat(), "endsAt": ends.isoformat()}]
        async with self._client.post("/api/v2/alerts", json=body) as response:
            assert response.status == 200, await response.text()


@asynccontextmanager
async def real_alertmanager(folder: Path, webhook: str, token: str) -> AsyncIterator[RealAlertmanager]:
    """Run until the block ends; it posts to `webhook` with that bearer token."""
    config = folder / "am.yml"
    config.write_text(_CONFIG.format(url=webhook, token=token), encoding="utf-8")
    arguments = (f"--config.file={config}", f"--storage.path={folder / 'data'}", "--cluster.listen-address=")
    async with running("prometheus-alertmanager", *arguments) as (_, client):
        yield RealAlertmanager(client)

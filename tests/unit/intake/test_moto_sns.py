"""Messages that are signed by somebody else's SNS: moto, which serves Amazon's APIs on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from rollbackd.intake.base import Delivery
from rollbackd.intake.cloudwatch import CloudWatch, Config
from rollbackd.intake.sns import HOST
from rollbackd.model import Alert
from tests.support.deliveries import Known
from tests.support.payloads import payload
from tests.support.servers import Server
from tests.support.waiting import eventually, eventually_async

_CALLER = "AWS4-HMAC-SHA256 Credential=a/20230101/us-east-1/sns/aws4_request, SignedHeaders=host, Signature=0"


class Moto:
    """A client of moto's SNS, which also fetches certificates from it, by the addresses that Amazon's have."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def call(self, **parameters: str) -> str:
        """One call of SNS's query API."""
        headers = {"Authorization": _CALLER}
        async with self._client.post("/", data={"Version": "2010-03-31"} | parameters, headers=headers) as response:
            text = await response.text()
            assert response.status == 200, text
            return text

    async def get(self, url: str) -> bytes:
        """What Amazon would serve there."""
        parts = urlsplit(url)
        assert HOST.fullmatch(parts.netloc)
        async with self._client.get(parts.path, headers={"Host": parts.netloc, "Authorization": _CALLER}) as response:
            assert response.status == 200
            return await response.read()


@asynccontextmanager
async def moto() -> AsyncIterator[Moto]:
    """Run until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

            async def ready() -> bool:
                try:
                    async with client.get("/moto-api/data.json") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually_async(ready, within=30)
            yield Moto(client)
    finally:
        process.terminate()
        await process.wait()


async def test_what_moto_signs_is_believed_and_read() -> None:
    posted: list[tuple[bytes, dict[str, str]]] = []

    async def take(request: web.Request) -> web.Response:
        posted.append((await request.read(), {name.lower(): value for name, value in request.headers.items()}))
        return web.Response()

    async with Server(take) as server, moto() as sns:
        told = await sns.call(Action="CreateTopic", Name="alarms")
        topic = told.partition("<TopicArn>")[2].partition("<")[0]
        await sns.call(Action="Subscribe", TopicArn=topic, Protocol="http", Endpoint=server.url("/hooks/sns"))
        alarm = json.dumps(payload("cloudwatch_alarm"))
        await sns.call(Action="Publish", TopicArn=topic, Message=alarm)
        await eventually(lambda: bool(posted))
        body, headers = posted[0]
        assert headers["content-type"].startswith("text/plain")

        intake = CloudWatch(Config.model_validate({"topics": [topic]}), Known(), sns)
        now = time.time() + 1  # the certificate is valid from the second it was made in
        delivery = Delivery(body=body, headers=headers, query={}, received_at=now)
        assert intake.signature is not None
        assert await intake.signature.verify(delivery) == "cloudwatch"
        (accepted,) = intake.read(delivery).accepted
        assert isinstance(accepted.event, Alert)
        assert (accepted.event.service, accepted.event.name) == ("checkout", "checkout-5xx")

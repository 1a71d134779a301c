"""A real program of the Prometheus family on a free port of loopback, from its start until it is ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.support.live import ReservedPort
from tests.support.waiting import eventually_async


@asynccontextmanager
async def running(program: str, *arguments: str) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Run it with these arguments until the block ends; gives its address and a client of it once it is ready."""
    port = ReservedPort()
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        f"--web.listen-address=127.0.0.1:{port.number}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port.number}"
    try:
        await answering(url)
        async with aiohttp.ClientSession(url) as client:
            yield url, client
    finally:
        process.terminate()
        await process.wait()


async def answering(url: str) -> None:
    """Return once it says that it is ready."""
    async with aiohttp.ClientSession(url) as client:

        async def ready() -> bool:
            try:
                async with client.get("/-/ready") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await eventually_async(ready)

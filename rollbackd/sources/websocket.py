"""A WebSocket for sources that are told: bounded, and with the HTTP client's credentials, TLS options and words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from rollbackd.sources.http import BadAnswer, HttpClient

CLOSE_S = 0.5
"""How long the far side may take to say goodbye."""


@asynccontextmanager
async def websocket(
    http: HttpClient, params: Mapping[str, str], open_within: float, max_message: int
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Open a WebSocket at the client's URL with these query parameters, and close it at the end of the block.

    Only opening it is bounded, by `open_within` seconds. A message of more than `max_message` bytes ends it, pings
    are for the reader to answer, and no redirect is followed. Raises Unreachable, BadAnswer, and ConfigError for a
    credential that cannot be read.
    """
    headers, trust = await http.outfit()

    async def refuse(*_about: object) -> None:
        raise BadAnswer(f"{http.shown} redirects: configure the URL it redirects to if that is right")

    watching = aiohttp.TraceConfig()
    watching.on_request_redirect.append(refuse)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[watching]) as session:
        try:
            async with asyncio.timeout(open_within):
                socket = await session.ws_connect(
                    http.url.update_query(params),
                    headers=headers,
                    ssl=trust,
                    autoping=False,
                    max_msg_size=max_message,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise BadAnswer(f"{http.shown} answered {error.status} where a WebSocket was asked for") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise http.explained(error) from None
        try:
            yield socket
        finally:
            await socket.close()

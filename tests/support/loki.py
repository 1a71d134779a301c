"""A server that keeps lines and answers as Loki 3.7.8 was seen to: range queries, the live tail, and its refusals."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.support.servers import Server

MAX_ENTRIES = 5000
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Kept:
    """One line in the store."""

    moment: int
    labels: Mapping[str, str]
    line: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def stream(self, *, apart: bool) -> dict[str, object]:
        """As the answers have it: with the metadata apart from the labels, or among them."""
        if apart:
            extra = {"structuredMetadata": dict(self.metadata)} if self.metadata else {}
            return {"stream": dict(self.labels), "values": [[str(self.moment), self.line, extra]]}
        return {"stream": {**self.labels, **self.metadata}, "values": [[str(self.moment), self.line]]}


class LokiServer(Server):
    """Lines are put into it with `push`. `requests` are those of the queries and the tails that were begun.

    Time is whoever asks: `now` is the end of the newest query, and a line that is pushed without a moment lies there.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.lines: list[Kept] = []
        self.now = 0
        self.refusal: web.Response | None = None
        """What every query is answered with, where it is set."""
        self.tails: list[web.WebSocketResponse] = []
        self.pings = True
        self.pongs = 0
        self.tail_refusal = ""

    async def push(
        self, line: str, moment: int | None = None, labels: Mapping[str, str] | None = None, **metadata: str
    ) -> None:
        """Keep a line, and send it to those who listen; the same line twice at one moment is one line."""
        kept = Kept(self.now if moment is None else moment, labels or {"service_name": "shop"}, line, metadata)
        if kept in self.lines:
            return
        self.lines.append(kept)
        for tail in self.tails.copy():
            await tail.send_str(json.dumps({"streams": [kept.stream(apart=True)]}))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/loki/api/v1/tail"):
            return await self._tail(request)
        if self.refusal is not None:
            return web.Response(
                status=self.refusal.status, headers=self.refusal.headers, body=self.refusal.body, reason="Said"
            )
        asked = request.query
        if (labels := _labels(asked["query"])) is None:
            return _said(400, "parse error at line 1, col 16: syntax error: unexpected $end, expecting } or ,")
        if (limit := int(asked.get("limit", "100"))) > MAX_ENTRIES:
            return _said(
                400, f"max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > 5000)"
            )
        self.now = max(self.now, int(asked["end"]))
        found = [one for one in self.lines if labels.items() <= one.labels.items()]
        found = [one for one in found if int(asked["start"]) <= one.moment < int(asked["end"])]
        found.sort(key=lambda one: one.moment, reverse=asked.get("direction") != "forward")
        apart = request.headers.get("X-Loki-Response-Encoding-Flags") == "categorize-labels"
        data = {"resultType": "streams", "result": _grouped(found[:limit], apart=apart), "stats": {}}
        return web.json_response({"status": "success", "data": data})

    async def _tail(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        if self.tail_refusal:
            await socket.close(code=1011, message=self.tail_refusal.encode())
            return socket
        start, labels = int(request.query["start"]), _labels(request.query["query"]) or {}
        history = [one for one in self.lines if one.moment >= start and labels.items() <= one.labels.items()]
        if history:
            await socket.send_str(json.dumps({"streams": [one.stream(apart=True) for one in history]}))
        self.tails.append(socket)
        pinging = asyncio.create_task(self._ping(socket))
        try:
            while (kind := (await socket.receive()).type) not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
                self.pongs += kind is WSMsgType.PONG
        finally:
            self.tails.remove(socket)
            pinging.cancel()
        return socket

    async def _ping(self, socket: web.WebSocketResponse) -> None:
        while not socket.closed:
            if self.pings:
                with suppress(ConnectionError):
                    await socket.ping()
            await asyncio.sleep(0.02)  # a second, for a clock that is moved by hand


def _said(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text)


def _labels(query: str) -> dict[str, str] | None:
    if re.fullmatch(r'\{(\w+="(?:[^"\\]|\\.)*"(?:, )?)+\}', query) is None:
        return None
    return {name: json.loads(value) for name, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*")', query)}


def _grouped(found: list[Kept], *, apart: bool) -> list[dict[str, object]]:
    """By stream, as Loki does: the lines of a page are not in one order of time."""
    streams: dict[str, tuple[object, list[object]]] = {}
    for one in found:
        shown = one.stream(apart=apart)
        values = shown["values"]
        assert isinstance(values, list)
        streams.setdefault(json.dumps(shown["stream"], sort_keys=True), (shown["stream"], []))[1].extend(values)
    return [{"stream": stream, "values": values} for stream, values in streams.values()]

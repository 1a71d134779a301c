"""The query API of Prometheus and those who speak like it: one question, one answer, bounded and checked.

https://prometheus.io/docs/prometheus/latest/querying/api/. Thanos and VictoriaMetrics answer in part when a store or a
node of theirs is gone, where nothing else is asked for; here it is: half of the counts look like half of the traffic.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec
from yarl import URL

from rollbackd.errors import ConfigError, Permanent
from rollbackd.metrics.samples import Row
from rollbackd.sources.http import Answer, BadAnswer, HttpClient, HttpOptions

MAX_WORDS = 200
"""Characters that are told of what a server says."""
MAX_WARNINGS = 20
MAX_ERROR_BYTES = 64 * 1024
_ROUNDED_S = 0.001
"""Moments are asked for in milliseconds."""

WHOLE = {"partial_response": "false", "dedup": "true", "deny_partial_response": "1"}
"""All or nothing, once each: the first two are Thanos', the last VictoriaMetrics'; others read over what is foreign."""


class _Result(msgspec.Struct, frozen=True, rename="camel"):
    result_type: str
    result: list[Row]


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    result_type: str


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"")
    error: str = ""
    warnings: list[str] = []
    infos: list[str] = []
    is_partial: bool = False


class TooMuch(Permanent):
    """More than the server, or this client, takes at once: fewer series, or a shorter time, may do."""


class Refused(Permanent):
    """The server does not want this question."""


@dataclass(frozen=True)
class Cures:
    """What an operator can do where the server refuses, in the words of those settings that can be changed."""

    token: str
    address: str


def api_root(text: str) -> str:
    """The address of the query API under a server's address, `.../api/v1`. Raises ConfigError where it is none."""
    cure = "write it like http://127.0.0.1:9090"
    try:
        url = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        raise ConfigError(f"this is no URL: {cure}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"this is no HTTP URL: {cure}")
    if url.raw_fragment:
        raise ConfigError(f"a fragment has no meaning here: {cure}")
    path = url.path.rstrip("/").removesuffix("/api/v1")
    return str(url.with_path(f"{path}/api/v1").with_query(url.query))


def _below(root: str, name: str) -> str:
    url = URL(root)
    return str(url.with_path(f"{url.path}/{name}").with_query(url.query))


class PrometheusApi:
    """Asks one server. An async context manager.

    `warnings` counts what the server itself doubts of its answers; `tell` hears each of these (`warning`), and of what
    else it mentions (`info`), once.
    """

    def __init__(
        self,
        root: str,
        options: HttpOptions,
        timeout: float,
        cures: Cures,
        tell: Callable[[str, str], None] = lambda _level, _words: None,
    ) -> None:
        self._query = HttpClient(_below(root, "query"), options, timeout)
        self._range = HttpClient(_below(root, "query_range"), options, timeout)
        self._stack = AsyncExitStack()
        self._cures, self._tell = cures, tell
        self._told: set[str] = set()
        self.shown = self._query.shown.removesuffix("?...").removesuffix("/api/v1/query")
        self.warnings: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._query)
        await self._stack.enter_async_context(self._range)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    # -- questions: each raises Temporary, TooMuch, Refused or Permanent, and ConfigError for unreadable credentials

    async def samples(self, selector: str, after: float, until: float, max_bytes: int) -> list[Row]:
        """The samples of `(after, until]` as they were stored, each with its own moment.

        Asked is `query` with a range selector, not `query_range`, which gives what the newest sample within five
        minutes was at moments of ours. Restarts, gaps and series that went away then look as they do to who scrapes.
        """
        form = {"query": f"{selector}[{round((until - after) * 1000)}ms]", "time": f"{until:.3f}"}
        rows = await self._asked(self._query, form, "matrix", max_bytes)
        # the range's older end belongs to it in Prometheus 2, and does not in 3
        return [_within(row, math.nextafter(after, math.inf), until) for row in rows]

    async def labels(self, expression: str, at: float, max_bytes: int) -> list[dict[str, str]]:
        """The labels of what the expression gives at one moment."""
        form = {"query": expression, "time": f"{at:.3f}"}
        return [row.metric for row in await self._asked(self._query, form, "vector", max_bytes)]

    async def steps(self, expression: str, first: float, last: float, step: float, max_bytes: int) -> list[Row]:
        """What the expression gives at `first`, and every `step` seconds after it until `last`."""
        moments = {"start": f"{first:.3f}", "end": f"{last:.3f}", "step": f"{step:.3f}"}
        rows = await self._asked(self._range, {"query": expression, **moments}, "matrix", max_bytes)
        return [_within(row, first - _ROUNDED_S, last + _ROUNDED_S) for row in rows]

    async def _asked(self, http: HttpClient, form: Mapping[str, str], kind: str, max_bytes: int) -> list[Row]:
        async with http.ask("POST", "application/json", follow=False, form={**form, **WHOLE}) as answer:
            good = answer.status == 200
            body, whole = await _read(answer, max_bytes if good else MAX_ERROR_BYTES)
        if not good:
            raise self._refusal(answer.status, body)
        if not whole:
            raise TooMuch(f"{self.shown} answers with more than {max_bytes / 1024**2:.3g} MiB")
        return self._result(body, kind)

    # -- answers

    def _refusal(self, status: int, body: bytes) -> Exception:
        said = self._words(body)
        what = f"{self.shown} answered {status}"
        if said:
            what += f": {said}"
        if status in (413, 422):
            return TooMuch(what)
        if status == 429 or status >= 500:
            return BadAnswer(what)
        if status in (401, 403):
            return Permanent(f"{what} ({self._cures.token})")
        if status in (404, 405) or status < 400:
            return Permanent(f"{what} ({self._cures.address})")
        return Refused(what)

    def _words(self, body: bytes) -> str:
        """What the server says in its own words, on one line and without any credential."""
        try:
            text = msgspec.json.decode(body, type=_Said).error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = body.decode(errors="replace")
        text = " ".join(self._range.scrubbed(self._query.scrubbed(text)).split())
        plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
        return plain if len(plain) <= MAX_WORDS else f"{plain[:MAX_WORDS]}..."

    def _result(self, body: bytes, wanted: str) -> list[Row]:
        try:
            said = msgspec.json.decode(body, type=_Said)
            kind = msgspec.json.decode(said.data, type=_Kind).result_type
            if said.status != "success" or kind != wanted:
                raise Permanent(f"{self.shown} answered with a {kind:.20}, not with a {wanted} of samples")
            found = msgspec.json.decode(said.data, type=_Result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Permanent(
                f"{self.shown} does not answer as Prometheus does; its answer begins with "
                f"`{self._words(body[:60])}` (is the address right?)"
            ) from None
        for text in said.warnings[:MAX_WARNINGS]:
            self._doubted(self._words(text.encode(errors="replace")))
        for text in said.infos[:MAX_WARNINGS]:
            self._mentioned("info", self._words(text.encode(errors="replace")))
        if said.is_partial:
            raise BadAnswer(f"{self.shown} answered in part only: some of its storage cannot be reached")
        return found.result

    def _doubted(self, words: str) -> None:
        if words in self.warnings or len(self.warnings) < MAX_WARNINGS:
            self.warnings[words] += 1
        self._mentioned("warning", words)

    def _mentioned(self, level: str, words: str) -> None:
        """Pass on what is new: most of it comes with every answer."""
        if words not in self._told and len(self._told) < 2 * MAX_WARNINGS:
            self._told.add(words)
            self._tell(level, words)


def _within(row: Row, first: float, last: float) -> Row:
    """The row without what was not asked for: an event of a moment that is none would end the source."""
    return Row(
        row.metric,
        [sample for sample in row.values if first <= sample[0] <= last],
        [sample for sample in row.histograms if first <= sample[0] <= last],
    )


async def _read(answer: Answer, most: int) -> tuple[bytes, bool]:
    """The body, or its beginning where it is longer than `most`; and whether it is whole."""
    body = bytearray()
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                return bytes(body[:most]), False
    return bytes(body), True

"""Raw samples from a Prometheus-compatible server: HTTP API, https://prometheus.io/docs/prometheus/latest/querying/api/.

Asked is `query` with a range selector, not `query_range`: it gives the samples as they were scraped, each with its own
moment, where `query_range` gives what the newest sample within five minutes was at moments of ours. Restarts, gaps
and series that went away then look as they did to the live source, and the very same code can count them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Self

import msgspec
from yarl import URL

from rollbackd.aiokit import Clock, RetryPolicy, retry
from rollbackd.errors import ConfigError, Permanent
from rollbackd.sources.http import Answer, BadAnswer, HttpClient, HttpOptions

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""A larger answer is given up while it streams, and asked for again in two halves."""
LONGEST_PAGE_S = 3600.0
"""Of so much time at most is asked at once: 3600 points a series where it is scraped every second."""
SHORTEST_PAGE_S = 60.0
MAX_WORDS = 200
"""Characters that are told of what a server says."""
MAX_WARNINGS = 20

RETRIES = RetryPolicy(first_wait=0.2, longest_wait=10.0, attempts=5)


class Row(msgspec.Struct, frozen=True):
    """One series: its labels, the name among them as `__name__`, and (Unix seconds, value as text) each."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []


class _Matrix(msgspec.Struct, frozen=True, rename="camel"):
    result_type: str
    result: list[Row]


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    result_type: str


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"")
    error: str = ""
    warnings: list[str] = []


class TooMuch(Permanent):
    """More than the server, or this client, takes at once: a shorter time may do."""


def api_url(text: str) -> str:
    """The address of the query API under a server's address. Raises ConfigError where it is none."""
    cure = "write it like http://127.0.0.1:9090"
    try:
        url = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        raise ConfigError(f"--prometheus: this is no URL: {cure}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"--prometheus: this is no HTTP URL: {cure}")
    if url.raw_query_string or url.raw_fragment:
        raise ConfigError(f"--prometheus: a query or fragment has no meaning here: {cure}")
    path = url.path.rstrip("/").removesuffix("/api/v1")
    return str(url.with_path(f"{path}/api/v1/query"))


class Prometheus:
    """Asks one server. An async context manager. `warnings` counts what the server itself doubts of its answers."""

    def __init__(self, url: str, options: HttpOptions, clock: Clock, timeout: float = 60.0) -> None:
        self._http = HttpClient(api_url(url), options, timeout)
        self._clock = clock
        self._longest = LONGEST_PAGE_S
        self.shown = self._http.shown.removesuffix("/api/v1/query")
        self.warnings: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def pages(self, selector: str, after: float, until: float) -> AsyncIterator[list[Row]]:
        """The samples in `(after, until]`, in pages that follow one another in time.

        A page that is too large is asked for in halves. Raises Temporary, Permanent and ConfigError.
        """
        begin = after
        while begin < until:
            end = min(begin + self._longest, until)
            try:
                rows = await self._page(selector, begin, end)
            except TooMuch as error:
                if end - begin <= SHORTEST_PAGE_S:
                    raise Permanent(
                        f"{error}: even {end - begin:.0f} s are too much; narrow the series with --match"
                    ) from None
                self._longest = max((end - begin) / 2, SHORTEST_PAGE_S)
                continue
            yield rows
            begin = end

    async def _page(self, selector: str, after: float, until: float) -> list[Row]:
        form = {"query": f"{selector}[{round((until - after) * 1000)}ms]", "time": f"{until:.3f}"}
        answer = self._matrix(await retry(lambda: self._ask(form), RETRIES, self._clock))
        # the range's older end belongs to it in Prometheus 2, and does not in 3
        return [
            Row(row.metric, [sample for sample in row.values if after < sample[0] <= until]) for row in answer.result
        ]

    async def _ask(self, form: Mapping[str, str]) -> bytes:
        async with self._http.ask("POST", "application/json", follow=False, form=form) as answer:
            good = answer.status == 200
            body, whole = await _read(answer, MAX_ANSWER_BYTES if good else 64 * 1024)
        if not good:
            raise self._refusal(answer.status, body)
        if not whole:
            raise TooMuch(f"{self.shown} answers with more than {MAX_ANSWER_BYTES // 1024**2} MiB")
        return body

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
            return Permanent(f"{what} (give a token that may query with --prometheus-token-file FILE)")
        if status in (404, 405) or status < 400:
            return Permanent(f"{what} (--prometheus wants the address before /api/v1, without redirects)")
        return Permanent(what)

    def _words(self, body: bytes) -> str:
        """What the server says in its own words, on one line and without any credential."""
        try:
            text = msgspec.json.decode(body, type=_Said).error
        except msgspec.DecodeError:
            text = body.decode(errors="replace")
        text = " ".join(self._http.scrubbed(text).split())
        plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
        return plain if len(plain) <= MAX_WORDS else f"{plain[:MAX_WORDS]}..."

    def _matrix(self, body: bytes) -> _Matrix:
        try:
            said = msgspec.json.decode(body, type=_Said)
            kind = msgspec.json.decode(said.data, type=_Kind).result_type
            if said.status != "success" or kind != "matrix":
                raise Permanent(f"{self.shown} answered with a {kind:.20}, not with a matrix of samples")
            matrix = msgspec.json.decode(said.data, type=_Matrix)
        except msgspec.DecodeError:
            raise Permanent(
                f"{self.shown} does not answer as Prometheus does; its answer begins with "
                f"`{self._words(body[:60])}` (is the address right?)"
            ) from None
        for warning in said.warnings[:MAX_WARNINGS]:
            if warning in self.warnings or len(self.warnings) < MAX_WARNINGS:
                self.warnings[self._words(warning.encode())] += 1
        return matrix


async def _read(answer: Answer, most: int) -> tuple[bytes, bool]:
    """The body, or its beginning where it is longer than `most`; and whether it is whole."""
    body = bytearray()
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                return bytes(body[:most]), False
    return bytes(body), True

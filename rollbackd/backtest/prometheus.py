"""Raw samples of any length of time from a Prometheus-compatible server, in pages that it and we can take."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from yarl import URL

from rollbackd.aiokit import Clock, RetryPolicy, retry
from rollbackd.errors import ConfigError, Permanent
from rollbackd.metrics.samples import Row
from rollbackd.sources.http import HttpOptions
from rollbackd.sources.prometheus_api import Cures, PrometheusApi, TooMuch, api_root

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""A larger answer is given up while it streams, and asked for again in two halves."""
LONGEST_PAGE_S = 3600.0
"""Of so much time at most is asked at once: 3600 points a series where it is scraped every second."""
SHORTEST_PAGE_S = 60.0

RETRIES = RetryPolicy(first_wait=0.2, longest_wait=10.0, attempts=5)
CURES = Cures(
    token="give a token that may query with --prometheus-token-file FILE",  # noqa: S106  words, and no secret
    address="--prometheus wants the address before /api/v1, without redirects",
)


def api_url(text: str) -> str:
    """The address of the API under a server's address. Raises ConfigError where it is none."""
    try:
        root = api_root(text)
    except ConfigError as error:
        raise ConfigError(f"--prometheus: {error}") from None
    if URL(root).raw_query_string:
        raise ConfigError("--prometheus: a query has no meaning here: write it like http://127.0.0.1:9090")
    return root


class Prometheus:
    """Asks one server. An async context manager. `warnings` counts what the server itself doubts of its answers."""

    def __init__(self, url: str, options: HttpOptions, clock: Clock, timeout: float = 60.0) -> None:
        self._api = PrometheusApi(api_url(url), options, timeout, CURES)
        self._clock = clock
        self._longest = LONGEST_PAGE_S
        self.shown = self._api.shown

    @property
    def warnings(self) -> Counter[str]:
        """What the server said beside its answers, and how often."""
        return self._api.warnings

    async def __aenter__(self) -> Self:
        await self._api.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.__aexit__(kind, error, trace)

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
        ask = self._api.samples
        return await retry(lambda: ask(selector, after, until, MAX_ANSWER_BYTES), RETRIES, self._clock)

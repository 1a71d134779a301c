"""One Prometheus-compatible server, asked once for all services that are read from it.

Everything that services ask for between two ticks is put together: services whose series are told by the same label
share one question, and the answer is split by that label's value. What is too much is asked for in halves, so that in
the end one service's question fails alone.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import RollbackdError
from rollbackd.metrics.promql import all_equal, among, named
from rollbackd.metrics.samples import Row
from rollbackd.sources.base import Commons
from rollbackd.sources.http import BadAnswer, HttpOptions, TimedOut
from rollbackd.sources.prometheus_api import Cures, PrometheusApi, Refused, TooMuch
from rollbackd.sources.schedule import Schedule

NAMING_LABELS = (
    "service",
    "app",
    "app_kubernetes_io_name",
    "service_name",
    "job",
    "deployment",
    "destination_service_name",
    "destination_workload",
    "exported_service",
    "exported_job",
    "envoy_cluster_name",
)
"""The labels that usually say whose a series is, in the order in which they are tried."""

BATCH = 100
"""Services asked for at once, where it is the last minutes that are asked for."""
BATCH_S = 240.0
"""Of a longer time so many fewer services are asked for at once."""
FEWEST = 5
AT_ONCE = 2
"""Questions that a server is asked side by side."""
SHORTEST_S = 60.0
"""So much time is asked for at least, however large the answer is."""

CURES = Cures(
    token="give a credential that may query: `bearer`, `basic` or `headers`",  # noqa: S106  words, and no secret
    address="`url` wants the address before /api/v1, without redirects",
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.sources.prometheus")


@dataclass(frozen=True)
class Access:
    """How a server is asked. `root` is the address of its API, `interval` the time between two ticks."""

    root: str
    options: HttpOptions
    interval: float
    timeout: float
    max_bytes: int


@dataclass(frozen=True)
class Page:
    """The samples of one service up to `until`. `match` are the labels they were picked by, None where no label of
    any series names the service."""

    rows: Sequence[Row]
    until: float
    match: Mapping[str, str] | None


@dataclass(eq=False)
class Question:
    """What one service wants to know: the samples of these metrics after a moment.

    Without `match` the server is asked which label names the service, by the metrics that count its requests.
    """

    service: str
    metrics: frozenset[str]
    counters: frozenset[str]
    match: Mapping[str, str] | None
    after: float
    answer: asyncio.Future[Page] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def label(self) -> str:
        """The label whose value is this service's own; the other labels it may share with services beside it."""
        match = self.match or {}
        own = [label for label, value in match.items() if value == self.service]
        return (own or sorted(match))[0]

    def succeed(self, page: Page) -> None:
        if not self.answer.done():
            self.answer.set_result(page)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(frozen=True)
class _Batch:
    """Questions that are asked as one."""

    questions: tuple[Question, ...]

    @property
    def after(self) -> float:
        return min(one.after for one in self.questions)

    def selector(self) -> str:
        first = self.questions[0]
        label, match = first.label, dict(first.match or {})
        shared = {name: value for name, value in match.items() if name != label}
        own = among(label, (dict(one.match or {})[label] for one in self.questions))
        return named(first.metrics, ",".join([own, *all_equal(shared)]))

    def halves(self) -> tuple[_Batch, _Batch]:
        middle = len(self.questions) // 2
        return _Batch(self.questions[:middle]), _Batch(self.questions[middle:])

    def succeed(self, rows: Iterable[Row], until: float) -> None:
        label = self.questions[0].label
        by_value: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_value[row.metric.get(label, "")].append(row)
        for one in self.questions:
            one.succeed(Page(by_value.get((one.match or {})[label], ()), until, one.match))

    def fail(self, error: Exception) -> None:
        for one in self.questions:
            one.fail(error)


class Server:
    """One server under one set of settings. Whoever asks holds a seat; the last to leave closes the connections."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self._access, self._clock = access, clock
        self.max_bytes = access.max_bytes
        self._seats = 0
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Question] = []
        self._sizes: dict[str, int] = {}
        self.api = PrometheusApi(access.root, access.options, access.timeout, CURES, self._told)
        self.at_once = asyncio.Semaphore(AT_ONCE)
        """For those who ask questions of their own."""

    @asynccontextmanager
    async def seat(self, commons: Commons, key: object) -> AsyncIterator[None]:
        """Keep the server open; without anybody it is closed and forgotten."""
        self._seats += 1
        try:
            if self._seats == 1:
                await self.api.__aenter__()
            yield
        finally:
            self._seats -= 1
            if not self._seats:
                commons.forget(("prometheus", key))
                if self._task is not None:
                    self._task.cancel()
                    await asyncio.wait([self._task])
                await self.api.__aexit__(None, None, None)

    async def ask(self, question: Question) -> Page:
        """The answer at the next tick. Raises Temporary and Permanent where there is none."""
        self._waiting.append(question)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"prometheus:{self.api.shown}")
        return await question.answer

    async def _run(self) -> None:
        schedule = Schedule(self._clock, self._access.interval)
        asked: list[Question] = []
        try:
            while True:
                await schedule.tick()
                asked, self._waiting = [one for one in self._waiting if not one.answer.done()], []
                await self._tick(asked, self._clock.now())
        except Exception as error:  # a fault of ours: those who wait crash with it, and are started again
            self._task = None
            for one in (*asked, *self._waiting):
                one.fail(error)

    async def _tick(self, questions: Sequence[Question], now: float) -> None:
        try:
            await self._find([one for one in questions if one.match is None], now)
        except RollbackdError as error:
            for one in questions:
                if one.match is None:
                    one.fail(error)
        for one in questions:
            if one.match is None:
                one.succeed(Page((), now, None))
        batches = list(self._batches([one for one in questions if not one.answer.done()], now))
        tick = _Tick(now, len(batches))
        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(self._answer(batch, now, tick))
        self._resize(tick)

    # -- whose series they are

    async def _find(self, questions: Sequence[Question], now: float) -> None:
        """Settle which label names each of these services: the first one that has its name as a value."""
        kinds: defaultdict[frozenset[str], list[Question]] = defaultdict(list)
        for one in questions:
            kinds[one.counters].append(one)
        for counters, unknown in kinds.items():
            for label in NAMING_LABELS:
                for start in range(0, len(unknown), BATCH):
                    some = unknown[start : start + BATCH]
                    selector = named(counters, among(label, (one.service for one in some)))
                    found = await self.api.labels(f"count by ({label}) ({selector})", now, self._access.max_bytes)
                    present = {metric.get(label) for metric in found}
                    for one in some:
                        if one.service in present:
                            one.match = {label: one.service}
                unknown = [one for one in unknown if one.match is None]

    # -- what they hold

    def _batches(self, questions: Iterable[Question], now: float) -> Iterator[_Batch]:
        kinds: defaultdict[tuple[object, ...], list[Question]] = defaultdict(list)
        for one in questions:
            shared = tuple(sorted((name, value) for name, value in (one.match or {}).items() if name != one.label))
            length = math.ceil(math.log2(max(now - one.after, BATCH_S)))
            size = self._sizes.get(one.service, BATCH)
            kinds[one.metrics, one.label, shared, length, size].append(one)
        for found in kinds.values():
            size = self._sizes.get(found[0].service, BATCH)
            longest = now - min(one.after for one in found)
            if longest > BATCH_S:
                size = min(size, max(FEWEST, round(BATCH * BATCH_S / longest)))
            for start in range(0, len(found), size):
                yield _Batch(tuple(found[start : start + size]))

    async def _answer(self, batch: _Batch, until: float, tick: _Tick) -> None:
        async with self.at_once:
            await self._answer_now(batch, until, tick)

    async def _answer_now(self, batch: _Batch, until: float, tick: _Tick) -> None:
        if tick.broken is not None:
            batch.fail(tick.broken)
            return
        try:
            rows = await self.api.samples(batch.selector(), batch.after, until, self._access.max_bytes)
        except (TooMuch, Refused) as error:
            if len(batch.questions) > 1:
                for half in batch.halves():
                    await self._answer_now(half, until, tick)
            elif isinstance(error, TooMuch) and until - batch.after > SHORTEST_S:
                await self._answer_now(batch, batch.after + max((until - batch.after) / 2, SHORTEST_S), tick)
            else:
                batch.fail(error)
        except (BadAnswer, TimedOut) as error:
            tick.failed.append(batch)
            batch.fail(error)
        except RollbackdError as error:
            tick.broken = error  # the server is not to be had at all: no need to ask it a hundred times
            batch.fail(error)
        else:
            tick.good.append(batch)
            batch.succeed(rows, until)

    def _resize(self, tick: _Tick) -> None:
        """Ask for fewer services together where that took too long, unless nearly everything did: then it is not one
        service's fault. What went well may be asked for together again."""
        for batch in tick.good:
            for one in batch.questions:
                size = min(2 * self._sizes.pop(one.service, BATCH), BATCH)
                if size < BATCH:
                    self._sizes[one.service] = size
        if len(tick.failed) <= max(1, tick.batches // 2):
            for batch in tick.failed:
                for one in batch.questions:
                    self._sizes[one.service] = max(1, len(batch.questions) // 2)

    def _told(self, level: str, words: str) -> None:
        told = log.warning if level == "warning" else log.info
        told(f"prometheus_{level}", server=self.api.shown, said=words)


@dataclass
class _Tick:
    """What became of the questions of one tick. `broken` is why no more of them are asked."""

    now: float
    batches: int
    good: list[_Batch] = field(default_factory=list)
    failed: list[_Batch] = field(default_factory=list)
    broken: RollbackdError | None = None

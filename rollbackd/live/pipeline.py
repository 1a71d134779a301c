"""Events to the engine and outcomes to the ledger: one ordered worker a service, bounded queues before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from rollbackd.aiokit import Clock, RetryPolicy, Tasks, retry
from rollbackd.engine import MAX_SERVICES, SNAPSHOT_FORMAT, Engine
from rollbackd.errors import Permanent, RecordingError, Temporary
from rollbackd.ledger.base import ConfigStamp, InboxItem, Ledger, Mode, Snapshot, StoredDecision
from rollbackd.logs.masking import masked
from rollbackd.model import MAX_BACKWARDS_S, AnyEvent, Latency, Log, Outcome, Requests, WatchChange, decision_id
from rollbackd.notify.base import Message
from rollbackd.recording import Recorder
from rollbackd.telemetry import Metrics

MAX_STRANGERS = MAX_SERVICES // 2
"""Services that nobody configured are taken in up to this many in all; the other places are for configured ones."""
QUEUE_EVENTS = 1000
"""Pulled events of one service that may wait for the engine; further ones make their source wait."""
OBSERVED_EVENTS = 20_000
"""Events of pushed telemetry that may wait for the engine; further deliveries are asked to come again."""
OBSERVED = -1
"""Stands where a durable event has its number in the inbox."""
PUSHED_EVENTS = 10_000
"""Pushed events that may wait for the engine; further deliveries are asked to come again."""
YIELD_EVERY = 100
"""Events fed in one go before everything else, the web server above all, gets its turn."""
SNAPSHOT_EVERY_S = 15.0

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.pipeline")


class Saved(msgspec.Struct, frozen=True):
    """What a snapshot holds: the engine's state and, by service, the newest pushed event it has seen."""

    engine: bytes
    fed: dict[str, int]


class _Lane:
    """One service's queue, or that of all which nobody configured. Pushed events, which are durable already, never wait
    for room."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[AnyEvent, int | None]] = asyncio.Queue()
        self.room = asyncio.Semaphore(QUEUE_EVENTS)
        self.task: asyncio.Task[None] | None = None
        self.busy, self.entering = False, 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits in it or for room in it, and nothing of it is being worked upon."""
        return self.queue.empty() and not self.busy and self.entering == 0


class Pipeline:
    """The one road from events to what follows from them.

    `told` makes the messages that outcomes cause; `act` is called with the decisions once they are on disk.
    `configured` tells the services of the configuration from names that merely came in a delivery.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        *,
        recorder: Recorder | None,
        stamp: Callable[[], ConfigStamp],
        mode_for: Callable[[str], Mode],
        told: Callable[[Sequence[StoredDecision], Sequence[WatchChange]], Sequence[tuple[str, Message]]],
        act: Callable[[Sequence[StoredDecision], Sequence[WatchChange]], Awaitable[None]],
        configured: Callable[[str], bool] = lambda _service: True,
    ) -> None:
        self._engine, self._ledger, self._clock, self._tasks, self._metrics = engine, ledger, clock, tasks, metrics
        self._recorder = recorder
        self._stamp, self._mode_for, self._told, self._act = stamp, mode_for, told, act
        self._configured = configured
        self._lanes: dict[str | None, _Lane] = {}
        self._refusing = False
        self._waiting: set[int] = set()
        self._observed = 0
        self._newest_seq = 0
        self._fed: dict[str, int] = {}
        self._counted_until: dict[str, float] = {}
        self._unrecorded: list[StoredDecision | WatchChange] = []
        self._recording_fails = False
        self._faults: dict[str, str] = {}
        self._commit_lock = asyncio.Lock()
        self._changed = False
        self.problem: str | None = None
        metrics.queued.set_function(lambda: sum(lane.queue.qsize() for lane in self._lanes.values()))

    # -- start

    async def restore(self) -> list[InboxItem]:
        """Take the engine to where it was; returns the pushed events that it has not seen yet."""
        snapshot = await self._ledger.load_snapshot()
        if snapshot is None:
            return await self._ledger.inbox_after(0)
        try:
            ahead = snapshot.at - self._clock.now()
            if ahead > MAX_BACKWARDS_S:
                raise Permanent(f"the clock was set back by {ahead:.0f} s, and the engine's time only goes forward")
            saved = msgspec.msgpack.decode(snapshot.state, type=Saved)
            self._engine.restore(saved.engine, snapshot.format)
        except (msgspec.DecodeError, Permanent) as error:
            log.error("snapshot_unusable", error=str(error))
            await self._remember()
            self._newest_seq = snapshot.inbox_seq
            return await self._ledger.inbox_after(snapshot.inbox_seq)
        self._fed, self._newest_seq = dict(saved.fed), snapshot.inbox_seq
        items = await self._ledger.inbox_after(snapshot.inbox_seq)
        return [item for item in items if item.seq > self._fed.get(item.event.service, 0)]

    async def _remember(self) -> None:
        """Without a snapshot, what the ledger knows of releases still tells which one is good."""
        deployments = await self._ledger.deployments(limit=1000)
        for service in dict.fromkeys(one.service for one in deployments):
            newest = next(one for one in deployments if one.service == service)
            releases = await self._ledger.releases(service)
            known = [(r.version, r.standing, r.first_seen, r.changed_at) for r in releases]
            self._engine.remember(service, known, newest.version)

    # -- the road

    async def submit(self, event: AnyEvent) -> None:
        """Take a pulled event; waits while the service's queue is full."""
        lane = self._lane(event.service)
        lane.entering += 1
        try:
            await lane.room.acquire()
            lane.queue.put_nowait((event, None))
            self._note(event)
        finally:
            lane.entering -= 1

    def _note(self, event: AnyEvent) -> None:
        if isinstance(event, Requests | Latency):
            self._counted_until[event.service] = max(event.t, self._counted_until.get(event.service, event.t))

    def counted_until(self, service: str) -> float | None:
        """The newest moment of which requests or latencies of the service are known, or wait to be."""
        ends = (self._counted_until.get(service), self._engine.counted_until(service))
        return max((end for end in ends if end is not None), default=None)

    def submit_accepted(self, item: InboxItem) -> None:
        """Take a pushed event that is in the ledger already."""
        self.hold(item)
        self._lane(item.event.service).queue.put_nowait((item.event, item.seq))

    def hold(self, item: InboxItem) -> None:
        """Remember a pushed event that is not to be fed yet: it is submitted or dropped later, also after a restart."""
        self._newest_seq = max(self._newest_seq, item.seq)
        self._waiting.add(item.seq)

    def drop(self, item: InboxItem) -> None:
        """Forget a pushed event that was held."""
        self._waiting.discard(item.seq)
        self._changed = True

    def submit_observed(self, events: Sequence[AnyEvent]) -> None:
        """Take pushed telemetry, in order; whoever sends it was asked first whether the road is `flooded`."""
        self._observed += len(events)
        for event in events:
            self._note(event)
            self._lane(event.service).queue.put_nowait((event, OBSERVED))

    def submit_now(self, event: AnyEvent) -> None:
        """Take an event of our own making, such as the deployment that our revert is."""
        self._lane(event.service).queue.put_nowait((event, 0))

    @property
    def flooded(self) -> bool:
        """Whether so much pushed telemetry waits for the engine that no more should be accepted now."""
        return self._observed >= OBSERVED_EVENTS

    @property
    def crowded(self) -> bool:
        """Whether so many pushed events wait for the engine that no more should be accepted now."""
        return len(self._waiting) >= PUSHED_EVENTS

    def _lane(self, service: str) -> _Lane:
        """The service's own; those that nobody configured share one, so that no flood of names is one of tasks."""
        lane = self._lanes.get(service)
        if lane is not None:
            return lane
        name = service if self._configured(service) else None
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
            lane.task = self._tasks.essential(f"engine:{name or '*'}", self._work(lane))
        return lane

    def sweep(self) -> None:
        """End the lanes of services that are no longer configured, once they are idle."""
        for name, lane in list(self._lanes.items()):
            if lane.idle and (name is None or not self._configured(name)):
                del self._lanes[name]
                self._counted_until.pop(name or "", None)
                if lane.task is not None:
                    lane.task.cancel()

    async def _work(self, lane: _Lane) -> None:
        since_others = 0
        while True:
            event, seq = await lane.queue.get()
            lane.busy = True
            if seq is None:
                lane.room.release()
            elif seq == OBSERVED:
                self._observed -= 1
                seq = None
            if self._feed(event, seq):
                await self._commit_outcomes()
            lane.queue.task_done()
            lane.busy = False
            since_others += 1
            if since_others >= YIELD_EVERY:  # a queue that is not empty hands out its next without any pause
                since_others = 0
                await asyncio.sleep(0)

    def _admitted(self, service: str) -> bool:
        """Whether the engine has, or may make, a place for the service. Configured ones come first."""
        taken = self._engine.takes(service, MAX_SERVICES if self._configured(service) else MAX_STRANGERS)
        if not taken:
            self._metrics.refused.inc()
            if not self._refusing:
                log.error("services_refused", first=service, reason="more services than can be remembered were told of")
            self._refusing = True
        return taken

    def _feed(self, event: AnyEvent, seq: int | None) -> bool:
        """Everything that must be one step: recorded, fed, and its outcomes noted as not yet on disk, if any."""
        if not self._admitted(event.service):
            self._waiting.discard(seq or 0)
            return False
        if isinstance(event, Log):
            event = masked(event)  # here, where lines of all sources come together, and nothing has kept them yet
        if self._recorder is not None:
            self._record(self._recorder, event)
        outcomes = [self._stamped(one) for one in self._judged(event)]
        if seq:
            self._fed[event.service] = seq
            self._waiting.discard(seq)
        self._unrecorded.extend(outcomes)
        self._changed = True
        self._metrics.events.labels(type(event).__name__.removesuffix("Event").lower()).inc()
        return bool(outcomes)

    def _judged(self, event: AnyEvent) -> list[Outcome]:
        """What follows from the event. A fault of a rule must not take the other services' watches with it, nor come
        back with the same event after each start."""
        try:
            return self._engine.feed(event)
        except Exception as error:
            log.exception("event_not_judged", service=event.service, type=type(event).__name__)
            self._metrics.task_crashes.labels("engine").inc()
            self._faults[event.service] = f"an event could not be judged ({type(error).__name__}), the log says more"
            return []

    def faults(self, service: str) -> tuple[str, ...]:
        """What went wrong inside while judging a service, since the start."""
        return (self._faults[service],) if service in self._faults else ()

    def _record(self, recorder: Recorder, event: AnyEvent) -> None:
        try:
            recorder.write(event)
        except (RecordingError, Temporary) as error:
            self._metrics.recorder_lost.inc()
            if not self._recording_fails:
                log.error("recording_fails", error=str(error))
            self._recording_fails = True
        else:
            if self._recording_fails:
                log.info("recording_resumed")
            self._recording_fails = False

    def _stamped(self, outcome: Outcome) -> StoredDecision | WatchChange:
        """The outcome as it is to be kept: under the configuration of this moment, whenever it reaches the disk."""
        if isinstance(outcome, WatchChange):
            return outcome
        mode = self._mode_for(outcome.service)
        return StoredDecision(id=decision_id(outcome), decision=outcome, config=self._stamp(), mode=mode)

    # -- to disk

    async def commit(self) -> None:
        """Put every outcome that is not on disk there, with the engine's state after it, then act upon it.

        While the ledger cannot be written this waits, and says so: nothing is acted upon that is not on disk.
        """
        async with self._commit_lock:
            await self._commit()

    async def _commit_outcomes(self) -> None:
        """The same, unless another service's commit took our outcomes along while we waited for our turn."""
        async with self._commit_lock:
            if self._unrecorded:
                await self._commit()

    async def _commit(self) -> None:
        outcomes = await retry(self._attempt, RetryPolicy(longest_wait=15.0), self._clock, self._on_retry)
        self._healthy()
        if outcomes:
            await self._act(*_parted(outcomes))

    async def _attempt(self) -> list[StoredDecision | WatchChange]:
        taken, self._unrecorded = self._unrecorded, []
        try:
            decisions, changes = _parted(taken)
            messages = self._told(decisions, changes)
            snapshot = self._snapshot()
            if taken:
                await self._ledger.record(decisions, changes, snapshot, messages)
            else:
                await self._ledger.save_snapshot(snapshot)
        except BaseException:
            self._unrecorded = taken + self._unrecorded
            self._changed = True
            raise
        return taken

    def _snapshot(self) -> Snapshot:
        self._changed = False
        saved = Saved(self._engine.snapshot(), dict(self._fed))
        seen = min(self._waiting) - 1 if self._waiting else self._newest_seq
        return Snapshot(
            at=self._clock.now(), inbox_seq=seen, format=SNAPSHOT_FORMAT, state=msgspec.msgpack.encode(saved)
        )

    def doubt(self, error: Temporary) -> None:
        """Somebody else could not write the ledger: try it until it works, and be not ready until then."""
        if self.problem is None:
            self._out_of_order(error)
            self._tasks.once("ledger-trial", self.commit())

    def _on_retry(self, error: Temporary, _wait: float) -> None:
        self._out_of_order(error)

    def _out_of_order(self, error: Temporary) -> None:
        if self.problem is None:
            log.error("ledger_paused", error=str(error))
        self.problem = str(error)
        self._metrics.ledger_up.set(0)

    def _healthy(self) -> None:
        if self.problem is not None:
            log.info("ledger_resumed")
        self.problem = None
        self._metrics.ledger_up.set(1)

    async def snapshots(self) -> None:
        """Save the engine's state every so often; never ends."""
        while True:
            await self._clock.sleep(SNAPSHOT_EVERY_S)
            self.sweep()
            if self._changed:
                await self.commit()

    async def drain(self, seconds: float) -> None:
        """Wait until what was submitted has been fed, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(lane.queue.join() for lane in self._lanes.values()))
        except TimeoutError:
            log.warning("events_left_behind", count=sum(lane.queue.qsize() for lane in self._lanes.values()))


def _parted(outcomes: Sequence[StoredDecision | WatchChange]) -> tuple[list[StoredDecision], list[WatchChange]]:
    decisions = [one for one in outcomes if isinstance(one, StoredDecision)]
    return decisions, [one for one in outcomes if isinstance(one, WatchChange)]

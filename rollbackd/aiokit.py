"""The little that asyncio leaves out: an honest clock, guarded named tasks, one retry policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
import tenacity

from rollbackd.errors import Permanent, Temporary

T = TypeVar("T")
log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.aiokit")


class Clock(Protocol):
    """Time, injected so that tests need not wait for it."""

    def now(self) -> float:
        """Unix seconds that never run backwards."""

    def monotonic(self) -> float:
        """Seconds of a clock nobody sets, for durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """Wall time carried on by the monotonic clock: when somebody sets the wall clock back, ours does not follow.

    A jump forward of more than `tolerance` seconds (a resumed machine, a first NTP step) is taken over. After a jump
    back ours runs a tenth slower than it should until the wall has caught up. Both are logged, once a jump.
    """

    SLOWER = 0.1

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        tolerance: float = 2.0,
    ) -> None:
        self._wall, self._monotonic, self._tolerance = wall, monotonic, tolerance
        self._last = monotonic()
        self._offset = wall() - self._last
        self._behind = False

    def now(self) -> float:
        elapsed = self._monotonic()
        drift = self._wall() - elapsed - self._offset
        if drift > self._tolerance:
            log.warning("clock_jumped_forward", seconds=round(drift, 3))
        elif drift < -self._tolerance and not self._behind:
            log.warning("clock_jumped_back", seconds=round(drift, 3))
            self._behind = True
        self._behind = self._behind and drift < 0
        self._offset += max(drift, -self.SLOWER * (elapsed - self._last))
        self._last = elapsed
        return elapsed + self._offset

    def monotonic(self) -> float:
        return self._monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try again after a Temporary error; times in seconds."""

    first_wait: float = 0.5
    longest_wait: float = 30.0
    attempts: int | None = None
    within: float | None = None


async def retry(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    clock: Clock,
    on_retry: Callable[[Temporary, float], None] | None = None,
) -> T:
    """Call until it succeeds, raises anything but Temporary, or the policy is exhausted (then its last Temporary).

    Waits grow exponentially with jitter; a peer's own Retry-After is never undercut. `on_retry` is told the error
    and the wait in seconds before each wait.
    """
    backoff = tenacity.wait_random_exponential(multiplier=policy.first_wait, max=policy.longest_wait)
    began = clock.monotonic()

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, Temporary) else None
        return max(backoff(state), asked or 0.0)

    def stop(state: tenacity.RetryCallState) -> bool:
        if policy.attempts is not None and state.attempt_number >= policy.attempts:
            return True
        return policy.within is not None and clock.monotonic() - began + state.upcoming_sleep > policy.within

    def before_sleep(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if on_retry is not None and isinstance(error, Temporary):
            on_retry(error, state.upcoming_sleep)

    async def attempt() -> T:
        return await call()  # tenacity awaits only what it can tell to be a coroutine function, and a lambda is none

    retrying = tenacity.AsyncRetrying(
        sleep=clock.sleep,
        wait=wait,
        stop=stop,
        retry=tenacity.retry_if_exception_type(Temporary),
        before_sleep=before_sleep,
        reraise=True,
    )
    return await retrying(attempt)


class Tasks:
    """Named tasks that cannot die unnoticed, cancelled together and last-in-first-out by `close`.

    `essential` tasks end the daemon when they end: `failed` then holds why. `restarted` ones are adapters: a crash
    is logged and counted, and the task starts again after a growing wait; a Permanent error ends that one alone.
    """

    def __init__(self, clock: Clock, on_crash: Callable[[str, BaseException], None] | None = None) -> None:
        self._clock = clock
        self._on_crash = on_crash or (lambda _name, _error: None)
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def essential(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Start work whose end, for whatever reason but cancellation, is the daemon's end."""
        return self._start(name, self._essential(name, work), work)

    def restarted(
        self, name: str, work: Callable[[], Coroutine[object, object, None]], longest_wait: float = 60.0
    ) -> asyncio.Task[None]:
        """Start work that is started again whenever it crashes."""
        return self._start(name, self._restarted(name, work, longest_wait))

    def once(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Start work that ends by itself; a crash is logged and counted, and that is all."""
        return self._start(name, self._once(name, work), work)

    async def _once(self, name: str, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception as caught:
            log.exception("task_died", task=name)
            self._on_crash(name, caught)

    def _start(
        self, name: str, guarded: Coroutine[object, object, None], work: Coroutine[object, object, None] | None = None
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(guarded, name=name)
        if work is not None:  # a task cancelled before its first step would leave it neither awaited nor closed
            task.add_done_callback(lambda _task: work.close())
        self._tasks.append(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks.remove(task)

    async def _essential(self, name: str, work: Coroutine[object, object, None]) -> None:
        error: BaseException = RuntimeError(f"task {name} ended, which it must not")
        try:
            await work
        except (Exception, asyncio.CancelledError) as caught:
            if _is_being_cancelled(caught):
                raise
            log.exception("task_died", task=name)
            self._on_crash(name, caught)
            error = caught
        if not self.failed.done():
            self.failed.set_result(error)

    async def _restarted(
        self, name: str, work: Callable[[], Coroutine[object, object, None]], longest_wait: float
    ) -> None:
        wait = 1.0
        while True:
            began = self._clock.monotonic()
            try:
                await work()
                return
            except Permanent as error:
                log.error("task_gave_up", task=name, error=str(error))
                self._on_crash(name, error)
                return
            except (Exception, asyncio.CancelledError) as error:
                if _is_being_cancelled(error):
                    raise
                log.exception("task_crashed", task=name, restart_in_s=wait)
                self._on_crash(name, error)
            if self._clock.monotonic() - began > longest_wait:
                wait = 1.0
            await self._clock.sleep(wait)
            wait = min(wait * 2, longest_wait)

    async def close(self, grace: float = 10.0) -> None:
        """Cancel all, newest first, and wait for each; what does not end within `grace` seconds is logged."""
        for task in reversed(self._tasks.copy()):
            task.cancel()
            _done, late = await asyncio.wait([task], timeout=grace)
            if late:
                log.error("task_does_not_end", task=task.get_name())


def _is_being_cancelled(error: BaseException) -> bool:
    """Whether this is our own task's cancellation, and not that of something which the task happened to wait for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0

"""The clock, the retry policy and the guarded tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest
from structlog.testing import capture_logs

from rollbackd.aiokit import RetryPolicy, SystemClock, Tasks, retry
from rollbackd.errors import Permanent, Temporary
from tests.support.clock import ManualClock, settle

# -- the clock


class Clocks:
    """A wall clock that can be set, and a monotonic one that cannot."""

    def __init__(self) -> None:
        self.wall, self.elapsed = 1_000_000.0, 50.0
        self.clock = SystemClock(wall=lambda: self.wall, monotonic=lambda: self.elapsed)

    def pass_by(self, seconds: float, wall: float | None = None) -> float:
        self.elapsed += seconds
        self.wall += seconds if wall is None else wall
        return self.clock.now()


def test_the_clock_tells_wall_time() -> None:
    clocks = Clocks()
    assert clocks.clock.now() == 1_000_000.0
    assert clocks.pass_by(10) == 1_000_010.0
    assert clocks.clock.monotonic() == 60.0


def test_the_clock_takes_over_a_jump_forward_and_says_so_once() -> None:
    clocks = Clocks()
    with capture_logs() as logs:
        assert clocks.pass_by(1, wall=3601) == 1_003_601.0
        assert clocks.pass_by(1) == 1_003_602.0
    assert [entry["event"] for entry in logs] == ["clock_jumped_forward"]


def test_the_clock_never_runs_backwards_when_the_wall_clock_is_set_back() -> None:
    clocks = Clocks()
    before = clocks.clock.now()
    with capture_logs() as logs:
        for _ in range(1000):
            now = clocks.pass_by(0.5, wall=-0.4 if before < 1_000_010 else None)
            assert now >= before
            before = now
    assert [entry["event"] for entry in logs] == ["clock_jumped_back"]


def test_the_clock_meets_the_wall_again_after_a_jump_back() -> None:
    """Without that, what others send would lie in the past for as long as the daemon runs."""
    clocks = Clocks()
    clocks.pass_by(1, wall=-59)
    with capture_logs() as logs:
        for _ in range(599):
            assert clocks.pass_by(1) > clocks.wall
        for _ in range(10):
            clocks.pass_by(1)
        assert clocks.clock.now() == pytest.approx(clocks.wall)
        assert logs == []
        clocks.pass_by(1, wall=-59)
    assert [entry["event"] for entry in logs] == ["clock_jumped_back"]


@pytest.mark.parametrize("pace", [1.001, 0.999])
def test_the_clock_follows_slow_drift_quietly(pace: float) -> None:
    clocks = Clocks()
    with capture_logs() as logs:
        before = clocks.clock.now()
        for _ in range(10_000):
            now = clocks.pass_by(1, wall=pace)
            assert now >= before
            before = now
    assert logs == []
    assert before == pytest.approx(clocks.wall, abs=0.01)


async def test_the_clock_sleeps() -> None:
    await SystemClock().sleep(0)


# -- retrying


class Flaky:
    """Fails with these errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def finish(clock: ManualClock, running: asyncio.Task[str]) -> str:
    """Let time pass until the task is done."""
    for _ in range(200):
        await clock.advance(1.0)
        if running.done():
            break
    return await running


async def test_a_temporary_error_is_tried_again() -> None:
    clock, call = ManualClock(), Flaky(Temporary("busy"), Temporary("busy"))
    assert await finish(clock, asyncio.create_task(retry(call, RetryPolicy(), clock))) == "done"
    assert call.calls == 3


@pytest.mark.parametrize("error", [Permanent("no such release"), ValueError("a bug")])
async def test_any_other_error_is_not_tried_again(error: Exception) -> None:
    call = Flaky(error)
    with pytest.raises(type(error)):
        await retry(call, RetryPolicy(), ManualClock())
    assert call.calls == 1


async def test_after_so_many_attempts_the_last_error_is_raised() -> None:
    clock, call = ManualClock(), Flaky(*(Temporary(f"busy {n}") for n in range(9)))
    with pytest.raises(Temporary, match="busy 2"):
        await finish(clock, asyncio.create_task(retry(call, RetryPolicy(attempts=3), clock)))
    assert call.calls == 3


async def test_no_attempt_begins_after_the_time_is_up() -> None:
    clock, call = ManualClock(), Flaky(*(Temporary("busy") for _ in range(1000)))
    began = clock.monotonic()
    task = asyncio.create_task(retry(call, RetryPolicy(first_wait=4.0, longest_wait=4.0, within=20.0), clock))
    with pytest.raises(Temporary):
        await finish(clock, task)
    assert clock.monotonic() - began <= 21.0
    assert call.calls > 3


async def test_a_wish_to_be_left_alone_is_honoured() -> None:
    clock, call = ManualClock(), Flaky(Temporary("slow down", retry_after=90.0))
    task = asyncio.create_task(retry(call, RetryPolicy(longest_wait=1.0), clock))
    await clock.advance(89.9)
    assert call.calls == 1
    await clock.advance(0.2)
    assert await task == "done"


async def test_a_wish_that_outlasts_the_time_ends_the_attempts_at_once() -> None:
    clock, call = ManualClock(), Flaky(Temporary("slow down", retry_after=90.0))
    with pytest.raises(Temporary, match="slow down"):
        await retry(call, RetryPolicy(within=60.0), clock)


async def test_waits_grow_up_to_the_longest_and_are_told_before_they_begin() -> None:
    clock, call, told = ManualClock(), Flaky(*(Temporary(str(n)) for n in range(30))), list[tuple[str, float]]()
    policy = RetryPolicy(first_wait=0.5, longest_wait=4.0)
    task = asyncio.create_task(retry(call, policy, clock, lambda error, wait: told.append((str(error), wait))))
    assert await finish(clock, task) == "done"
    assert [error for error, _ in told] == [str(n) for n in range(30)]
    assert all(wait <= 4.0 for _, wait in told)
    assert all(wait <= 0.5 * 2**n for n, (_, wait) in enumerate(told))
    assert max(wait for _, wait in told) > 1.0


async def test_anything_that_returns_an_awaitable_can_be_retried() -> None:
    async def answer() -> str:
        return "done"

    assert await retry(lambda: answer(), RetryPolicy(), ManualClock()) == "done"


async def test_cancelling_ends_the_retrying() -> None:
    clock = ManualClock()
    task = asyncio.create_task(retry(Flaky(*[Temporary("busy")] * 9), RetryPolicy(), clock))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- tasks


class Crew:
    """Tasks on a manual clock, and what was reported of their crashes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.crashes: list[tuple[str, str]] = []
        self.tasks = Tasks(self.clock, lambda name, error: self.crashes.append((name, type(error).__name__)))


@pytest.fixture
async def crew() -> AsyncIterator[Crew]:
    crew = Crew()
    yield crew
    await crew.tasks.close()


async def forever() -> None:
    await asyncio.Event().wait()


class Crashing:
    """Work that crashes each time it is started, and remembers when that was."""

    def __init__(self, clock: ManualClock, runs_for: float = 0.0, error: Callable[[], BaseException] = OSError) -> None:
        self.clock, self.runs_for, self.error = clock, runs_for, error
        self.began: list[float] = []

    async def __call__(self) -> None:
        self.began.append(self.clock.monotonic())
        if self.runs_for:
            await self.clock.sleep(self.runs_for)
        raise self.error()


async def test_a_crashed_task_is_started_again_after_a_growing_wait(crew: Crew) -> None:
    work = Crashing(crew.clock)
    with capture_logs() as logs:
        crew.tasks.restarted("scrape", work, longest_wait=5.0)
        await crew.clock.advance(18.0)
    assert work.began == [0.0, 1.0, 3.0, 7.0, 12.0, 17.0]
    assert crew.crashes == [("scrape", "OSError")] * 6
    assert {entry["event"] for entry in logs} == {"task_crashed"}
    assert not crew.tasks.failed.done()


async def test_after_a_long_good_run_the_wait_is_short_again(crew: Crew) -> None:
    work = Crashing(crew.clock, runs_for=10.0)
    with capture_logs():
        crew.tasks.restarted("scrape", work, longest_wait=5.0)
        await crew.clock.advance(35.0)
    assert work.began == [0.0, 11.0, 22.0, 33.0]


async def test_a_permanent_error_ends_that_task_alone(crew: Crew) -> None:
    work, other = Crashing(crew.clock, error=lambda: Permanent("no such host")), Crashing(crew.clock)
    with capture_logs() as logs:
        gone = crew.tasks.restarted("scrape", work)
        crew.tasks.restarted("probe", other)
        await crew.clock.advance(4.0)
    assert gone.done()
    assert len(work.began) == 1
    assert len(other.began) > 1
    assert [entry["error"] for entry in logs if entry["event"] == "task_gave_up"] == ["no such host"]


async def test_work_that_ends_well_is_not_started_again(crew: Crew) -> None:
    runs = []

    async def work() -> None:
        runs.append(1)

    task = crew.tasks.restarted("backfill", work)
    await crew.clock.advance(100.0)
    assert task.done()
    assert runs == [1]
    assert crew.crashes == []


async def test_the_death_of_an_essential_task_is_reported(crew: Crew) -> None:
    with capture_logs():
        crew.tasks.essential("engine", Crashing(crew.clock)())
        assert isinstance(await crew.tasks.failed, OSError)
    assert crew.crashes == [("engine", "OSError")]


async def test_an_essential_task_must_not_even_end_well(crew: Crew) -> None:
    crew.tasks.essential("engine", asyncio.sleep(0))
    assert "engine ended" in str(await crew.tasks.failed)


async def test_the_first_death_is_the_one_reported(crew: Crew) -> None:
    with capture_logs():
        crew.tasks.essential("engine", Crashing(crew.clock)())
        crew.tasks.essential("web", Crashing(crew.clock, error=lambda: ValueError("later"))())
        await settle()
    assert isinstance(await crew.tasks.failed, OSError)


async def awaits_something_cancelled() -> None:
    inner = asyncio.get_running_loop().create_future()
    inner.cancel()
    await inner


async def test_a_cancellation_from_within_is_a_crash_like_any_other(crew: Crew) -> None:
    """Else a task that awaits a future which somebody cancels is gone without a word."""
    with capture_logs():
        crew.tasks.essential("engine", awaits_something_cancelled())
        restarted = crew.tasks.restarted("scrape", awaits_something_cancelled)
        assert isinstance(await crew.tasks.failed, asyncio.CancelledError)
        await settle()
    assert not restarted.done()
    assert ("scrape", "CancelledError") in crew.crashes


async def test_tasks_are_closed_newest_first_each_before_the_next(crew: Crew) -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            ended.append(name)

    for name in ("ledger", "engine", "scrape"):
        crew.tasks.essential(name, work(name))
    await settle()
    await crew.tasks.close()
    assert ended == ["scrape", "engine", "ledger"]
    assert not crew.tasks.failed.done()
    await crew.tasks.close()


async def test_a_task_that_does_not_end_is_named_and_the_others_are_closed(crew: Crew) -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    crew.tasks.essential("ledger", forever())
    clinging = crew.tasks.essential("probe", stubborn())
    await settle()
    with capture_logs() as logs:
        await crew.tasks.close(grace=0.01)
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task_does_not_end", "probe")]
    assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == ["probe"]
    let_go.set()
    await clinging


@pytest.mark.parametrize("start", ["essential", "once"])
async def test_a_task_closed_before_its_first_step_leaves_nothing_behind(crew: Crew, start: str) -> None:
    """Its work would never be awaited, which Python warns of, and warnings are errors."""
    work: Coroutine[object, object, None] = forever()
    getattr(crew.tasks, start)("early", work)
    await crew.tasks.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        work.send(None)


async def test_work_done_once_may_end_or_crash_without_harm(crew: Crew) -> None:
    with capture_logs() as logs:
        crew.tasks.once("tidy", asyncio.sleep(0))
        crew.tasks.once("tell", Crashing(crew.clock)())
        await settle()
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task_died", "tell")]
    assert crew.crashes == [("tell", "OSError")]
    assert not crew.tasks.failed.done()

"""A house for the executor: a real ledger, a clock moved by hand, a target and detectors that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypeVar

from rollbackd.errors import Conflict
from rollbackd.ledger.base import Rollback, RollbackState
from rollbackd.ledger.sqlite.ledger import SqliteLedger
from rollbackd.model import Release, Verdict
from rollbackd.notify.base import Message
from rollbackd.rollback.executor import Executor, Limits
from rollbackd.rollback.verification import Verification
from rollbackd.targets.base import Readiness, RevertOrder, TargetChange
from tests.contract.ledgers import plan
from tests.support.announcing import announcing
from tests.support.clock import ManualClock, settle

T = TypeVar("T")


class Hang(Exception):
    """In a script: this call never comes back."""


class ScriptedLedger(SqliteLedger):
    """The real one, that can be told to fail, before or after it wrote, and knows whether it is at work."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.at_work = self.begun = 0
        self.broken: Exception | None = None
        self.forgets_to_say: list[Exception] = []

    async def step(
        self,
        rollback_id: str,
        state: RollbackState,
        detail: str,
        at: float,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> Rollback:
        self._begin()
        try:
            if self.broken is not None:
                raise self.broken
            written = await super().step(rollback_id, state, detail, at, messages)
            if self.forgets_to_say:
                raise self.forgets_to_say.pop(0)
            return written
        finally:
            self.at_work -= 1

    async def rollback(self, rollback_id: str) -> Rollback | None:
        self._begin()
        try:
            return await super().rollback(rollback_id)
        finally:
            self.at_work -= 1

    def _begin(self) -> None:
        self.at_work += 1
        self.begun += 1


class ScriptedTarget:
    """Keeps the contract of targets; `script` holds what the next calls of a method raise (None: nothing)."""

    def __init__(self, ledger: SqliteLedger, rollback_id: str) -> None:
        self._ledger, self._id = ledger, rollback_id
        self.version: str | None = "2.0"
        self.problems: tuple[str, ...] = ()
        self.is_settled = True
        self.script: dict[str, list[Exception | None]] = {}
        self.calls: list[str] = []
        self.journal_at_revert: list[RollbackState] = []
        self.switches = 0
        self.hung = 0
        self._spent: set[str] = set()

    async def _next(self, method: str) -> None:
        self.calls.append(method)
        fault = self.script[method].pop(0) if self.script.get(method) else None
        if isinstance(fault, Hang):
            self.hung += 1
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.hung -= 1
        if fault is not None:
            raise fault

    async def current(self) -> Release | None:
        await self._next("current")
        return None if self.version is None else Release(version=self.version)

    async def history(self) -> list[Release]:
        return [Release(version="2.0"), Release(version="1.0")]

    async def readiness(self, to: str) -> Readiness:
        await self._next("readiness")
        return Readiness(problems=self.problems)

    async def revert(self, order: RevertOrder) -> None:
        on_disk = await self._ledger.rollback(self._id)
        assert on_disk is not None
        self.journal_at_revert.append(on_disk.state)
        if order.key in self._spent and self.version != order.to:
            raise Conflict("something was deployed since")
        if self.version not in (order.to, order.expect):
            raise Conflict(f"{self.version} is in place")
        if order.key not in self._spent:
            self._spent.add(order.key)
            self.version = order.to
            self.switches += 1
        await self._next("revert")  # a fault here came after the switch

    async def settled(self, to: str) -> bool:
        await self._next("settled")
        return self.is_settled and self.version == to

    def changes(self) -> AsyncIterator[TargetChange]:
        raise NotImplementedError

    async def close(self) -> None:
        return


class ScriptedVerifier:
    """Says the same until told otherwise."""

    def __init__(self) -> None:
        self.says = Verification(verdict="healthy", summary="0.1 % of requests fail")
        self.crash: Exception | None = None
        self.begun_at: list[float] = []

    def begun(self, rollback: Rollback, at: float) -> None:
        self.begun_at.append(at)

    def verdict(self, rollback: Rollback) -> Verification:
        if self.crash is not None:
            raise self.crash
        return self.says

    def say(self, verdict: Verdict, summary: str = "as things stand") -> None:
        self.says = Verification(verdict=verdict, summary=summary)


class House:
    """One service with release 2.0 in place and the plan to go back to 1.0."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.ledger = ScriptedLedger(folder / "ledger.db")
        self.target = ScriptedTarget(self.ledger, plan().key)
        self.verifier = ScriptedVerifier()
        self.seen: list[RollbackState] = []
        self.limits = Limits(preflight=60, revert=600, settle=300, look_every=2)
        self.executor = self.new_executor()
        self._tasks: list[asyncio.Task[Rollback]] = []

    def new_executor(self) -> Executor:
        """As after a restart of the daemon."""
        return Executor(
            self.ledger,
            self.clock,
            self.limits,
            announcing(lambda: ["chat"]),
            lambda rollback: self.seen.append(rollback.state),
        )

    async def planned(self, *then: RollbackState) -> Rollback:
        """A rollback whose journal goes this far."""
        rollback, _ = await self.ledger.open_rollback(plan())
        for state in then:
            rollback = await SqliteLedger.step(self.ledger, rollback.id, state, f"was {state}", self.clock.now())
        return rollback

    def start(
        self, rollback: Rollback, *, verify_for: float = 10, verify_within: float = 100
    ) -> asyncio.Task[Rollback]:
        run = self.executor.run(
            rollback, self.target, self.verifier, verify_for=verify_for, verify_within=verify_within
        )
        task = asyncio.create_task(run)
        self._tasks.append(task)
        return task

    async def calm(self) -> None:
        """Until everybody waits for the clock: the ledger, whose threads end when they like, is and stays at rest."""
        while True:
            resting, begun = not self.ledger.at_work, self.ledger.begun
            await settle()
            if resting and begun == self.ledger.begun:
                return
            await asyncio.sleep(0.0005)

    async def pass_time(self, seconds: float, tick: float = 1.0) -> None:
        """Let time pass, in ticks, and everybody do what falls due."""
        await self.calm()
        for _ in range(round(seconds / tick)):
            await self.clock.advance(tick)
            await self.calm()

    async def finish(self, task: asyncio.Task[Rollback], within: float = 2000.0) -> Rollback:
        """Let time pass until the rollback has ended."""
        for _ in range(round(within)):
            await self.calm()
            if task.done():
                return task.result()
            await self.clock.advance(1.0)
        raise AssertionError(f"not ended after {within} s")

    async def journal(self) -> list[RollbackState]:
        rollback = await self.ledger.rollback(plan().key)
        assert rollback is not None
        return [step.state for step in rollback.steps]

    async def told(self) -> list[Message]:
        return [item.message for item in await self.ledger.outbox(self.clock.now())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.ledger.close()

"""A process that carries out one rollback on real release folders and a real ledger, and dies where it is told.

It reads orders from its input, one a line, runs each in a process of its own and answers with that one's exit code;
a fork costs a hundredth of what starting Python again would. The dying is here, around ledger and target, and
nowhere in what is tested.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import structlog

from rollbackd.aiokit import SystemClock
from rollbackd.ledger.base import Rollback
from rollbackd.model import Release, Verdict
from rollbackd.rollback.executor import Executor, Limits
from rollbackd.rollback.verification import Verification
from rollbackd.targets.base import Readiness, RevertOrder, Target, TargetChange, TargetContext
from rollbackd.targets.release_dir import ADAPTER
from tests.contract.ledgers import plan
from tests.support.announcing import announcing
from tests.support.mortal import MortalLedger, Reaper


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Carry out the rollback in this folder; die at `kill_at`, or (empty) live. `verdict`: what detectors find."""

    folder: str
    kill_at: str
    verdict: Verdict


class MortalTarget:
    """Dies just before and just after the target does something."""

    def __init__(self, target: Target, reaper: Reaper) -> None:
        self._target, self._reaper = target, reaper

    async def current(self) -> Release | None:
        self._reaper("before current")
        found = await self._target.current()
        self._reaper("after current")
        return found

    async def history(self) -> list[Release]:
        return await self._target.history()

    async def readiness(self, to: str) -> Readiness:
        self._reaper("before readiness")
        found = await self._target.readiness(to)
        self._reaper("after readiness")
        return found

    async def revert(self, order: RevertOrder) -> None:
        self._reaper("before revert")
        await self._target.revert(order)
        self._reaper("after revert")

    async def settled(self, to: str) -> bool:
        self._reaper("before settled")
        found = await self._target.settled(to)
        self._reaper("after settled")
        return found

    def changes(self) -> AsyncIterator[TargetChange]:
        return self._target.changes()

    async def close(self) -> None:
        await self._target.close()


class MortalVerifier:
    """Finds what it is told to, once it was told to begin."""

    def __init__(self, verdict: Verdict, reaper: Reaper) -> None:
        self._verdict, self._reaper = verdict, reaper
        self._begun = False

    def begun(self, rollback: Rollback, at: float) -> None:
        self._reaper("before begun")
        self._begun = True
        self._reaper("after begun")

    def verdict(self, rollback: Rollback) -> Verification:
        self._reaper("before verdict")
        return Verification(verdict=self._verdict if self._begun else "insufficient", summary="as ordered")


async def carry_out(order: Order) -> None:
    """What a daemon does at its start: go on with what is unfinished; then decide as before."""
    folder, clock, reaper = Path(order.folder), SystemClock(), Reaper(order.kill_at)
    ledger = MortalLedger(folder / "ledger.db", reaper)
    config = ADAPTER.config.model_validate(
        {"path": str(folder / "app"), "restart": ["/bin/sh", str(folder / "restart")]}
    )
    target = MortalTarget(
        ADAPTER.build(config, TargetContext(service="checkout", clock=clock, state_dir=folder / "state")), reaper
    )
    limits = Limits(preflight=10, revert=10, settle=10, look_every=0.01)
    executor = Executor(ledger, clock, limits, announcing(lambda: ["chat"]))

    async def run(rollback: Rollback) -> None:
        verifier = MortalVerifier(order.verdict, reaper)
        await executor.run(rollback, target, verifier, verify_for=0.02, verify_within=10)

    await ledger.open()
    for rollback in await ledger.unfinished():
        await run(rollback)
    rollback, new = await ledger.open_rollback(plan())
    if new:
        await run(rollback)
    await target.close()
    await ledger.close()


def in_a_process_of_its_own(order: Order) -> int:
    """The exit code; minus nine for one that was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        Path(order.folder, "pid").write_text(str(os.getpid()))
        asyncio.run(carry_out(order))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for line in sys.stdin:
        print(in_a_process_of_its_own(msgspec.json.decode(line, type=Order)), flush=True)


if __name__ == "__main__":
    main()

"""Carries out rollbacks: a journaled state machine that can be killed anywhere and goes on where it was.

    planned -> preflight -> reverting -> reverted -> verifying -> verified
                  └────────────┴───────────┴────────────┴──> failed -> escalated

A state is journaled before its work is done. So after a crash the work of the newest state is done again, which is
harmless for each of them: looking is, and a revert is idempotent by its key.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TypeAlias, TypeVar

import structlog

from rollbackd.aiokit import Clock, RetryPolicy, retry
from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.fields import Duration, Model
from rollbackd.ledger.base import FINAL_STATES, Ledger, Rollback, RollbackState
from rollbackd.rollback.journal import Journal, MessagesFor
from rollbackd.rollback.preflight import objections
from rollbackd.rollback.timing import TimedOut, within
from rollbackd.rollback.verification import Trial, Verification, Verifier, in_words
from rollbackd.targets.base import RevertOrder, Target

T = TypeVar("T")
Next: TypeAlias = tuple[RollbackState, str]
"""The step that follows, and its detail."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.rollback")


class Limits(Model):
    """How long the phases of a rollback may take, each counted anew after a restart of the daemon."""

    preflight: Duration = 60.0
    """Asking the target whether a revert would work."""
    revert: Duration = 600.0
    """Until the target accepted the revert, trying again included."""
    settle: Duration = 600.0
    """From there until nothing of the old release runs any more."""
    look_every: Duration = 1.0
    """How often the target, then the verdict, is looked at while waiting."""


class Executor:
    """Runs rollbacks, any number side by side.

    `messages_for` says whom to tell what of a step; the messages are journaled with it. `on_step` is called with the
    rollback after each step that is on disk.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        limits: Limits,
        messages_for: MessagesFor = lambda _rollback, _state, _detail, _at: (),
        on_step: Callable[[Rollback], None] = lambda _rollback: None,
    ) -> None:
        self._clock, self._limits = clock, limits
        self._journal = Journal(ledger, clock, messages_for, on_step)
        self._running: set[str] = set()

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps rollbacks from going on right now, a sentence each; empty when nothing does."""
        return tuple(self._journal.problems.values())

    async def run(
        self, rollback: Rollback, target: Target, verifier: Verifier, *, verify_for: float, verify_within: float
    ) -> Rollback:
        """Take a rollback from whatever state it is in to a final one, and return it so.

        Verified once healthy for `verify_for` seconds; escalated once that cannot be said after `verify_within`.
        Everything that goes wrong ends in the journal. Raises Permanent only for a ledger that can never be written
        again, and for a rollback that is being run already. Cancelling leaves a journal to go on from.
        """
        if rollback.id in self._running:
            raise Permanent(f"rollback {rollback.id} is being carried out already")
        course = _Course(self._clock, self._limits, target, verifier, verify_for, verify_within)
        self._running.add(rollback.id)
        try:
            while rollback.state not in FINAL_STATES:
                state, detail = await course.work(rollback)
                rollback = await self._journal.step(rollback, state, detail)
        finally:
            self._running.discard(rollback.id)
        return rollback


class _Course:
    """The work of each state of one rollback, on one target."""

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        target: Target,
        verifier: Verifier,
        verify_for: float,
        verify_within: float,
    ) -> None:
        self._clock, self._limits, self._target, self._verifier = clock, limits, target, verifier
        self._verify_for, self._verify_within = verify_for, verify_within
        self._verdict_failed = False

    async def work(self, rollback: Rollback) -> Next:
        """Do what the rollback's state stands for; which step that leads to."""
        to = rollback.plan.to
        try:
            match rollback.state:
                case "planned":
                    return "preflight", f"asking the target whether it can go back to {to}"
                case "preflight":
                    return await self._preflight(rollback)
                case "reverting":
                    return await self._revert(rollback)
                case "reverted":
                    return await self._settle(rollback)
                case "verifying":
                    return await self._verify(rollback)
                case _:  # failed
                    return "escalated", rollback.steps[-1].detail
        except RollbackdError as error:
            return "failed", f"{rollback.state}: {error}"
        except Exception as error:
            log.exception("rollback_crashed", rollback=rollback.id, service=rollback.plan.service)
            return "failed", f"{rollback.state}: unexpected {type(error).__name__}, see the log"

    async def _preflight(self, rollback: Rollback) -> Next:
        plan = rollback.plan
        against = await self._insist(
            "the target's answer", self._limits.preflight, lambda: objections(self._target, plan)
        )
        return ("failed", against) if against else ("reverting", f"putting {plan.to} in the place of {plan.version}")

    async def _revert(self, rollback: Rollback) -> Next:
        plan = rollback.plan
        order = RevertOrder(to=plan.to, expect=plan.version, key=plan.key, reason=plan.reason)
        await self._insist(f"the revert to {plan.to}", self._limits.revert, lambda: self._target.revert(order))
        return "reverted", f"the target accepted {plan.to}; waiting until it is fully in place"

    async def _settle(self, rollback: Rollback) -> Next:
        self._begin(rollback)
        to = rollback.plan.to
        trouble = ""

        async def settled() -> None:
            nonlocal trouble
            while True:
                try:
                    if await self._target.settled(to):
                        return
                    trouble = ""
                except Temporary as error:
                    trouble = f": {error}"
                await self._clock.sleep(self._limits.look_every)

        try:
            await within(self._clock, self._limits.settle, f"putting {to} fully in place", settled)
        except TimedOut as error:
            raise TimedOut(f"{error}{trouble}") from None
        return "verifying", f"{to} is fully in place; asking the detectors whether that helped"

    async def _verify(self, rollback: Rollback) -> Next:
        self._begin(rollback)
        trial = Trial(self._clock.monotonic(), self._verify_for, self._verify_within)
        while True:
            seen = self._look(rollback)
            finding = trial.finding(self._clock.monotonic(), seen.verdict)
            if finding is not None:
                break
            await self._clock.sleep(self._limits.look_every)
        detail = in_words(finding, seen, rollback, self._verify_for)
        if finding != "helped":
            return "failed", detail
        current = await self._insist("the target's answer", self._limits.preflight, self._target.current)
        if current is None or current.version != rollback.plan.to:
            now = "nothing" if current is None else current.version
            return "failed", f"{now} is in place, not {rollback.plan.to}: someone else changed the target meanwhile"
        return "verified", detail

    def _begin(self, rollback: Rollback) -> None:
        accepted = next(step.at for step in rollback.steps if step.state == "reverted")
        self._verifier.begun(rollback, accepted)

    def _look(self, rollback: Rollback) -> Verification:
        try:
            return self._verifier.verdict(rollback)
        except Exception as error:
            if not self._verdict_failed:
                log.exception("verdict_failed", rollback=rollback.id, service=rollback.plan.service)
            self._verdict_failed = True
            return Verification(verdict="insufficient", summary=f"the detectors failed: {type(error).__name__}")

    async def _insist(self, what: str, seconds: float, call: Callable[[], Coroutine[object, object, T]]) -> T:
        """Call until it succeeds, for as long as Temporary trouble allows within so many seconds."""
        last: Temporary | None = None

        def note(error: Temporary, wait: float) -> None:
            nonlocal last
            last = error
            log.warning("target_trouble", doing=what, error=str(error), retry_in_s=round(wait, 1))

        async def persistently() -> T:
            return await retry(call, RetryPolicy(longest_wait=15.0, within=seconds), self._clock, note)

        try:
            return await within(self._clock, seconds, what, persistently)
        except TimedOut as error:
            raise TimedOut(f"{error}: {last}" if last else str(error)) from None
        except Temporary as error:
            raise Permanent(f"{what} did not come within {seconds:g} s: {error}") from error

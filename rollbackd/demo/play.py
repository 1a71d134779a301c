"""The play itself: a good release bakes, a new one comes, the daemon does what it does, and the outcome is judged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from rollbackd.demo.processes import Child, DemoFailed
from rollbackd.demo.report import Audience, Report, Timeline
from rollbackd.demo.stage import GOOD, NEW, SERVICE, Fault, On, Stage, build
from rollbackd.demo.tether import tethered
from rollbackd.demo.traffic import Tally, Traffic
from rollbackd.demo.watching import Daemon
from rollbackd.web.views import DecisionView, RollbackView, ServiceView

RATE = 80.0
"""Requests a second."""
HARMLESS: frozenset[Fault] = frozenset({"logs", "none"})
"""Faults that no user feels: where a request is slow all the same, that is the machine, and no moment to tell of."""
LOOK_EVERY_S = 0.15
GOOD_WITHIN_S = 25.0
RESTART_WITHIN_S = 20.0
DONE_WITHIN_S = 27.0

FAULTS: dict[Fault, str] = {
    "errors": "one request in five fails",
    "latency": "requests take three times as long",
    "crash": "the process dies 1.5 s after each start",
    "logs": "requests work, but the log fills with an error never seen before",
    "none": "it carries no fault",
}


async def play(
    fault: Fault,
    folder: Path,
    record: Path | None,
    audience: Audience,
    *,
    passing: bool = False,
    on: On = "release_dir",
) -> Report:
    """Perform it in an empty folder, and end all that was started. What went wrong is in the report.

    Killed without warning, it leaves no process behind either, nor the folder if that is only a `passing` one.
    """
    timeline = Timeline(audience)
    stage = build(folder, fault, record, on)
    traffic = Traffic(f"{stage.shop_url}/order", RATE)
    scene = _Scene(fault, stage, timeline, traffic, audience)
    problem: str | None = None
    try:
        async with _actors(stage, traffic, folder if passing else None) as (children, daemon):
            problem = await scene.perform(children, daemon)
    except DemoFailed as error:
        problem = str(error)
    if problem is not None:
        timeline.add("failed", time.time(), problem.splitlines()[0].rstrip(":"))
    return scene.report(problem)


@contextlib.asynccontextmanager
async def _actors(
    stage: Stage, traffic: Traffic, remove: Path | None
) -> AsyncIterator[tuple[tuple[Child, ...], Daemon]]:
    """The service manager with the shop, the daemon and the users; all have ended when the block has."""
    manager = Child("the shop's service manager", stage.keep, stage.folder / "manager.log")
    process = Child("rollbackd", tethered(stage.daemon, remove), stage.folder / "rollbackd.log")
    async with manager, process, Daemon(stage.daemon_url, SERVICE) as daemon:
        users = asyncio.create_task(traffic.run())
        try:
            yield (manager, process), daemon
        finally:
            users.cancel()
            await asyncio.wait([users])
    if not users.cancelled() and (error := users.exception()) is not None:
        raise error


class _Scene:
    """One performance."""

    def __init__(self, fault: Fault, stage: Stage, timeline: Timeline, traffic: Traffic, audience: Audience) -> None:
        self._fault, self._stage, self._timeline = fault, stage, timeline
        self._traffic, self._audience = traffic, audience
        self._decision: DecisionView | None = None
        self._rollback: RollbackView | None = None

    async def perform(self, children: tuple[Child, ...], daemon: Daemon) -> str | None:
        """From the first start to the end; what was not as it must be, or None. Raises DemoFailed."""
        await self._first_release(children, daemon)
        await self._deploy()
        return await self._outcome(children, daemon)

    async def _first_release(self, children: tuple[Child, ...], daemon: Daemon) -> None:
        deadline = time.monotonic() + GOOD_WITHIN_S
        while time.monotonic() < deadline:
            service = await self._look(children, daemon, f"{GOOD} bakes")
            if service is not None and service.current == GOOD and self._traffic.tally.total > 0:
                self._timeline.add("started", time.time(), f"{GOOD} gets {RATE:.0f} requests a second, and is watched")
            if self._traffic.knows_enough and await daemon.found_good(GOOD):
                self._timeline.add("good", time.time(), f"{GOOD} is what to go back to from now on")
                return
            await asyncio.sleep(LOOK_EVERY_S)
        logs = "\n".join(f"{child.name} said:\n{child.tail()}" for child in children)
        raise DemoFailed(f"{GOOD} did not finish its bake within {GOOD_WITHIN_S:.0f} s\n{logs}")

    async def _deploy(self) -> None:
        """What a deploy script does: switch the link, restart the service."""
        self._traffic.learn_usual()
        deployed_at = time.time()
        self._stage.switch_to(NEW)
        restart = await asyncio.create_subprocess_exec(
            *self._stage.restart, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            said, _ = await asyncio.wait_for(restart.communicate(), RESTART_WITHIN_S)
        finally:
            if restart.returncode is None:
                restart.kill()
                await restart.wait()
        if restart.returncode != 0:
            raise DemoFailed(f"{NEW} could not be started: {said.decode(errors='replace').strip()}")
        self._timeline.deployed_at = deployed_at
        self._timeline.add("deployed", deployed_at, f"{NEW}, and {FAULTS[self._fault]}")

    async def _outcome(self, children: tuple[Child, ...], daemon: Daemon) -> str | None:
        deadline = time.monotonic() + DONE_WITHIN_S
        while time.monotonic() < deadline:
            await self._learn(daemon)
            await self._look(children, daemon, self._phase())
            if self._rollback is not None and self._rollback.state in ("verified", "escalated"):
                return await self._judge_rollback(self._rollback)
            if await daemon.found_good(NEW):
                self._timeline.add("accepted", time.time(), f"{NEW} finished its bake good, and stays")
                return None if self._fault == "none" else f"{NEW} was accepted, although {FAULTS[self._fault]}"
            await asyncio.sleep(LOOK_EVERY_S)
        logs = "\n".join(f"{child.name} said:\n{child.tail()}" for child in children)
        return f"nothing was concluded within {DONE_WITHIN_S:.0f} s\n{logs}"

    async def _learn(self, daemon: Daemon) -> None:
        """Tell what is new since the last look."""
        tally = self._traffic.tally
        if tally.first_harmed is not None and self._fault not in HARMLESS:
            self._timeline.add(
                "first_bad_request", tally.first_harmed, "it failed, or took more than twice as long as usual"
            )
        if self._decision is None:
            found = [view for view in await daemon.decisions() if view.decision.version == NEW]
            for view in reversed(found):
                if view.decision.action == "rollback":
                    self._decision = view
                    self._timeline.add("detected", view.decision.t, view.decision.reason)
                    break
                self._timeline.add("held", view.decision.t, f"{view.decision.action}: {view.decision.reason}")
        if self._decision is not None:
            self._rollback = next((view for view in await daemon.rollbacks() if view.version == NEW), None)
        for step in self._rollback.steps if self._rollback is not None else ():
            if step.state == "reverted":
                self._timeline.add("reverted", step.at, f"{GOOD} serves again")
            elif step.state == "verified":
                self._timeline.add("verified", step.at, step.detail or "the service is back at its baseline")

    def _phase(self) -> str:
        if self._rollback is None:
            return f"{NEW} is watched"
        return f"rollback to {self._rollback.to}: {self._rollback.state}"

    async def _look(self, children: tuple[Child, ...], daemon: Daemon, phase: str) -> ServiceView | None:
        for child in children:
            child.check()
        service = await daemon.service()
        self._audience.progress(phase, service, self._traffic.tally)
        return service

    async def _judge_rollback(self, rollback: RollbackView) -> str | None:
        if self._fault == "none":
            return f"{NEW} was rolled back, although it carries no fault: {rollback.reason}"
        if rollback.state != "verified":
            return f"the rollback ended {rollback.state}: {rollback.steps[-1].detail if rollback.steps else ''}"
        current = await asyncio.to_thread(self._stage.current)
        if rollback.to != GOOD or current != GOOD:
            return f"{current} is in place and not {GOOD}"
        return None

    def report(self, problem: str | None) -> Report:
        """How it went."""
        tally: Tally = self._traffic.tally
        began = self._timeline.deployed_at is not None
        return Report(
            fault=self._fault,
            ok=problem is None,
            problem=problem,
            first_bad_s=self._timeline.since("first_bad_request"),
            detected_s=self._timeline.since("detected"),
            reverted_s=self._timeline.since("reverted"),
            verified_s=self._timeline.since("verified"),
            accepted_s=self._timeline.since("accepted"),
            total_requests=tally.total if began else 0,
            failed_requests=tally.failed if began else 0,
            slow_requests=tally.slow if began else 0,
            harmed_requests=tally.harmed if began else 0,
            decision_id=self._decision.id if self._decision is not None else None,
            decision=self._decision.decision if self._decision is not None else None,
            timeline=self._timeline.moments,
        )

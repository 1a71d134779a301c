"""A pipeline, a place and rollbacks around a real engine and a real ledger, without sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from prometheus_client import CollectorRegistry

from rollbackd.aiokit import Tasks
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.engine import Engine
from rollbackd.errors import Temporary
from rollbackd.ledger.base import ConfigStamp, Mode, Rollback, RollbackPlan, Snapshot, StoredDecision
from rollbackd.ledger.sqlite.ledger import SqliteLedger
from rollbackd.live.pipeline import Pipeline
from rollbackd.model import DeploymentEvent, WatchChange
from rollbackd.notify.base import Message
from rollbackd.recording import Recorder
from rollbackd.telemetry import Metrics
from tests.support.clock import ManualClock


class FullDisk(SqliteLedger):
    """The real ledger on a disk that is `full` when the test says so."""

    full = False
    writes = 0
    """How often the engine's state was written."""

    async def open_rollback(self, plan: RollbackPlan) -> tuple[Rollback, bool]:
        if self.full:
            raise Temporary("the disk is full")
        return await super().open_rollback(plan)

    async def record(
        self,
        decisions: Sequence[StoredDecision],
        changes: Sequence[WatchChange],
        snapshot: Snapshot,
        messages: Sequence[tuple[str, Message]] = (),
    ) -> None:
        if self.full:
            raise Temporary("the disk is full")
        self.writes += 1
        await super().record(decisions, changes, snapshot, messages)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        if self.full:
            raise Temporary("the disk is full")
        self.writes += 1
        await super().save_snapshot(snapshot)


class House:
    """The road from events to the ledger; `acted` holds what was to be acted upon."""

    def __init__(
        self,
        home: Path,
        *,
        clock: ManualClock | None = None,
        recorder: Recorder | None = None,
        configured: Callable[[str], bool] = lambda _service: True,
    ) -> None:
        self.clock, self.mode, self.stamp = clock or ManualClock(), "act", ConfigStamp(sha256="first")
        self.ledger = FullDisk(home / "ledger.db")
        policy = Policy(cooldown=0.0)
        self.engine = Engine(lambda _service: policy, FleetPolicy())
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.acted: list[StoredDecision] = []
        self._recorder, self._configured = recorder, configured

    def _mode(self, _service: str) -> Mode:
        return "shadow" if self.mode == "shadow" else "act"

    async def _act(self, decisions: Sequence[StoredDecision], _changes: Sequence[WatchChange]) -> None:
        self.acted.extend(decisions)

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        await self.ledger.open()
        self._stack.push_async_callback(self.ledger.close)
        self.tasks = Tasks(self.clock)
        self._stack.push_async_callback(self.tasks.close)
        self.pipeline = Pipeline(
            self.engine,
            self.ledger,
            self.clock,
            self.tasks,
            self.metrics,
            recorder=self._recorder,
            stamp=lambda: self.stamp,
            mode_for=self._mode,
            told=lambda _decisions, _changes: (),
            act=self._act,
            configured=self._configured,
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    def deployed(self, version: str, previous: str | None = None, service: str = "shop") -> DeploymentEvent:
        """A deployment at this moment."""
        return DeploymentEvent(
            t=self.clock.now(), service=service, version=version, previous=previous, phase="finished"
        )

    def sample(self, name: str) -> float | None:
        """A metric without labels."""
        return self.registry.get_sample_value(name)

"""Killed with SIGKILL anywhere, started again: the rollback ends once, and right.

Real processes, real release folders behind a real link, a real restart command, a real ledger.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from rollbackd.ledger.base import Rollback, RollbackState
from rollbackd.ledger.sqlite.ledger import SqliteLedger
from rollbackd.model import Verdict
from rollbackd.rollback.states import legal_journal
from tests.support.rollback_program import Order

ROOT = Path(__file__).parents[2]

RESTART = """#!/bin/sh
# can take the daemon with it into death, once, before or after the work
die_if() { if [ -e "$1" ]; then rm "$1"; kill -9 "$(cat pid)" $$; fi; }
cd "$(dirname "$0")"
die_if "restart begins"
echo "$ROLLBACKD_KEY $(readlink app/current)" >> restarted
die_if "restart ends"
"""

JOURNALED: list[RollbackState] = ["planned", "preflight", "reverting", "reverted", "verifying", "verified"]
SIDE_EFFECTS = ["current", "readiness", "revert", "settled", "begun"]
ON_THE_GOOD_ROAD = [
    *(f"{when} {state}" for state in JOURNALED for when in ("before", "after")),
    *(f"{when} {effect}" for effect in SIDE_EFFECTS for when in ("before", "after")),
    "before verdict",
    "restart begins",
    "restart ends",
]
AT_THE_BAD_END = [f"{when} {state}" for state in ("failed", "escalated") for when in ("before", "after")]


class Site:
    """One machine: release 2.0 in place, 1.0 beside it, and a daemon that can be started."""

    def __init__(self, folder: Path, program: subprocess.Popen[str]) -> None:
        self.folder, self._program = folder, program
        self._link = folder / "app" / "current"
        for version in ("1.0", "2.0"):
            (folder / "app" / "releases" / version).mkdir(parents=True)
            (folder / "app" / "releases" / version / "program").write_text(version)
        self._link.symlink_to("releases/2.0")
        (folder / "restart").write_text(RESTART)

    def start(self, kill_at: str = "", verdict: Verdict = "healthy") -> int:
        """Run the daemon until it ends or dies; its exit code."""
        if kill_at.startswith("restart"):
            (self.folder / kill_at).touch()
        order = Order(folder=str(self.folder), kill_at=kill_at, verdict=verdict)
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline())

    @property
    def in_place(self) -> str:
        return self._link.readlink().name

    @property
    def link_made(self) -> tuple[int, int]:
        """Tells this very link from one that was made anew."""
        seen = self._link.lstat()
        return seen.st_ino, seen.st_ctime_ns

    @property
    def restarts(self) -> list[str]:
        record = self.folder / "restarted"
        return [line.split()[1] for line in record.read_text().splitlines()] if record.exists() else []

    async def ended(self) -> tuple[Rollback, list[str]]:
        """The one rollback in the ledger, and what people are to be told, in order."""
        ledger = SqliteLedger(self.folder / "ledger.db")
        await ledger.open()
        try:
            (rollback,) = await ledger.rollbacks()
            assert await ledger.unfinished() == []
            return rollback, [item.message.key.rpartition(":")[2] for item in await ledger.outbox(1e12)]
        finally:
            await ledger.close()


@pytest.fixture(scope="module")
def program() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.rollback_program"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def site(tmp_path: Path, program: subprocess.Popen[str]) -> Site:
    return Site(tmp_path, program)


def states(rollback: Rollback) -> list[RollbackState]:
    assert legal_journal(rollback.steps)
    return [step.state for step in rollback.steps]


def test_no_state_is_left_out_here() -> None:
    assert {*JOURNALED, "failed", "escalated"} == set(get_args(RollbackState))


async def test_left_alone_it_reverts_restarts_once_and_verifies(site: Site) -> None:
    assert site.start() == 0
    rollback, told = await site.ended()
    assert states(rollback) == JOURNALED
    assert (site.in_place, site.restarts, told) == ("1.0", ["releases/1.0"], ["reverting", "verified"])


@pytest.mark.parametrize("kill_at", ON_THE_GOOD_ROAD)
async def test_killed_on_the_way_it_ends_once_and_right(site: Site, kill_at: str) -> None:
    assert site.start(kill_at) == -signal.SIGKILL
    switched = site.link_made if site.in_place == "1.0" else None
    assert site.start() == 0
    rollback, told = await site.ended()
    assert states(rollback) == JOURNALED
    assert site.in_place == "1.0"
    assert switched in (None, site.link_made), "what was switched is not switched again"
    # only a restart that was done, but could not be remembered, is done again
    assert site.restarts == ["releases/1.0"] * (2 if kill_at == "restart ends" else 1)
    assert told == ["reverting", "verified"]
    before = site.link_made, site.restarts
    assert site.start() == 0
    assert (site.link_made, site.restarts) == before, "and it stays ended"


@pytest.mark.parametrize("kill_at", ["before reverting", "before revert", "restart begins", "before settled"])
async def test_killed_again_and_again_at_one_place_it_still_ends_right(site: Site, kill_at: str) -> None:
    for _ in range(3):
        assert site.start(kill_at) == -signal.SIGKILL
    assert site.start() == 0
    rollback, told = await site.ended()
    assert states(rollback) == JOURNALED
    assert (site.in_place, site.restarts, told) == ("1.0", ["releases/1.0"], ["reverting", "verified"])


async def test_killed_at_every_place_in_turn_it_still_ends_right(site: Site) -> None:
    """One rollback that takes a daemon for each point of its way."""
    order = [
        *("before planned", "after planned", "before preflight", "after preflight", "before current", "after current"),
        *("before readiness", "after readiness", "before reverting", "after reverting", "before revert"),
        *("restart begins", "after revert", "before reverted", "after reverted", "before begun", "after begun"),
        *("before settled", "after settled", "before verifying", "after verifying", "before verdict"),
        *("before verified", "after verified"),
    ]
    assert {*order, "restart ends"} == set(ON_THE_GOOD_ROAD)
    assert [site.start(kill_at) for kill_at in order] == [-signal.SIGKILL] * len(order)
    assert site.start() == 0
    rollback, told = await site.ended()
    assert states(rollback) == JOURNALED
    assert (site.in_place, site.restarts, told) == ("1.0", ["releases/1.0"], ["reverting", "verified"])


@pytest.mark.parametrize("kill_at", AT_THE_BAD_END)
async def test_killed_while_giving_up_before_the_revert_it_tells_people_once(site: Site, kill_at: str) -> None:
    (site.folder / "app" / "releases" / "1.0" / "program").unlink()
    assert site.start(kill_at) == -signal.SIGKILL
    assert site.start() == 0
    rollback, told = await site.ended()
    assert states(rollback) == ["planned", "preflight", "failed", "escalated"]
    assert "not ready to go back to 1.0" in rollback.steps[-1].detail
    assert (site.in_place, site.restarts, told) == ("2.0", [], ["escalated"])


@pytest.mark.parametrize("kill_at", AT_THE_BAD_END)
async def test_killed_while_reporting_that_it_did_not_help_it_does_not_repeat_it(site: Site, kill_at: str) -> None:
    assert site.start(kill_at, "degraded") == -signal.SIGKILL
    switched = site.link_made
    assert site.start("", "degraded") == 0
    rollback, told = await site.ended()
    assert states(rollback) == [*JOURNALED[:-1], "failed", "escalated"]
    assert "did not help" in rollback.steps[-1].detail
    assert (site.in_place, site.link_made, site.restarts) == ("1.0", switched, ["releases/1.0"])
    assert told == ["reverting", "escalated"]


async def test_what_was_deployed_while_the_daemon_was_dead_is_left_alone(site: Site) -> None:
    """Killed between journal and revert; a person deploys 2.1; the daemon that comes back must not undo that."""
    assert site.start("after reverting") == -signal.SIGKILL
    (site.folder / "app" / "releases" / "2.1").mkdir()
    link = site.folder / "app" / "current"
    link.unlink()
    link.symlink_to("releases/2.1")
    assert site.start() == 0
    rollback, told = await site.ended()
    assert states(rollback) == ["planned", "preflight", "reverting", "failed", "escalated"]
    assert (site.in_place, site.restarts, told) == ("2.1", [], ["reverting", "escalated"])

"""What the executor does with a target that works, one that does not, and one that somebody else changed."""

from __future__ import annotations

import asyncio

import pytest

from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.ledger.base import Rollback, RollbackState
from rollbackd.rollback.states import legal_journal
from tests.contract.ledgers import plan
from tests.unit.rollback.house import Hang, House

GOOD_ROAD: list[RollbackState] = ["planned", "preflight", "reverting", "reverted", "verifying", "verified"]


def road(rollback: Rollback) -> list[RollbackState]:
    assert legal_journal(rollback.steps)
    return [step.state for step in rollback.steps]


def detail(rollback: Rollback) -> str:
    return rollback.steps[-1].detail


async def test_a_bad_release_is_reverted_and_the_good_one_verified(house: House) -> None:
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == GOOD_ROAD == await house.journal()
    assert house.seen == GOOD_ROAD[1:]
    assert (house.target.version, house.target.switches) == ("1.0", 1)
    assert detail(rollback) == "1.0 has been healthy for 10 s: 0.1 % of requests fail"
    assert rollback.steps[-1].at - rollback.steps[-2].at == 10
    assert not house.executor.problems


async def test_the_intention_is_on_disk_before_the_target_is_touched(house: House) -> None:
    await house.finish(house.start(await house.planned()))
    assert house.target.journal_at_revert == ["reverting"]


async def test_people_are_told_of_the_start_and_of_the_end(house: House) -> None:
    await house.finish(house.start(await house.planned()))
    assert [(one.severity, one.title) for one in await house.told()] == [
        ("warning", "checkout: 2.0 is being rolled back to 1.0"),
        ("info", "checkout: rolled back to 1.0, and the service is well again"),
    ]


async def test_an_ended_rollback_is_left_alone(house: House) -> None:
    ended = await house.planned("preflight", "failed", "escalated")
    assert await house.finish(house.start(ended)) == ended
    assert house.target.calls == []


async def test_a_rollback_is_run_once_at_a_time(house: House) -> None:
    house.target.is_settled = False
    rollback = await house.planned()
    house.start(rollback)
    await house.pass_time(3)
    with pytest.raises(Permanent, match="already"):
        await house.start(rollback)


# -- preflight


@pytest.mark.parametrize(
    ("in_place", "said"),
    [
        ("2.1", "2.1 is in place, not 2.0: the target was changed by someone else since"),
        ("1.0", "1.0 is in place already: the target was changed by someone else"),
        (None, "nothing is deployed any more, 2.0 was expected: the target was changed by someone else"),
    ],
)
async def test_what_someone_else_changed_is_not_reverted(house: House, in_place: str | None, said: str) -> None:
    house.target.version = in_place
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == ["planned", "preflight", "failed", "escalated"]
    assert detail(rollback) == said
    assert "revert" not in house.target.calls
    assert house.target.version == in_place
    (message,) = await house.told()
    assert (message.severity, message.title) == ("critical", "checkout: the rollback to 1.0 needs somebody")
    assert said in message.text


async def test_a_target_that_is_not_ready_is_not_reverted(house: House) -> None:
    house.target.problems = ("release 1.0 is gone from the disk", "the link is not ours")
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == ["planned", "preflight", "failed", "escalated"]
    assert detail(rollback) == "not ready to go back to 1.0: release 1.0 is gone from the disk; the link is not ours"
    assert house.target.switches == 0


async def test_a_target_that_stumbles_is_asked_again(house: House) -> None:
    house.target.script["current"] = [Temporary("refused"), Temporary("refused")]
    house.target.script["readiness"] = [Temporary("busy")]
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == GOOD_ROAD


async def test_a_target_that_cannot_be_asked_is_not_reverted(house: House) -> None:
    """For a minute it is tried; a fault that trying again cannot cure ends it at once."""
    house.target.script["current"] = [Temporary("connection refused")] * 100
    task = house.start(await house.planned())
    rollback = await house.finish(task)
    assert road(rollback) == ["planned", "preflight", "failed", "escalated"]
    assert "connection refused" in detail(rollback)
    assert "60 s" in detail(rollback)
    assert 20 < rollback.steps[-1].at - rollback.steps[1].at <= 61
    assert house.target.switches == 0


async def test_a_target_that_never_answers_is_given_up(house: House) -> None:
    house.target.script["readiness"] = [Temporary("busy"), Hang()]
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == ["planned", "preflight", "failed", "escalated"]
    assert detail(rollback) == "preflight: the target's answer took longer than 60 s: busy"
    assert rollback.steps[-1].at - rollback.steps[1].at == 60
    assert house.target.hung == 0, "what hung was ended"


# -- revert


async def test_a_revert_that_stumbles_is_ordered_again_by_the_same_key(house: House) -> None:
    house.target.script["revert"] = [Temporary("lost the connection"), Temporary("again")]
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == GOOD_ROAD
    assert house.target.calls.count("revert") == 3
    assert house.target.switches == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Conflict("2.1 was deployed since"), "reverting: 2.1 was deployed since"),
        (Permanent("may not write /srv"), "reverting: may not write /srv"),
        (KeyError("secret"), "reverting: unexpected KeyError, see the log"),
    ],
)
async def test_a_fault_that_stays_is_escalated_and_not_retried(house: House, fault: Exception, said: str) -> None:
    house.target.script["revert"] = [fault]
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == ["planned", "preflight", "reverting", "failed", "escalated"]
    assert detail(rollback) == said
    assert house.target.calls.count("revert") == 1


async def test_a_revert_that_hangs_is_given_up(house: House) -> None:
    house.target.script["revert"] = [Hang()]
    rollback = await house.finish(house.start(await house.planned()))
    assert detail(rollback) == "reverting: the revert to 1.0 took longer than 600 s"
    assert rollback.steps[-1].at - rollback.steps[2].at == 600
    assert house.target.hung == 0


# -- settling


async def test_nothing_is_judged_before_the_release_is_fully_in_place(house: House) -> None:
    house.target.is_settled = False
    house.target.script["settled"] = [None, Temporary("busy"), None]
    task = house.start(await house.planned())
    await house.pass_time(120)
    assert await house.journal() == GOOD_ROAD[:4]
    house.target.is_settled = True
    assert road(await house.finish(task)) == GOOD_ROAD


@pytest.mark.parametrize(("trouble", "said"), [(None, ""), (Temporary("busy"), ": busy")])
async def test_a_release_that_never_settles_is_escalated(house: House, trouble: Temporary | None, said: str) -> None:
    house.target.is_settled = False
    house.target.script["settled"] = [trouble] * 1000
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == ["planned", "preflight", "reverting", "reverted", "failed", "escalated"]
    assert detail(rollback) == f"reverted: putting 1.0 fully in place took longer than 300 s{said}"


# -- verification


async def test_a_rollback_that_did_not_help_is_escalated_not_repeated(house: House) -> None:
    house.verifier.say("degraded", "11 % of requests fail")
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == [*GOOD_ROAD[:-1], "failed", "escalated"]
    assert detail(rollback) == "the rollback of 2.0 did not help, 1.0 is degraded as well: 11 % of requests fail"
    assert house.target.switches == 1
    assert (await house.told())[-1].severity == "critical"


async def test_no_data_is_neither_proof_nor_failure(house: House) -> None:
    house.verifier.say("insufficient", "no requests since")
    task = house.start(await house.planned())
    await house.pass_time(95)
    assert await house.journal() == GOOD_ROAD[:-1]
    rollback = await house.finish(task)
    assert road(rollback) == [*GOOD_ROAD[:-1], "failed", "escalated"]
    assert "could not be proven in time: no requests since" in detail(rollback)
    assert 100 <= rollback.steps[-1].at - rollback.steps[4].at <= 102


async def test_what_happens_while_the_release_settles_is_judged_too(house: House) -> None:
    house.target.is_settled = False
    house.start(await house.planned())
    await house.pass_time(5)
    rollback = await house.ledger.rollback(plan().key)
    assert rollback is not None
    assert (rollback.state, house.verifier.begun_at) == ("reverted", [rollback.updated_at])


async def test_data_that_comes_late_still_proves(house: House) -> None:
    house.verifier.say("insufficient")
    task = house.start(await house.planned())
    await house.pass_time(60)
    house.verifier.say("healthy")
    assert road(await house.finish(task)) == GOOD_ROAD


async def test_detectors_that_crash_prove_nothing(house: House) -> None:
    house.verifier.crash = ZeroDivisionError()
    rollback = await house.finish(house.start(await house.planned()))
    assert "could not be proven in time: the detectors failed: ZeroDivisionError" in detail(rollback)


async def test_what_was_deployed_during_verification_is_not_called_a_success(house: House) -> None:
    task = house.start(await house.planned())
    await house.pass_time(5)
    house.target.version = "2.1"
    rollback = await house.finish(task)
    assert road(rollback) == [*GOOD_ROAD[:-1], "failed", "escalated"]
    assert detail(rollback) == "2.1 is in place, not 1.0: someone else changed the target meanwhile"


# -- the ledger


async def test_nothing_is_done_that_cannot_be_journaled(house: House) -> None:
    """A full disk for an hour: the rollback stands still before the revert, says so, and goes on by itself."""
    house.target.script["readiness"] = [Temporary("busy")]
    task = house.start(await house.planned())
    await house.calm()
    house.ledger.broken = Temporary("the disk is full")
    await house.pass_time(3600, tick=10)
    assert await house.journal() == ["planned", "preflight"]
    assert house.target.switches == 0
    said = "the rollback of checkout stands still before `reverting`: the disk is full"
    assert list(house.executor.problems) == [said]
    house.ledger.broken = None
    rollback = await house.finish(task)
    assert road(rollback) == GOOD_ROAD
    assert not house.executor.problems


async def test_a_write_that_arrived_without_saying_so_is_not_repeated(house: House) -> None:
    house.ledger.forgets_to_say = [Temporary("connection lost")] * 4
    rollback = await house.finish(house.start(await house.planned()))
    assert road(rollback) == GOOD_ROAD
    assert house.seen == GOOD_ROAD[1:]
    assert len(await house.told()) == 2


async def test_a_ledger_that_is_lost_for_good_ends_the_run_before_the_revert(house: House) -> None:
    task = house.start(await house.planned("preflight"))
    house.ledger.broken = Permanent("the ledger is damaged")
    with pytest.raises(Permanent, match="damaged"):
        await house.finish(task)
    assert house.target.switches == 0


# -- stopping and going on


@pytest.mark.parametrize("far", range(1, len(GOOD_ROAD)))
async def test_a_rollback_goes_on_from_any_state(house: House, far: int) -> None:
    rollback = await house.planned(*GOOD_ROAD[1:far])
    if far > 3:
        house.target.version = "1.0"
    rollback = await house.finish(house.start(rollback))
    assert road(rollback) == GOOD_ROAD
    assert house.target.version == "1.0"


async def test_a_failure_that_nobody_was_told_of_is_escalated_after_a_restart(house: House) -> None:
    rollback = await house.finish(house.start(await house.planned("preflight", "failed")))
    assert road(rollback) == ["planned", "preflight", "failed", "escalated"]
    assert detail(rollback) == "was failed"
    assert [message.severity for message in await house.told()] == ["critical"]
    assert house.target.calls == []


@pytest.mark.parametrize("seconds", [0, 1, 2, 4, 7, 10, 12, 15, 20])
async def test_a_run_that_is_cancelled_anywhere_can_be_taken_up_again(house: House, seconds: int) -> None:
    """The daemon stops at some second of a rollback in which everything stumbles once, and starts again."""
    stumble: list[Exception | None] = [Temporary("once"), None]
    house.target.script = {method: stumble.copy() for method in ("current", "readiness", "revert", "settled")}
    task = house.start(await house.planned())
    await house.pass_time(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await house.calm()
    house.executor = house.new_executor()
    for left_over in await house.ledger.unfinished():
        await house.finish(house.start(left_over))
    assert await house.journal() == GOOD_ROAD
    assert house.target.switches == 1


async def test_a_revert_that_is_cancelled_midway_is_finished_by_the_next_run(house: House) -> None:
    house.target.script["revert"] = [Hang()]
    task = house.start(await house.planned())
    await house.pass_time(5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (house.target.hung, house.target.switches) == (0, 1)
    (left_over,) = await house.ledger.unfinished()
    assert left_over.state == "reverting"
    assert road(await house.finish(house.start(left_over))) == GOOD_ROAD
    assert house.target.switches == 1


@pytest.mark.parametrize("far", [4, 5])
async def test_judging_begins_at_the_moment_of_the_revert_also_after_a_restart(house: House, far: int) -> None:
    rollback = await house.planned(*GOOD_ROAD[1:far])
    reverted_at = house.clock.now()
    house.target.version = "1.0"
    await house.clock.advance(500)
    await house.finish(house.start(rollback))
    assert set(house.verifier.begun_at) == {reverted_at}


async def test_a_restart_gives_verification_its_full_time_again(house: House) -> None:
    """A daemon that was down for longer than `verify_within` must not call that a failure to prove."""
    rollback = await house.planned("preflight", "reverting", "reverted", "verifying")
    house.target.version = "1.0"
    await house.clock.advance(5000)
    assert road(await house.finish(house.start(rollback))) == GOOD_ROAD


async def test_rollbacks_of_several_services_run_side_by_side(house: House) -> None:
    house.target.is_settled = False
    first = house.start(await house.planned())
    await house.pass_time(5)
    other, _ = await house.ledger.open_rollback(plan(service="cart"))
    house.target, slow = type(house.target)(house.ledger, other.id), house.target
    assert road(await house.finish(house.start(other))) == GOOD_ROAD
    assert not first.done()
    slow.is_settled = True
    assert road(await house.finish(first)) == GOOD_ROAD

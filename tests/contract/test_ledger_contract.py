"""What every registered ledger must do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from rollbackd import registry
from rollbackd.errors import Permanent
from rollbackd.intake.base import Accepted
from rollbackd.ledger.base import AuditEntry, Ledger, OutboxItem, Pause, RollbackState
from rollbackd.model import Alert, Evidence, Standing, WatchState
from tests.contract.ledgers import (
    POISON,
    SETTINGS,
    T0,
    build,
    change,
    deployed,
    message,
    plan,
    pushed,
    snapshot,
    stored,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=registry.names("ledger"))
def name(request: pytest.FixtureRequest) -> str:
    found = str(request.param)
    assert found in SETTINGS, f"ledger `{found}` has no line in tests/contract/ledgers.py"
    return found


@pytest.fixture
async def ledger(name: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    one = build(name, tmp_path)
    await one.open()
    yield one
    await one.close()


async def outbox(ledger: Ledger, now: float = T0 + 1e6) -> list[OutboxItem]:
    return await ledger.outbox(now)


# -- the store itself


async def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert await ledger.inbox_after(0) == []
    assert await ledger.load_snapshot() is None
    assert await ledger.decisions() == []
    assert await ledger.deployments() == []
    assert await ledger.releases("checkout") == []
    assert await ledger.rollbacks() == []
    assert await ledger.unfinished() == []
    assert await ledger.audit_trail() == []
    assert await ledger.pauses() == []
    assert await outbox(ledger) == []


async def test_everything_is_there_after_closing_and_opening_again(name: str, tmp_path: Path) -> None:
    first = build(name, tmp_path)
    await first.open()
    accepted = await first.accept([pushed("a"), deployed("2.0")], T0)
    await first.record([stored()], [change("2.0", "opened")], snapshot(inbox_seq=2), [("chat", message())])
    await first.open_rollback(plan())
    rollback = await first.step(plan().key, "preflight", "checking", T0 + 32)
    await first.audit(AuditEntry(at=T0, actor="ann", action="pause", subject="checkout", detail="lunch"))
    await first.set_pause(Pause(service=None, actor="ann", reason="lunch", at=T0))
    deployments, releases = await first.deployments(), await first.releases("checkout")
    await first.close()
    await first.close()

    second = build(name, tmp_path)
    await second.open()
    try:
        assert await second.inbox_after(0) == accepted
        assert await second.load_snapshot() == snapshot(inbox_seq=2)
        assert await second.decisions() == [stored()]
        assert await second.decision(stored().id) == stored()
        assert await second.deployments() == deployments
        assert await second.releases("checkout") == releases
        assert await second.unfinished() == [rollback] == await second.rollbacks()
        assert len(await second.audit_trail()) == len(await second.pauses()) == 1
        assert [(item.notifier, item.message) for item in await outbox(second)] == [("chat", message())]
    finally:
        await second.close()


async def test_what_was_acknowledged_survives_kill_9(name: str, tmp_path: Path) -> None:
    """A process writes and says so; killed in the middle, what it said is there, and the ledger opens at once."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.ledger_program", name, str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    said = [int(await program.stdout.readline()) for _ in range(25)]
    os.kill(program.pid, signal.SIGKILL)
    said += [int(line) for line in (await program.stdout.read()).splitlines(keepends=True) if line.endswith(b"\n")]
    assert await program.wait() == -signal.SIGKILL

    ledger = build(name, tmp_path)
    await ledger.open()
    try:
        kept = [int(item.key) for item in await ledger.inbox_after(0)]
        assert kept[: len(said)] == said
        decided = [int(one.decision.version) for one in await ledger.decisions(limit=10_000)]
        told = [int(item.message.key) for item in await ledger.outbox(T0, limit=10_000)]
        assert set(said) <= set(decided)
        assert decided[::-1] == told, "a decision and its message are one transaction"
        newest = await ledger.load_snapshot()
        assert newest is not None
        assert newest.inbox_seq == decided[0]
    finally:
        await ledger.close()


async def test_a_ledger_in_use_is_not_shared(ledger: Ledger, name: str, tmp_path: Path) -> None:
    other = build(name, tmp_path)
    with pytest.raises(Permanent, match=rf"another rollbackd \(pid {os.getpid()}\)"):
        await other.open()
    await other.close()
    await ledger.accept([pushed("a")], T0)


async def test_a_closed_ledger_says_so(ledger: Ledger) -> None:
    await ledger.close()
    with pytest.raises(Permanent, match="not open"):
        await ledger.accept([pushed("a")], T0)


# -- the inbox


async def test_pushed_events_are_numbered_in_order_of_acceptance(ledger: Ledger) -> None:
    first = await ledger.accept([pushed("b", t=T0 + 5), pushed("a", t=T0)], T0 + 6)
    second = await ledger.accept([deployed("2.0")], T0 + 7)
    assert [item.key for item in await ledger.inbox_after(0)] == ["b", "a", "deploy-2.0"]
    assert await ledger.inbox_after(first[-1].seq) == second
    assert second[0].event == deployed("2.0").event
    assert second[0].received_at == T0 + 7


async def test_a_key_is_accepted_once(ledger: Ledger) -> None:
    first = await ledger.accept([pushed("a"), pushed("a")], T0)
    second = await ledger.accept([pushed("b"), pushed("a", t=T0 + 9)], T0 + 9)
    assert [item.key for item in first] == ["a"]
    assert [item.key for item in second] == ["b"]
    assert [item.event.t for item in await ledger.inbox_after(0)] == [T0, T0]


async def test_a_delivery_is_kept_whole_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(Permanent):
        await ledger.accept([pushed("a"), pushed(POISON)], T0)
    assert await ledger.inbox_after(0) == []
    assert len(await ledger.accept([pushed("a")], T0)) == 1


async def test_what_could_not_be_read_again_is_refused_at_the_door(ledger: Ledger) -> None:
    """An event past the model's own limits would block every later reading of the inbox."""
    endless = Alert(t=T0, service="checkout", name="n" * 501, status="firing", severity="page")
    with pytest.raises(Permanent, match="500"):
        await ledger.accept([pushed("a"), Accepted(event=endless, key="b")], T0)
    with pytest.raises(Permanent, match="cannot keep this Message"):
        await ledger.enqueue([("chat", message(t=float("nan")))])
    assert await ledger.inbox_after(0) == []
    assert await outbox(ledger) == []


async def test_an_empty_delivery_is_nothing(ledger: Ledger) -> None:
    assert await ledger.accept([], T0) == []


async def test_many_tasks_at_once_lose_and_double_nothing(ledger: Ledger) -> None:
    """Forty tasks; each pushes one key of its own and one that all share."""
    answers = await asyncio.gather(*(ledger.accept([pushed(f"own-{n}"), pushed("shared")], T0) for n in range(40)))
    items = [item for answer in answers for item in answer]
    assert sorted(item.key for item in items) == sorted([*(f"own-{n}" for n in range(40)), "shared"])
    assert len({item.seq for item in items}) == 41
    assert sorted(items, key=lambda item: item.seq) == await ledger.inbox_after(0)


async def test_a_cancelled_call_leaves_all_or_nothing(ledger: Ledger) -> None:
    """Cancelled at each moment of its way; whatever it was, the next call works."""
    for turns in range(12):
        both = [pushed(f"{turns}-1"), pushed(f"{turns}-2")]
        task = asyncio.create_task(ledger.accept(both, T0))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kept = [item.key for item in await ledger.inbox_after(0) if item.key.startswith(f"{turns}-")]
        assert kept in ([], [one.key for one in both])
    assert len(await ledger.accept([pushed("after")], T0)) == 1


# -- what was concluded


async def test_the_newest_snapshot_replaces_the_one_before(ledger: Ledger) -> None:
    await ledger.save_snapshot(snapshot(state=b"one"))
    await ledger.record([], [], snapshot(at=T0 + 1, inbox_seq=7, state=b"\x00\xfftwo"))
    assert await ledger.load_snapshot() == snapshot(at=T0 + 1, inbox_seq=7, state=b"\x00\xfftwo")


async def test_decisions_come_newest_first_and_by_service(ledger: Ledger) -> None:
    a, b, c = stored("2.0", t=T0 + 3), stored("2.0", service="cart", t=T0 + 1), stored("2.1", t=T0 + 2)
    await ledger.record([a, b], [], snapshot())
    await ledger.record([c], [], snapshot())
    assert await ledger.decisions() == [a, c, b]
    assert await ledger.decisions("checkout") == [a, c]
    assert await ledger.decisions("checkout", limit=1) == [a]
    assert await ledger.decision(b.id) == b
    assert await ledger.decision("no such") is None


async def test_a_decision_is_kept_once(ledger: Ledger) -> None:
    await ledger.record([stored()], [], snapshot())
    await ledger.record([stored(), stored("3.0")], [], snapshot())
    assert await ledger.decisions() == [stored("3.0"), stored()]


async def test_what_an_event_led_to_is_kept_whole_or_not_at_all(ledger: Ledger) -> None:
    await ledger.record([], [change("1.0", "good")], snapshot(state=b"before"))
    before = await ledger.deployments(), await ledger.releases("checkout")
    with pytest.raises(Permanent):
        await ledger.record(
            [stored()],
            [change("2.0", "opened"), change("1.0", "condemned")],
            snapshot(state=b"after"),
            [("chat", message("m1")), ("chat", message("m2", title=POISON))],
        )
    assert await ledger.decisions() == []
    assert (await ledger.deployments(), await ledger.releases("checkout")) == before
    assert await ledger.load_snapshot() == snapshot(state=b"before")
    assert await outbox(ledger) == []


async def test_a_watch_opens_a_deployment_and_ends_it(ledger: Ledger) -> None:
    await ledger.record([], [change("2.0", "opened", at=T0)], snapshot())
    (opened,) = await ledger.deployments("checkout")
    assert (opened.version, opened.previous, opened.deployed_at, opened.state) == ("2.0", "1.0", T0, "opened")
    await ledger.record([], [change("2.0", "condemned", at=T0 + 9)], snapshot())
    (ended,) = await ledger.deployments()
    assert (ended.id, ended.state, ended.changed_at) == (opened.id, "condemned", T0 + 9)
    assert await ledger.deployments("cart") == []


async def test_a_deployment_keeps_what_the_rules_knew_when_its_watch_ended(name: str, tmp_path: Path) -> None:
    known = Evidence(rule="latency", signal="latency", verdict="healthy", summary="as before", interval=(0.1, 0.2))
    first = build(name, tmp_path)
    await first.open()
    await first.record([], [change("2.0", "opened")], snapshot())
    assert (await first.deployments())[0].evidence == ()
    ended = msgspec.structs.replace(change("2.0", "good", at=T0 + 60), evidence=(known,))
    await first.record([], [ended], snapshot())
    await first.close()

    second = build(name, tmp_path)
    await second.open()
    try:
        assert (await second.deployments())[0].evidence == (known,)
    finally:
        await second.close()


async def test_deployments_come_newest_first(ledger: Ledger) -> None:
    await ledger.record([], [change(version, "opened") for version in ("2.0", "2.1", "2.2")], snapshot())
    assert [one.version for one in await ledger.deployments(limit=2)] == ["2.2", "2.1"]


async def standing(ledger: Ledger, version: str) -> Standing | None:
    return {one.version: one.standing for one in await ledger.releases("checkout")}.get(version)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["opened"], "baking"),
        (["opened", "good"], "good"),
        (["opened", "condemned"], "bad"),
        (["opened", "failed"], "bad"),
        (["opened", "superseded"], "superseded"),
        (["opened", "good", "opened"], "baking"),
        (["opened", "condemned", "opened"], "baking"),
        (["unrecovered"], "unknown"),
    ],
)
async def test_the_standing_of_a_release_follows_its_watch(
    ledger: Ledger, states: list[WatchState], expected: Standing
) -> None:
    for state in states:
        await ledger.record([], [change("2.0", state)], snapshot())
    assert await standing(ledger, "2.0") == expected


@pytest.mark.parametrize(
    ("before", "state", "expected"),
    [
        ("good", "opened", "good"),
        ("good", "superseded", "good"),
        ("good", "verified", "good"),
        ("good", "unrecovered", "good"),
        ("good", "condemned", "bad"),
        ("superseded", "opened", "baking"),
        ("superseded", "verified", "good"),
        ("superseded", "unrecovered", "superseded"),
    ],
)
async def test_the_standing_of_a_release_that_is_put_back(
    ledger: Ledger, before: WatchState, state: WatchState, expected: Standing
) -> None:
    await ledger.record([], [change("1.0", before)], snapshot())
    await ledger.record([], [change("1.0", state, is_rollback=True)], snapshot())
    assert await standing(ledger, "1.0") == expected


async def test_the_release_that_was_there_before_is_known_but_not_judged(ledger: Ledger) -> None:
    await ledger.record([], [change("2.0", "opened")], snapshot())
    assert await standing(ledger, "1.0") == "unknown"
    await ledger.record([], [change("1.0", "good"), change("2.1", "opened")], snapshot())
    assert await standing(ledger, "1.0") == "good"


async def test_releases_come_newest_change_first(ledger: Ledger) -> None:
    await ledger.record([], [change("2.0", "opened", at=T0)], snapshot())
    await ledger.record([], [change("2.1", "opened", at=T0 + 5)], snapshot())
    await ledger.record([], [change("2.0", "superseded", at=T0 + 9)], snapshot())
    releases = await ledger.releases("checkout")
    assert [one.version for one in releases] == ["2.0", "2.1", "1.0"]
    assert (releases[0].first_seen, releases[0].changed_at) == (T0, T0 + 9)
    assert await ledger.releases("cart") == []


# -- rollbacks

ROAD: list[RollbackState] = ["preflight", "reverting", "reverted", "verifying", "verified"]


async def test_a_rollback_is_planned_once(ledger: Ledger) -> None:
    answers = await asyncio.gather(*(ledger.open_rollback(plan(at=T0 + n)) for n in range(10)))
    assert [new for _, new in answers].count(True) == 1
    rollbacks = [rollback for rollback, _ in answers]
    assert rollbacks.count(rollbacks[0]) == 10
    assert [(step.seq, step.state) for step in rollbacks[0].steps] == [(1, "planned")]
    assert rollbacks[0].id == plan().key
    assert await ledger.rollbacks() == [rollbacks[0]]


async def test_the_journal_grows_by_steps(ledger: Ledger) -> None:
    rollback, _ = await ledger.open_rollback(plan())
    for n, state in enumerate(ROAD, start=1):
        rollback = await ledger.step(plan().key, state, f"detail {n}", T0 + 40 + n)
        assert (rollback.state, rollback.updated_at) == (state, T0 + 40 + n)
        assert await ledger.rollback(plan().key) == rollback
        assert await ledger.unfinished() == ([] if state == "verified" else [rollback])
    assert [(step.seq, step.state) for step in rollback.steps] == list(enumerate(["planned", *ROAD], start=1))
    assert rollback.steps[3].detail == "detail 3"
    assert rollback.plan == plan()


async def test_nothing_follows_the_end_of_a_rollback(ledger: Ledger) -> None:
    await ledger.open_rollback(plan())
    for state in ROAD:
        await ledger.step(plan().key, state, "", T0)
    with pytest.raises(Permanent, match="ended"):
        await ledger.step(plan().key, "reverting", "", T0, [("chat", message())])
    assert await outbox(ledger) == []
    known, new = await ledger.open_rollback(plan())
    assert (known.state, new) == ("verified", False)


async def test_a_step_of_an_unknown_rollback_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Permanent, match="no rollback"):
        await ledger.step("nothing", "preflight", "", T0)
    assert await ledger.rollback("nothing") is None


async def test_a_step_and_its_messages_are_kept_whole_or_not_at_all(ledger: Ledger) -> None:
    await ledger.open_rollback(plan())
    with pytest.raises(Permanent):
        await ledger.step(plan().key, "preflight", "", T0, [("chat", message()), ("chat", message(title=POISON))])
    with pytest.raises(Permanent):
        await ledger.step(plan().key, "preflight", POISON, T0, [("chat", message())])
    (rollback,) = await ledger.unfinished()
    assert rollback.state == "planned"
    assert await outbox(ledger) == []
    await ledger.step(plan().key, "preflight", "", T0, [("chat", message()), ("mail", message())])
    assert [item.notifier for item in await outbox(ledger)] == ["chat", "mail"]


async def test_rollbacks_come_newest_first_and_unfinished_ones_oldest_first(ledger: Ledger) -> None:
    for n, service in enumerate(("checkout", "cart", "search")):
        await ledger.open_rollback(plan(service=service, at=T0 + n))
    assert [one.plan.service for one in await ledger.rollbacks(limit=2)] == ["search", "cart"]
    assert [one.plan.service for one in await ledger.rollbacks("cart")] == ["cart"]
    assert [one.plan.service for one in await ledger.unfinished()] == ["checkout", "cart", "search"]


# -- people


async def test_the_audit_trail_comes_newest_first(ledger: Ledger) -> None:
    entries = [AuditEntry(at=T0, actor="ann", action=action, subject="cart", detail="") for action in ("a", "b", "c")]
    for entry in entries:
        await ledger.audit(entry)
    assert await ledger.audit_trail() == entries[::-1]
    assert await ledger.audit_trail(limit=1) == [entries[2]]


async def test_pauses_are_one_a_service_and_one_for_all(ledger: Ledger) -> None:
    await ledger.set_pause(Pause(service="cart", actor="ann", reason="first", at=T0))
    await ledger.set_pause(Pause(service="cart", actor="bob", reason="second", at=T0 + 1))
    await ledger.set_pause(Pause(service=None, actor="bob", reason="all", at=T0 + 2))
    assert [(one.service, one.reason) for one in await ledger.pauses()] == [(None, "all"), ("cart", "second")]
    assert await ledger.clear_pause("cart") is True
    assert await ledger.clear_pause("cart") is False
    assert [one.service for one in await ledger.pauses()] == [None]
    assert await ledger.clear_pause(None) is True
    assert await ledger.pauses() == []


# -- the outbox


async def test_a_message_goes_to_each_notifier_once(ledger: Ledger) -> None:
    await ledger.enqueue([("chat", message("m1")), ("mail", message("m1")), ("chat", message("m1"))])
    await ledger.enqueue([("chat", message("m1", title="again")), ("chat", message("m2"))])
    items = await outbox(ledger)
    assert [(item.notifier, item.message.key) for item in items] == [("chat", "m1"), ("mail", "m1"), ("chat", "m2")]
    assert items[0].message == message("m1")
    assert items[0].attempts == 0


async def test_a_new_message_is_due_whatever_the_time_it_speaks_of(ledger: Ledger) -> None:
    await ledger.enqueue([("chat", message(t=T0 + 900))])
    assert len(await ledger.outbox(T0)) == 1


async def test_a_message_that_arrived_is_not_sent_again(ledger: Ledger) -> None:
    await ledger.enqueue([("chat", message("m1")), ("chat", message("m2"))])
    first, second = await outbox(ledger)
    await ledger.delivered(first.id)
    await ledger.postpone(first.id, T0, "too late")
    assert await outbox(ledger) == [second]
    await ledger.enqueue([("chat", message("m1"))])
    assert await outbox(ledger) == [second]


async def test_a_message_that_did_not_arrive_waits_for_its_time(ledger: Ledger) -> None:
    await ledger.enqueue([("chat", message())])
    (item,) = await ledger.outbox(T0)
    await ledger.postpone(item.id, T0 + 60, "connection refused")
    assert await ledger.outbox(T0 + 59) == []
    (again,) = await ledger.outbox(T0 + 60)
    assert (again.id, again.attempts, again.due_at) == (item.id, 1, T0 + 60)


async def test_a_message_that_can_never_arrive_is_tried_no_more(ledger: Ledger) -> None:
    await ledger.enqueue([("chat", message("m1")), ("chat", message("m2"))])
    first, second = await outbox(ledger)
    await ledger.give_up(first.id, "401 Unauthorized")
    assert await outbox(ledger) == [second]
    assert await ledger.outbox(T0, limit=1) == [second]


# -- housekeeping


async def test_pruning_forgets_what_is_old_and_done(ledger: Ledger) -> None:
    await ledger.accept([pushed("old")], T0)
    await ledger.record([stored()], [change("2.0", "condemned")], snapshot(inbox_seq=1), [("chat", message())])
    await ledger.delivered((await outbox(ledger))[0].id)
    await ledger.open_rollback(plan())
    for state in ROAD:
        await ledger.step(plan().key, state, "", T0 + 60)
    await ledger.audit(AuditEntry(at=T0, actor="ann", action="a", subject="b", detail="c"))
    assert await ledger.prune(T0) == 0
    assert await ledger.prune(T0 + 3600) > 0
    assert await ledger.inbox_after(0) == []
    assert await ledger.decisions() == []
    assert await ledger.rollbacks() == []
    assert await ledger.audit_trail() == []
    assert await ledger.prune(T0 + 3600) == 0
    assert await standing(ledger, "2.0") == "bad"
    assert await ledger.load_snapshot() is not None


async def test_pruning_never_takes_what_is_still_needed(ledger: Ledger) -> None:
    """An unfinished rollback and its decision, an item no snapshot covers, a message not delivered, a pause."""
    covered, uncovered = await ledger.accept([pushed("covered"), pushed("uncovered")], T0)
    await ledger.record([stored()], [], snapshot(inbox_seq=covered.seq), [("chat", message())])
    await ledger.open_rollback(plan())
    rollback = await ledger.step(plan().key, "preflight", "", T0)
    await ledger.set_pause(Pause(service=None, actor="ann", reason="", at=T0))
    await ledger.prune(T0 + 1e9)
    assert await ledger.unfinished() == [rollback]
    assert await ledger.decisions() == [stored()]
    assert await ledger.inbox_after(0) == [uncovered]
    assert len(await outbox(ledger)) == 1
    assert len(await ledger.pauses()) == 1


async def test_numbers_are_never_given_twice(ledger: Ledger) -> None:
    """A snapshot names an inbox number; one given again after pruning would make a restarted engine skip an event."""
    (first,) = await ledger.accept([pushed("a")], T0)
    await ledger.save_snapshot(snapshot(inbox_seq=first.seq))
    await ledger.prune(T0 + 1)
    (second,) = await ledger.accept([pushed("b")], T0 + 2)
    assert second.seq > first.seq
    assert await ledger.inbox_after(first.seq) == [second]


# -- reading beside a daemon


async def test_a_ledger_in_use_can_be_read_by_another_and_not_be_changed_by_it(
    ledger: Ledger, name: str, tmp_path: Path
) -> None:
    await ledger.record([], [change("2.0", "opened")], snapshot())
    reader = build(name, tmp_path)
    await reader.open_to_read()
    try:
        assert [one.version for one in await reader.deployments()] == ["2.0"]
        with pytest.raises(Permanent):
            await reader.record([], [change("3.0", "opened")], snapshot())
        await ledger.record([], [change("2.0", "good", at=T0 + 60)], snapshot())
        assert [one.state for one in await reader.deployments()] == ["good"]
    finally:
        await reader.close()
    await ledger.close()
    await ledger.open()  # the reader left no claim behind


async def test_reading_makes_no_ledger_where_there_is_none(name: str, tmp_path: Path) -> None:
    reader = build(name, tmp_path / "nothing")
    with pytest.raises(Permanent, match="there is no ledger"):
        await reader.open_to_read()
    await reader.close()
    assert not (tmp_path / "nothing").exists()

"""Following the journal of a real systemd, which runs in a container; and journalctls that misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from rollbackd.aiokit import Clock
from rollbackd.model import Log
from rollbackd.sources import journalctl
from rollbackd.sources.base import Source, SourceContext
from rollbackd.sources.journal_entry import about
from rollbackd.sources.journalctl import MAX_ENTRY
from rollbackd.sources.journald import ADAPTER, QUIET_S, RETRY_S, TICK_S, JournaldConfig, _several
from rollbackd.sources.keeping import KEEP_EVERY_S
from rollbackd.sources.records import MOST_OPEN, STALE_S
from tests.support.clock import ManualClock
from tests.support.docker import PROGRAMS, DockerEngine
from tests.support.journal import PROGRAM, Journal
from tests.support.machine import Machine
from tests.support.servers import Run, running
from tests.support.sink import RecordingSink
from tests.support.waiting import eventually, eventually_async


@pytest.fixture(scope="module")
def machine(engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(engine, tmp_path_factory.mktemp("machine")) as one:
        yield one


def following(clock: Clock, state: Path | None = None, **settings: object) -> Source:
    return ADAPTER.build(JournaldConfig.model_validate(settings), SourceContext("shop", clock, state))


def messages(sink: RecordingSink) -> list[str]:
    return [event.message for event in sink.of(Log)]


def told(sink: RecordingSink) -> list[tuple[str, str]]:
    return [(event.level, event.message) for event in sink.of(Log)]


@dataclass
class Followed:
    """A source that runs, and what it told."""

    run: Run
    clock: ManualClock
    sink: RecordingSink

    async def until(self, last: str) -> None:
        """Let time pass until a message that ends so was told."""

        async def passed() -> bool:
            await self.run.after(TICK_S)
            return any(message.endswith(last) for message in messages(self.sink))

        try:
            await eventually_async(passed, within=15)
        except AssertionError:
            raise AssertionError((last, self.sink.history, told(self.sink), self.sink.drops)) from None


@asynccontextmanager
async def followed(machine: Machine, state: Path | None = None, **settings: object) -> AsyncIterator[Followed]:
    clock = ManualClock(time.time())
    source = following(clock, state, directory=str(machine.journal), **settings)
    async with running(source, clock) as (run, sink):
        await eventually(lambda: sink.state)
        yield Followed(run, clock, sink)


@pytest.mark.needs(*PROGRAMS, "debootstrap", "journalctl")
@pytest.mark.timeout(400)
class TestARealJournal:
    """Each test has a unit of its own."""

    async def test_a_unit_is_followed_from_now_on_with_the_levels_that_it_says(self, machine: Machine) -> None:
        machine.say("levels.service", "echo old")
        async with followed(machine, unit="levels") as one:
            machine.say(
                "levels.service",
                'echo plain; echo "ERROR in the text"; echo "<3>with a prefix"; echo "<7>ERROR beats debug"\n'
                'echo "<7>debug"; echo to stderr >&2; echo last',
            )
            await one.until("last")
            said = [(level, text) for level, text in told(one.sink) if "levels.service" not in text]
        assert said == [
            ("info", "plain"),
            ("error", "ERROR in the text"),
            ("error", "with a prefix"),
            ("error", "ERROR beats debug"),
            ("debug", "debug"),
            ("info", "to stderr"),
            ("info", "last"),
        ]
        assert (one.sink.state, one.sink.drops, one.sink.invalid()) == ("up", {}, [])

    async def test_what_systemd_says_about_a_unit_that_fails_is_an_error(self, machine: Machine) -> None:
        async with followed(machine, unit="failing.service") as one:
            machine.write("failing.service", "exit 3", "Restart=always\nRestartSec=100ms")
            machine.sh("systemctl start --no-block failing.service")
            await one.until("Scheduled restart job, restart counter is at 2.")
            machine.sh("systemctl stop failing.service")
        errors = {text for level, text in told(one.sink) if level == "error"}
        assert errors == {
            "failing.service: Main process exited, code=exited, status=3/NOTIMPLEMENTED",
            "failing.service: Failed with result 'exit-code'.",
        }

    async def test_traces_of_processes_that_write_at_once_are_folded_apart(self, machine: Machine) -> None:
        trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: broken'
        script = (
            "say() { echo \"ERROR $1\"; sleep 0.1; echo 'Traceback (most recent call last):'; sleep 0.1\n"
            "  echo '  File \"a.py\", line 1, in f'; sleep 0.1; echo 'ValueError: broken'; }\n"
            "say one & say two & wait; echo done; echo over"
        )
        async with followed(machine, unit="traces") as one:
            machine.say("traces.service", script)
            await eventually(lambda: "done" in messages(one.sink))
            await one.until("over")
        found = sorted(text for level, text in told(one.sink) if level == "error")
        assert found == [f"ERROR one\n{trace}", f"ERROR two\n{trace}"]

    async def test_messages_that_are_no_text_or_have_several_lines_are_one_event_each(self, machine: Machine) -> None:
        native = (
            "import socket, struct\n"
            "def field(n, v): return n + b'\\n' + struct.pack('<Q', len(v)) + v + b'\\n'\n"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('/run/systemd/journal/socket')\n"
            "for m in (b'ERROR bytes \\xff\\xfe end', b'first line\\nsecond line', b'x' * 70000, b'the very last'):\n"
            "    s.send(field(b'MESSAGE', m) + b'PRIORITY=3\\nSYSLOG_IDENTIFIER=native\\nRELEASE=v7\\n')\n"
        )
        (machine.journal / "native.py").write_text(native)
        async with followed(machine, identifier="native", version_field="RELEASE") as one:
            machine.sh("python3 /var/log/journal/native.py")
            await one.until("the very last")
            await one.run.after(TICK_S)
            await one.run.after(TICK_S)
        assert messages(one.sink) == ["ERROR bytes �� end", "first line\nsecond line", "x" * 65536, "the very last"]
        assert {(event.level, event.version) for event in one.sink.of(Log)} == {("error", "v7")}
        assert one.sink.drops == {"line_too_long": 1}

    async def test_a_field_of_a_json_message_names_the_release(self, machine: Machine) -> None:
        async with followed(machine, unit="json", version_field="service.version") as one:
            machine.say("json.service", """echo '{"level":"error","msg":"no","service":{"version":"v3"}}'""")
            await one.until("no")
        assert [(event.level, event.version) for event in one.sink.of(Log) if event.message == "no"] == [
            ("error", "v3")
        ]

    async def test_fields_narrow_what_is_read(self, machine: Machine) -> None:
        script = "echo from one | systemd-cat -t one -p err; echo from two | systemd-cat -t two; echo from the unit"
        async with (
            followed(machine, match={"SYSLOG_IDENTIFIER": ["one", "two"], "PRIORITY": "3"}) as one,
            followed(machine, identifier=["two", "other"]) as two,
        ):
            machine.sh(script)
            await one.until("from one")
            await two.until("from two")
        assert told(one.sink) == [("error", "from one")]
        assert told(two.sink) == [("info", "from two")]

    async def test_units_of_a_users_own_manager_are_followed_by_user(self, machine: Machine) -> None:
        """What systemd would log, as far as it tells one user's unit from another's."""
        assert about(["shop.service"], [], {}, 1000)[0] == ["_UID=1000", "_SYSTEMD_USER_UNIT=shop.service"]
        async with followed(machine, unit="shop", user="4242") as one:
            assert one.sink.state == "up"
        clock = ManualClock(time.time())
        async with running(following(clock, unit="shop", user="nosuchuser"), clock) as (_, sink):
            await eventually(lambda: sink.state)
            assert sink.state.startswith("down: there is no user nosuchuser on this machine")

    async def test_a_restart_repeats_nothing_and_loses_nothing(self, machine: Machine, tmp_path: Path) -> None:
        """Neither what was written in between, nor what was read and not told, since its trace might have gone on."""
        state = tmp_path / "state"
        async with followed(machine, state, identifier="again") as one:
            machine.sh("echo first | systemd-cat -t again; echo open | systemd-cat -t again")
            await one.until("first")
        assert messages(one.sink) in (["first"], ["first", "open"])
        machine.sh("echo between | systemd-cat -t again")
        async with followed(machine, state, identifier="again") as two:
            machine.sh("echo after | systemd-cat -t again")
            await two.until("after")
        assert messages(one.sink) + messages(two.sink) == ["first", "open", "between", "after"]
        assert two.sink.drops == {}

    async def test_rotation_and_a_restart_of_journald_lose_nothing(self, machine: Machine) -> None:
        async with followed(machine, identifier="turn") as one:
            for turn, what in enumerate(("journalctl --rotate", "systemctl restart systemd-journald", "true")):
                machine.sh(f"echo before {turn} | systemd-cat -t turn; {what}; echo after {turn} | systemd-cat -t turn")
                await one.until(f"after {turn}")
        assert messages(one.sink) == [f"{when} {turn}" for turn in range(3) for when in ("before", "after")]
        assert one.sink.history == ["up"]

    async def test_a_place_that_was_vacuumed_goes_on_at_the_oldest_left_and_says_so(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        state = tmp_path / "state"
        async with followed(machine, state, identifier="gone") as one:
            machine.sh("echo first | systemd-cat -t gone")
            await one.until("first")
        machine.sh("echo lost | systemd-cat -t gone; journalctl --rotate; sleep 1.1; journalctl --vacuum-time=1s")
        machine.sh("echo left | systemd-cat -t gone")
        async with followed(machine, state, identifier="gone") as two:
            await two.until("left")
        assert messages(two.sink) == ["left"]
        assert two.sink.drops == {"journal_vacuumed": 1}

    async def test_what_journald_suppresses_is_counted(self, machine: Machine) -> None:
        settings = "LogRateLimitIntervalSec=2s\nLogRateLimitBurst=10"
        script = "i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo $i; done; sleep 2.1; echo over"
        machine.write("flood.service", script, f"Type=oneshot\n{settings}")
        async with followed(machine, unit="flood") as one:
            machine.sh("systemctl start flood")
            await one.until("over")
        lines = sum(message.isdigit() for message in messages(one.sink))
        assert one.sink.drops == {"rate_limited": 300 - lines}
        assert lines < 300

    async def test_a_folder_without_a_journal_is_down_until_there_is_one(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        clock = ManualClock(time.time())
        async with running(following(clock, identifier="late", directory=str(tmp_path / "no")), clock) as (run, sink):
            assert "No such file or directory" in sink.state
            (tmp_path / "no").mkdir()
            await run.after(RETRY_S)
            assert sink.state.startswith("down: there is no journal")
            machine.sh("echo new | systemd-cat -t late; journalctl --sync")
            for folder in machine.journal.iterdir():
                (tmp_path / "no" / folder.name).symlink_to(folder)
            await Followed(run, clock, sink).until("new")
            assert sink.state == "up"

    async def test_who_may_not_read_is_told_the_cure(self, machine: Machine, tmp_path: Path) -> None:
        program = tmp_path / "as-nobody"
        program.write_text('#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups journalctl "$@"\n')
        program.chmod(0o755)
        async with followed(machine, unit="shop", program=str(program)) as one:
            assert one.sink.state == (
                "down: the journal may not be read: add the user that rollbackd runs as to the group systemd-journal"
            )


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    one = Journal(tmp_path)
    await one.start()
    yield one
    await one.stop()


@asynccontextmanager
async def reading(journal: Journal, state: Path | None = None, **settings: object) -> AsyncIterator[Followed]:
    """The source over a journal of our making, once it follows."""
    clock = ManualClock()
    async with running(following(clock, state, program=str(journal.program), unit="shop", **settings), clock) as (
        run,
        sink,
    ):
        await eventually(lambda: journal.following or sink.state.startswith("down"))
        yield Followed(run, clock, sink)


class TestAJournalctlOfOurMaking:
    async def test_it_is_asked_for_the_unit_and_for_what_others_say_about_it(self, journal: Journal) -> None:
        async with reading(journal, identifier="app", version_field="RELEASE", directory="/j"):
            [question, follower] = journal.asked
        assert question == ["--output=short", "--show-cursor", "--no-pager", "--lines=1", "--merge", "--directory=/j"]
        assert follower[:2] == ["--output=json", "--all"]
        assert follower[2].endswith(",RELEASE")
        assert follower[3:] == [
            *("--no-pager", "--follow", "--no-tail", "--merge", "--directory=/j"),
            *("_SYSTEMD_UNIT=shop.service", "SYSLOG_IDENTIFIER=app", "+", "_PID=1", "UNIT=shop.service", "+"),
            *("_UID=0", "OBJECT_SYSTEMD_UNIT=shop.service", "+", "_UID=0", "COREDUMP_UNIT=shop.service"),
        ]

    async def test_one_that_ends_is_started_again_and_reads_on(self, journal: Journal) -> None:
        async with reading(journal) as one:
            await journal.log(MESSAGE="ERROR one")
            await one.until("one")
            await journal.tell_fault("Bus error")
            await eventually(lambda: one.sink.state == "down: journalctl ended with exit code 1: Bus error")
            journal.fault = None
            await journal.log(MESSAGE="ERROR two")
            await one.until("two")
        assert messages(one.sink) == ["ERROR one", "ERROR two"]
        assert one.sink.history == ["up", "down: journalctl ended with exit code 1: Bus error", "up"]

    async def test_one_that_is_killed_is_started_again_at_once(self, journal: Journal) -> None:
        async with reading(journal) as one:
            await journal.log(MESSAGE="ERROR one")
            await one.until("one")
            [pid] = children()
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: pid not in children())
            await journal.log(MESSAGE="ERROR two")
            await one.until("two")
        assert one.sink.history == ["up", "down: journalctl was ended by signal 9", "up"]

    async def test_one_that_was_quiet_for_long_is_exchanged(self, journal: Journal) -> None:
        """It may have become deaf. Nobody need know, and nothing is repeated."""
        async with reading(journal) as one:
            await journal.log(MESSAGE="ERROR one")
            await one.until("one")
            asked = len(journal.asked)
            await one.run.after(QUIET_S)
            await eventually(lambda: len(journal.asked) == asked + 2)
            await journal.log(MESSAGE="ERROR two")
            await one.until("two")
        assert (messages(one.sink), one.sink.history) == (["ERROR one", "ERROR two"], ["up"])

    async def test_one_that_does_not_answer_is_ended(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journalctl, "ANSWER_WITHIN_S", 0.3)
        journal.silent = True
        async with reading(journal) as one:
            assert one.sink.state == "down: journalctl did not answer within 0.3 s and was ended"
            assert children() == []

    async def test_it_leaves_no_process_behind_when_cancelled(self, journal: Journal) -> None:
        async with reading(journal) as one:
            assert len(children()) == 1
            await one.run.stop()
            assert children() == []

    async def test_a_missing_program_is_said(self, tmp_path: Path) -> None:
        clock = ManualClock()
        async with running(following(clock, unit="shop", program=str(tmp_path / "no")), clock) as (_, sink):
            assert sink.state == f"down: there is no program {tmp_path}/no: install systemd, or name it with `program`"

    async def test_nothing_is_read_while_the_queue_is_full(self, journal: Journal) -> None:
        """A flood stays in journalctl, which the full pipe makes wait."""
        async with reading(journal) as one:
            await journal.log(MESSAGE="ERROR first")
            await one.until("first")
            one.sink.hold()
            for number in range(4000):
                journal.entries.append(journal.entry(MESSAGE=f"ERROR {number} {'x' * 100}"))
            flood = asyncio.create_task(journal.put(journal.entry(MESSAGE="ERROR last"), also=4000))
            await eventually(lambda: one.sink.waiting == 1)
            printed = -1
            while printed != journal.printed:
                printed = journal.printed
                await asyncio.sleep(0.1)
            assert printed < 3000
            one.sink.release()
            await flood
            await one.until("last")
        assert len(one.sink.events) == 4002

    async def test_what_is_no_entry_is_counted_and_costs_no_other(self, journal: Journal) -> None:
        hostile = [
            "no json\n",
            "[1]\n",
            '{"MESSAGE":"no cursor","__REALTIME_TIMESTAMP":"1700000000000000"}\n',
            '{"__CURSOR":"c","__REALTIME_TIMESTAMP":"' + "9" * 5000 + '"}\n',
            '{"__CURSOR":"c","__REALTIME_TIMESTAMP":"' + "9" * 400 + '"}\n',
            '{"__CURSOR":"c","__REALTIME_TIMESTAMP":"-1"}\n',
            '{"__CURSOR":"c","a":' + "[" * 3000 + "]" * 3000 + "}\n",
        ]
        async with reading(journal) as one:
            for text in hostile:
                await journal.put(text)
            await journal.log(MESSAGE="x" * (MAX_ENTRY + 10))
            await journal.log(MESSAGE=None)
            await journal.log(MESSAGE=[300, -1], PRIORITY="99999999999999999999")
            await journal.log(MESSAGE=[["a", None]], PRIORITY=[[]], MESSAGE_ID={"a": 1})
            await journal.log(MESSAGE=["ERROR first of two", "second"], _PID=["8", "9"])
            await one.until("first of two")
        assert (messages(one.sink), one.sink.history) == (["ERROR first of two"], ["up"])
        assert one.sink.drops == {"not_an_entry": len(hostile), "entry_too_long": 1}

    async def test_more_processes_than_can_be_followed_lose_nothing(self, journal: Journal) -> None:
        async with reading(journal) as one:
            for number in range(MOST_OPEN + 50):
                await journal.log(MESSAGE=f"ERROR {number}", _PID=str(number))
            await one.until(f"ERROR {MOST_OPEN + 49}")
        assert sorted(messages(one.sink)) == sorted(f"ERROR {number}" for number in range(MOST_OPEN + 50))

    async def test_lines_too_old_to_be_evidence_are_counted(self, journal: Journal) -> None:
        stamps = [str(int((ManualClock().now() - age) * 1e6)) for age in (STALE_S + 5, STALE_S - 5, -1000)]
        async with reading(journal) as one:
            for stamp in stamps:
                await journal.log(MESSAGE=f"ERROR {stamp}", __REALTIME_TIMESTAMP=stamp)
            await one.until(stamps[-1])
            assert [event.t for event in one.sink.events] == [int(stamps[1]) / 1e6, one.clock.now()]
        assert one.sink.drops == {"too_old": 1}

    async def test_the_oldest_entry_left_after_a_place_that_is_gone_is_told(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        async with reading(journal, tmp_path / "state") as one:
            await journal.log(MESSAGE="ERROR first")
            await one.until("first")
        for text in ("lost", "left", "last"):
            await journal.log(MESSAGE=f"ERROR {text}")
        journal.oldest = 2
        async with reading(journal, tmp_path / "state") as two:
            await two.until("last")
        assert (messages(two.sink), two.sink.drops) == (["ERROR left", "ERROR last"], {"journal_vacuumed": 1})

    async def test_a_place_that_cannot_be_read_is_as_if_there_was_none(self, journal: Journal, tmp_path: Path) -> None:
        for kept in (b"nonsense", b'{"cursor": 5}', b"[" * 5000):
            (tmp_path / "place.json").write_bytes(kept)
            await journal.log(MESSAGE="ERROR old")
            async with reading(journal, tmp_path) as one:
                await journal.log(MESSAGE="ERROR new")
                await one.until("new")
            assert messages(one.sink) == ["ERROR new"]

    async def test_a_place_that_cannot_be_kept_stops_nothing(self, journal: Journal, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with capture_logs() as logged:
            async with reading(journal, tmp_path / "file" / "folder") as one:
                for number in range(3):
                    await journal.log(MESSAGE=f"ERROR {number}")
                    await one.until(str(number))
                    await one.run.after(KEEP_EVERY_S)
        assert messages(one.sink) == ["ERROR 0", "ERROR 1", "ERROR 2"]
        assert [entry["event"] for entry in logged].count("source_place_not_kept") == 1


def children() -> list[int]:
    """The journalctls of our making that this process has started and not waited for."""
    pids = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return [pid for pid in pids if PROGRAM.name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, "say what to read"),
        ({"user": "me", "identifier": "x"}, "whose `unit` is meant"),
        ({"unit": "shop@*.service"}, "patterns are not looked for"),
        ({"unit": "--flush"}, None),
        ({"unit": []}, "at least 1 item"),
        ({"match": {"lower": "x"}}, "no field of the journal"),
        ({"match": {"-x": "x"}}, "no field of the journal"),
        ({"identifier": "a\nb"}, "line break"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], fault: str | None) -> None:
    if fault is None:
        assert about(_several(JournaldConfig.model_validate(settings).unit), [], {}, None)[0] == [
            "_SYSTEMD_UNIT=--flush.service"
        ]
        return
    with pytest.raises(ValidationError, match=fault):
        JournaldConfig.model_validate(settings)


def test_a_bare_string_is_a_unit_whose_suffix_may_be_left_out() -> None:
    assert ADAPTER.shorthand == "unit"
    assert [JournaldConfig(unit=name).unit for name in ("shop", "shop@1", "a.timer", "my.app")] == [
        *("shop.service", "shop@1.service", "a.timer", "my.app.service"),
    ]

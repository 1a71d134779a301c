"""The commands that talk to a daemon: what they print, what they print for programs, and what they ask for."""

from __future__ import annotations

import http.client
import io
import json
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
import pytest

from rollbackd.ledger.base import Pause
from rollbackd.model import WatchState
from tests.support.backend import NOW, decision, deployment, evidence, rollback, service, source, watch
from tests.unit.cli.conftest import Daemon, Terminal

ESCAPE = "\x1b"


def api(daemon: Daemon, path: str) -> str:
    """What the API itself answers."""
    connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc)
    connection.request("GET", path)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


class Keyboard(io.StringIO):
    """Somebody at a terminal who types this."""

    def isatty(self) -> bool:
        return True


def test_status_tells_what_is_watched(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("status") == 0
    for word in ("checkout", "v2", "v1", "healthy", "1 of 1 up", "watching release v2 (after v1)", "error_ratio"):
        assert word in terminal.out
    assert "4.1% of requests fail" in terminal.out


def test_status_tells_what_is_wrong(daemon: Daemon, terminal: Terminal) -> None:
    pause = Pause(service="checkout", actor="bob", reason="migration", at=NOW - 60)
    daemon.backend.services = {
        "checkout": service(
            sources=(source(), source("log", up=False)),
            problems=("the link is a folder",),
            last_known_good=None,
            paused=pause,
        )
    }
    daemon.backend.not_ready = ("the ledger cannot be written",)
    daemon.backend.config_problem = "line 3: what is `chekout`?"
    assert terminal.run("status") == 0
    for word in (
        "1 of 2 up",
        "connection refused",
        "2 malformed",
        "the link is a folder",
        "none yet",
        "paused by bob 1 min ago: migration",
        "the ledger cannot be written",
        "what is `chekout`?",
    ):
        assert word in terminal.out


@pytest.mark.parametrize("columns", [80, 120])
def test_statuses_own_words_are_not_broken(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Names may fold where the terminal is narrow; verdicts, counts and percentages stay readable."""
    quiet = service("search-frontend", verdict="insufficient", mode="shadow", current="2024-11-02-a1b2c3d")
    daemon.backend.services = {"checkout": service(), "search-frontend": quiet}
    monkeypatch.setenv("COLUMNS", str(columns))
    assert terminal.run("status") == 0
    line = next(line for line in terminal.out.splitlines() if line.startswith("·"))
    for word in ("not enough data", "8%", "1 of 1 up", "shadow", "yes"):
        assert word in line
    (config,) = [line for line in terminal.out.splitlines() if "c0ffeec0ffee" in line]
    assert config.endswith("configuration c0ffeec0ffee (commit a1b2c3d4e5f6)")


def test_a_name_of_usual_length_is_whole_on_a_usual_terminal(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the other columns are at their widest."""
    daemon.backend.services = {"checkout-api": service("checkout-api", verdict="insufficient", rollback_id="rb-1")}
    monkeypatch.setenv("COLUMNS", "80")
    assert terminal.run("status") == 0
    (line,) = [line for line in terminal.out.splitlines() if line.startswith("·")]
    for word in ("checkout-api", "not enough data", "reverting", "yes"):
        assert word in line


def test_whether_it_would_act_and_whether_it_could_are_two_columns(daemon: Daemon, terminal: Terminal) -> None:
    pause = Pause(service="b", actor="bob", reason="migration", at=NOW)
    daemon.backend.services = {
        "a": service("a", mode="shadow", watch=None),
        "b": service("b", paused=pause, problems=("the link is a folder",), watch=None),
        "c": service("c", rollback_id="rb-1", watch=None),
    }
    assert terminal.run("status") == 0
    ends = [line.split()[-2:] for line in terminal.out.splitlines() if line.startswith("✓")]
    assert ends == [["shadow", "yes"], ["paused", "no"], ["reverting", "yes"]]


def test_a_release_that_was_there_before_is_told_from_a_proven_one(daemon: Daemon, terminal: Terminal) -> None:
    first = msgspec.structs.replace(watch("v1"), previous=None)
    daemon.backend.services = {"checkout": service(current="v1", watch=first)}
    assert terminal.run("status") == 0
    assert "v1 was there before: not proven" in terminal.out
    assert "watching release v1, first seen " in terminal.out, "when it was deployed is not known"


def test_a_release_that_warms_up_is_not_yet_judged(daemon: Daemon, terminal: Terminal) -> None:
    early = msgspec.structs.replace(watch(), verdict="insufficient", judged_from=NOW + 40)
    daemon.backend.services = {"checkout": service(verdict="insufficient", watch=early)}
    assert terminal.run("status") == 0
    assert "not yet judged" in terminal.out
    assert "judged in 40 s, when it has warmed up" in terminal.out


def test_an_announcement_that_the_target_contradicts_is_told(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.services = {"checkout": service(contradiction="v9 was announced, and v2 is in place")}
    assert terminal.run("status") == 0
    assert "contradiction: v9 was announced" in terminal.out


def test_what_was_decided_in_shadow_mode_can_be_looked_up(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.services = {"checkout": service(mode="shadow", verdict="degraded", watch=None, decision_id="dec-1")}
    assert terminal.run("status") == 0
    assert "decided: rollbackd show dec-1" in terminal.out


def test_status_without_services_says_so(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.services = {}
    assert terminal.run("status") == 0
    assert "No service is configured." in terminal.out


def test_history_is_in_order_of_time(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("history") == 0
    places = [terminal.out.index(word) for word in ("deployed v2", "ROLLBACK", "v2 rolled back to v1")]
    assert places == sorted(places)


def test_what_happened_has_the_width_of_a_usual_terminal(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert terminal.run("history") == 0
    assert "   ROLLBACK  v2 → v1: errors rose from 0.2% to 4.1%" in terminal.out.splitlines()


def test_history_asks_for_one_service_and_so_many(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("history", "checkout", "--limit", "7") == 0
    assert daemon.backend.asked == [(what, "checkout", 7) for what in ("deployments", "decisions", "rollbacks")]


def test_history_of_a_service_that_nobody_knows_is_refused(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.deployment_list, daemon.backend.decision_list, daemon.backend.rollback_list = [], [], []
    assert terminal.run("history", "nosuch") == 1
    assert "there is no service `nosuch`" in terminal.err
    assert terminal.run("history", "checkout") == 0
    assert "Nothing has been deployed" in terminal.out


def test_history_of_a_service_that_is_no_longer_configured_is_still_told(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.services = {}
    assert terminal.run("history", "checkout") == 0
    assert "deployed v2" in terminal.out


@pytest.mark.parametrize("name", ["dec-1", "rb-1", "dep-1"])
def test_show_tells_the_whole_story_by_any_of_its_ids(daemon: Daemon, terminal: Terminal, name: str) -> None:
    assert terminal.run("show", name) == 0
    for word in (
        "ROLLBACK",
        "errors rose from 0.2% to 4.1%",
        "4.1% (95%: 3.0% to 5.2%), 1,200 samples",
        "at most once in 2,500 such watches",
        "other services are as they were",
        "no rollback in the last 10 min",
        "+1 min 29 s",
        "healthy for 60 s",
        "commit a1b2c3d4e5f6",
    ):
        assert word in terminal.out


def test_show_finds_by_the_end_of_an_id(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.decision_list = [decision("checkout-v2-rollback-20231114T221120-0b7d52aa")]
    assert terminal.run("show", "0b7d52aa") == 0
    assert "ROLLBACK" in terminal.out


def test_show_refuses_an_end_that_fits_two(daemon: Daemon, terminal: Terminal) -> None:
    other = msgspec.structs.replace(deployment("b-1234"), version="v3")
    daemon.backend.deployment_list = [deployment("a-1234"), other]
    assert terminal.run("show", "1234") == 1
    assert "more than one" in terminal.err


def test_show_finds_a_decision_that_no_list_reaches(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_service: str | None, _limit: int) -> list[object]:
        return []

    monkeypatch.setattr(daemon.backend, "decisions", none)
    monkeypatch.setattr(daemon.backend, "deployments", none)
    monkeypatch.setattr(daemon.backend, "rollbacks", none)
    assert terminal.run("show", "dec-1") == 0
    assert "ROLLBACK" in terminal.out


def test_show_of_something_unknown_is_refused(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("show", "nothing") == 1
    assert terminal.err.startswith("rollbackd: there is no deployment, decision or rollback `nothing`")


def test_show_of_an_undecided_deployment_tells_the_evidence_so_far(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.decision_list, daemon.backend.rollback_list = [], []
    assert terminal.run("show", "dep-1") == 0
    assert "under watch" in terminal.out
    assert "0.4 of 3.0" in terminal.out


@pytest.mark.parametrize("state", ["good", "superseded"])
def test_show_of_a_deployment_that_was_not_decided_about_tells_how_the_evidence_stood(
    daemon: Daemon, terminal: Terminal, state: WatchState
) -> None:
    ended = msgspec.structs.replace(deployment(), state=state, evidence=(evidence("latency", 1.2),))
    daemon.backend.deployment_list, daemon.backend.decision_list, daemon.backend.rollback_list = [ended], [], []
    assert terminal.run("show", "dep-1") == 0
    assert "Evidence at the end" in terminal.out
    assert "1.2 of 3.0" in terminal.out


def test_show_does_not_tell_the_evidence_of_a_decision_twice(daemon: Daemon, terminal: Terminal) -> None:
    condemned = msgspec.structs.replace(deployment(), state="condemned", evidence=(evidence(strength=3.4),))
    daemon.backend.deployment_list = [condemned]
    assert terminal.run("show", "dep-1") == 0
    assert terminal.out.count("1,200 samples") == 1


def test_rollback_goes_ahead_with_yes(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("rollback", "checkout", "--to", "v0", "--reason", "it smells", "--yes") == 0
    assert daemon.backend.rollback_list[0].to == "v0"
    assert daemon.backend.rollback_list[0].requested_by == "operator:alice"
    assert "rollbackd show rb-2" in terminal.out


@pytest.mark.parametrize(("typed", "planned"), [("y\n", 2), ("YES\n", 2), ("n\n", 1), ("\n", 1), ("", 1)])
def test_rollback_asks_first(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, typed: str, planned: int
) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    assert terminal.run("rollback", "checkout") == (0 if planned == 2 else 1)
    assert "from v2 to v1? [y/N]" in terminal.err
    assert len(daemon.backend.rollback_list) == planned


def test_rollback_to_a_release_that_was_condemned_says_so_before_it_asks(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = msgspec.structs.replace(deployment(), version="v3", standing="bad", reason="half of all requests failed")
    daemon.backend.deployment_list = [bad, deployment()]
    for to, told in (
        ("v3", "v3 is known to be bad: half of all requests failed\n"),
        ("v2", ""),
        ("v77", "v77 has not been seen in place since rollbackd watches\n"),
    ):
        monkeypatch.setattr("sys.stdin", Keyboard("n\n"))
        assert terminal.run("rollback", "checkout", "--to", to) == 1
        assert terminal.err.startswith(f"{told}Roll checkout back from v2 to {to}?")


class Interrupted(Keyboard):
    """Somebody who presses Ctrl-C instead."""

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]  # typeshed: StringIO says the same
        raise KeyboardInterrupt


@pytest.mark.parametrize(("keyboard", "code"), [(Keyboard(""), 1), (Interrupted(), 130)])
def test_leaving_the_question_ends_its_line_and_says_that_nothing_was_done(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, keyboard: Keyboard, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", keyboard)
    assert terminal.run("rollback", "checkout") == code
    assert terminal.err.endswith("[y/N] \nrollbackd: nothing was done\n")
    assert len(daemon.backend.rollback_list) == 1


def test_rollback_does_nothing_where_nobody_can_be_asked(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert terminal.run("rollback", "checkout") == 2
    assert len(daemon.backend.rollback_list) == 1


@pytest.mark.parametrize("name", ["nothing", "../../pause", "a b?c#d"])
def test_rollback_of_an_unknown_service_is_refused(daemon: Daemon, terminal: Terminal, name: str) -> None:
    assert terminal.run("rollback", name, "--yes") == 1
    assert f"there is no service `{name}`" in terminal.err


def test_a_refusal_is_told_in_the_daemons_words(daemon: Daemon, terminal: Terminal) -> None:
    daemon.backend.rollback_list = [msgspec.structs.replace(rollback(), state="reverting")]
    assert terminal.run("rollback", "checkout", "--yes") == 1
    assert terminal.err == "rollbackd: a rollback of `checkout` is running already: wait for it\n"


def test_pause_and_resume(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("pause", "checkout", "--reason", "migration") == 0
    assert daemon.backend.paused is not None
    assert (daemon.backend.paused.service, daemon.backend.paused.reason) == ("checkout", "migration")
    assert "rollbackd resume checkout" in terminal.out
    assert terminal.run("resume", "checkout") == 0
    assert daemon.backend.paused is None


def test_resuming_all_names_who_is_still_paused(daemon: Daemon, terminal: Terminal) -> None:
    """A service's own pause outlives the pause of all."""
    own = Pause(service="checkout", actor="bob", reason="migration", at=NOW)
    daemon.backend.services = {"checkout": service(paused=own), "search": service("search")}
    assert terminal.run("resume") == 0
    assert terminal.out == (
        "Acting again: all other services.\n"
        "checkout is still paused (migration): `rollbackd resume checkout` ends that.\n"
    )


def test_resuming_one_service_does_not_hide_the_pause_of_all(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resume(_service: str | None, _actor: str) -> None:
        daemon.backend.paused = Pause(service=None, actor="bob", reason="audit", at=NOW)

    monkeypatch.setattr(daemon.backend, "resume", resume)
    assert terminal.run("resume", "checkout") == 0
    assert "Acting again" not in terminal.out
    assert "All services are still paused (audit)" in terminal.out


@pytest.mark.parametrize("arguments", [["pause"], ["pause", "--reason", " "]])
def test_a_pause_needs_a_reason(daemon: Daemon, terminal: Terminal, arguments: list[str]) -> None:
    assert terminal.run(*arguments) == 2
    assert daemon.backend.paused is None


# -- for programs


def test_status_as_json_is_the_apis_answer(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("status", "--format", "json") == 0
    assert terminal.out == api(daemon, "/api/v1/status") + "\n"


@pytest.mark.parametrize("arguments", [["history"], ["show", "dec-1"]])
def test_histories_as_json_hold_the_apis_lists(daemon: Daemon, terminal: Terminal, arguments: Sequence[str]) -> None:
    assert terminal.run(*arguments, "--format", "json") == 0
    told = json.loads(terminal.out)
    assert list(told) == ["deployments", "decisions", "rollbacks"]
    for name, items in told.items():
        assert items == json.loads(api(daemon, f"/api/v1/{name}"))


def test_wishes_as_json_are_the_apis_answers(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.run("rollback", "checkout", "--yes", "--format", "json") == 0
    assert terminal.out == api(daemon, "/api/v1/rollbacks/rb-2") + "\n"
    for arguments in (["pause", "--reason", "x"], ["resume"]):
        assert terminal.run(*arguments, "--format", "json") == 0
        assert terminal.out == api(daemon, "/api/v1/status") + "\n"


# -- for every terminal

PAGES = [["status"], ["history"], ["show", "dec-1"]]


@pytest.mark.parametrize("arguments", PAGES)
@pytest.mark.parametrize("columns", [20, 50, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert terminal.run(*arguments) == 0
    assert max(len(line) for line in terminal.out.splitlines()) <= columns


@pytest.mark.parametrize("arguments", PAGES)
@pytest.mark.parametrize("columns", [50, 80, 120])
def test_lines_are_not_filled_up_with_blanks(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert terminal.run(*arguments) == 0
    assert [line for line in terminal.out.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize("arguments", PAGES)
def test_colours_are_for_terminals_and_for_those_who_ask(
    daemon: Daemon, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]
) -> None:
    terminal.run(*arguments)
    assert ESCAPE not in terminal.out
    terminal.run(*arguments, "--color", "always")
    assert re.search(ESCAPE + r"\[[0-9;]*3[12]", terminal.out)
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.run(*arguments)
    assert ESCAPE not in terminal.out


@pytest.mark.parametrize("arguments", PAGES)
def test_what_comes_from_outside_cannot_steer_the_terminal(
    daemon: Daemon, terminal: Terminal, arguments: Sequence[str]
) -> None:
    evil = f"v2{ESCAPE}[2J\x07\x9b31m\u202etxt.exe\r"
    daemon.backend.services = {"checkout": service(current=evil, problems=(evil,), watch=watch(evil))}
    bad = decision(reason=evil)
    bad = msgspec.structs.replace(bad, decision=msgspec.structs.replace(bad.decision, considered=(evil,)))
    daemon.backend.decision_list = [bad]
    daemon.backend.rollback_list = [msgspec.structs.replace(rollback(), reason=evil, to=evil)]
    assert terminal.run(*arguments) == 0
    assert not set(terminal.out) & {ESCAPE, "\x07", "\x9b", "\u202e", "\r"}
    assert "\N{REPLACEMENT CHARACTER}[2J" in terminal.out


def test_a_bar_looks_full_only_when_the_rule_convicts(daemon: Daemon, terminal: Terminal) -> None:
    for strength, full in ((2.99, 7), (3.0, 8)):
        near = msgspec.structs.replace(watch(), evidence=(evidence(strength=strength),))
        daemon.backend.services = {"checkout": service(watch=near)}
        terminal.run("status")
        line = next(line for line in terminal.out.splitlines() if "error_ratio" in line)
        assert line.count("▰") == full

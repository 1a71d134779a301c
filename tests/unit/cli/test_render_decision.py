"""A decision as a page, and a watch's end as a line."""

from __future__ import annotations

import io
from typing import get_args

import msgspec
import pytest
from rich.console import Console

from rollbackd.cli.render import THEME
from rollbackd.cli.render_decision import decision_text, watch_change_text
from rollbackd.model import Decision, GuardAnswer, WatchChange, WatchState
from tests.support.backend import NOW, decision, evidence


class _Ascii(io.StringIO):
    encoding = "ascii"


def printed(subject: Decision | WatchChange, width: int = 120, *, ascii_only: bool = False) -> str:
    file = _Ascii() if ascii_only else io.StringIO()
    console = Console(file=file, width=width, theme=THEME, markup=False, highlight=False)
    if isinstance(subject, Decision):
        decision_text(console, subject)
    else:
        watch_change_text(console, subject)
    return file.getvalue()


def test_the_page_says_what_when_why_and_what_else() -> None:
    page = printed(decision().decision, 200)
    for word in (
        "ROLLBACK",
        "checkout",
        "v2 → v1",
        "2023-11-14 22:11:20 UTC",
        "errors rose from 0.2% to 4.1%",
        "trouble began 22:10:00.0 (1 min 40 s later)",
        "3 min after the deployment",
        "by rule error_ratio",
        "other services are as they were",
        "no rollback in the last 10 min",
    ):
        assert word in page


def test_trouble_that_began_before_the_deployment_is_told_as_such() -> None:
    early = msgspec.structs.replace(evidence(), onset=NOW - 330)
    page = printed(msgspec.structs.replace(decision().decision, evidence=(early,)))
    assert "trouble began 22:07:50.0 (30 s before)" in page


@pytest.mark.parametrize(
    ("began", "told"), [(-11.0, "11 s before"), (-9.0, "with it"), (0.9, "with it"), (1.1, "1.1 s later")]
)
def test_trouble_that_began_within_a_sample_of_the_deployment_began_with_it(began: float, told: str) -> None:
    near = msgspec.structs.replace(evidence(), onset=NOW - 300 + began)
    page = printed(msgspec.structs.replace(decision().decision, evidence=(near,)))
    assert f"({told})" in page


def test_a_guard_that_refused_stands_out() -> None:
    refused = GuardAnswer(guard="freeze", verdict="hold", reason="frozen until Monday")
    page = printed(msgspec.structs.replace(decision().decision, action="hold", to=None, guards=(refused,)))
    assert "HOLD" in page
    assert "freeze: hold" in page
    assert "frozen until Monday" in page


def told(**changed: object) -> Decision:
    """A decision whose evidence knows everything there is to know."""
    whole = msgspec.structs.replace(
        evidence(strength=4.1),
        onset_between=(NOW - 210, NOW - 195),
        worse=0.012,
        harmed=46.4,
        chart=tuple((NOW - 600 + 20 * k, 0.002 if k < 20 else 0.041) for k in range(25)),
    )
    other = msgspec.structs.replace(evidence("latency"), summary="as fast as before")
    return msgspec.structs.replace(
        decision().decision, evidence=(msgspec.structs.replace(whole, **changed), other, evidence("level", 0.1))
    )


def section_of(page: str, title: str) -> list[str]:
    """The lines of a section, without its headline and indentation."""
    lines = page.splitlines()
    begin = lines.index(title) + 1
    end = next((k for k in range(begin, len(lines)) if lines[k][:1].strip()), len(lines))
    return [line.strip() for line in lines[begin:end] if line.strip()]


def test_what_happened_answers_the_questions_of_a_doubtful_engineer() -> None:
    happened = section_of(printed(told(), 120), "What happened")
    assert happened[-7:] == [
        "signal        requests",
        "usual         0.20%",
        "seen          4.1% (95%: 3.0% to 5.2%), 1,200 samples",
        "worse begins  above 1.2%",
        "began         22:10:00.0, 1 min 40 s after the deployment; between 22:09:50.0 and 22:10:05.0",
        "how sure      by chance at most once in 12,000 such watches, were requests independent "
        "(4.1 decades, 3.0 convict)",
        "harmed        about 46 requests failed beyond what is usual",
    ]
    assert any("worse 1.2% ┤╌╌╌" in line for line in happened)
    assert "▲ deployed" in "\n".join(happened)


def test_the_rule_that_convicted_is_not_told_twice() -> None:
    page = printed(told())
    others = "\n".join(section_of(page, "Evidence of the other rules"))
    assert "latency" in others
    assert "level" in others
    assert "error_ratio" not in others


def test_what_is_not_known_is_left_out() -> None:
    unknown = told(onset=None, onset_between=None, worse=None, harmed=None, chart=(), interval=None, samples=0.0)
    happened = section_of(printed(unknown), "What happened")
    assert [line.split("  ")[0] for line in happened] == ["signal", "usual", "seen", "how sure"]
    assert happened[2] == "seen      4.1%"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_page_fits_the_terminal(width: int, ascii_only: bool) -> None:
    page = printed(told(), width, ascii_only=ascii_only)
    assert all(len(line) <= width for line in page.splitlines())
    assert "worse 1.2%" in page
    assert page.isascii() == ascii_only


def test_a_bare_decision_has_no_empty_sections() -> None:
    page = printed(msgspec.structs.replace(decision().decision, evidence=(), considered=(), guards=()))
    assert not any(title in page for title in ("What happened", "Evidence", "Also considered", "Guards"))


def test_a_terminal_without_unicode_gets_ascii() -> None:
    page = printed(told(), ascii_only=True)
    assert page.isascii()
    assert "v2 -> v1" in page
    assert "#-------" in page


@pytest.mark.parametrize("state", get_args(WatchState))
def test_every_end_of_a_watch_has_its_words(state: WatchState) -> None:
    change = WatchChange(
        t=NOW, service="checkout", version="v2", previous="v1", deployed_at=NOW - 300, state=state, reason="that is why"
    )
    line = printed(change)
    assert line.startswith("2023-11-14 22:13:20 UTC  checkout  release v2")
    assert line.endswith(". that is why\n")
    assert ("(after v1)" in line) == (state == "opened")

"""The pages on commands and on their JSON say what there is, all of it and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from rollbackd.backtest.report import BacktestReport, Judgement, Summary
from rollbackd.cli import main
from rollbackd.demo.report import Moment, Report
from rollbackd.ledger.base import ConfigStamp, Pause, Step
from rollbackd.model import Decision, Evidence, GuardAnswer
from rollbackd.web import views
from tests.unit.cli.conftest import Terminal

DOCS = Path(__file__).parents[3] / "docs"
STRUCTS: tuple[type[msgspec.Struct], ...] = (
    views.StatusView,
    views.ServiceView,
    views.WatchView,
    views.SourceView,
    views.DeploymentView,
    views.DecisionView,
    Decision,
    Evidence,
    GuardAnswer,
    views.RollbackView,
    Step,
    Pause,
    ConfigStamp,
    BacktestReport,
    Judgement,
    Summary,
    Report,
    Moment,
)


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next of its kind."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no section {title}"
    return found[1]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: str(struct.__name__))
def test_every_field_is_documented(struct: type[msgspec.Struct]) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section("json.md", struct.__name__), re.MULTILINE)
    assert rows == [field.encode_name for field in msgspec.structs.fields(struct)]


@pytest.mark.parametrize("name", [name for name, _summary, _module in main.COMMANDS])
def test_every_command_and_each_of_its_options_is_documented(terminal: Terminal, name: str) -> None:
    assert terminal.run(name, "--help") == 0
    options = set(re.findall(r"--[a-z-]+", terminal.out)) - {"--help", "--url", "--token-file", "--color", "--format"}
    text = section("cli.md", name)
    assert [option for option in sorted(options) if option not in text] == []


def test_exit_codes_are_documented() -> None:
    codes = re.findall(r"^\| (\d+) \|", section("cli.md", "Exit codes"), re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "130", "141"]

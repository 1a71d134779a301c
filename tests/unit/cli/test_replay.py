"""`rollbackd replay`: decisions out of recordings, by the configuration that is named; clear words for bad input."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.conftest import Terminal

DEPLOYMENTS = (
    {"type": "deployment", "t": 1000.0, "service": "shop", "version": "v1", "phase": "finished"},
    {"type": "deployment", "t": 2000.0, "service": "shop", "version": "v2", "previous": "v1", "phase": "finished"},
)
ALERT = {"type": "alert", "t": 2010.0, "service": "shop", "name": "Down", "status": "firing", "severity": "critical"}
PROBES = [{"type": "probe", "t": 2010.0 + n, "service": "shop", "up": True, "duration": 0.1} for n in range(200)]


def recording(folder: Path, *more: object, name: str = "events.jsonl") -> Path:
    """A deployment of v2 with an alert that begins ten seconds later, and what else is given."""
    file = folder / name
    file.write_text("".join(json.dumps(event) + "\n" for event in (*DEPLOYMENTS, ALERT, *PROBES, *more)))
    return file


def test_the_decision_is_printed_as_one_json_object_a_line(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.run("replay", "--format", "json", str(recording(tmp_path))) == 0
    (line,) = terminal.out.splitlines()
    decision = json.loads(line)
    said = {name: decision[name] for name in ("service", "version", "action", "to", "rule")}
    assert said == {
        "service": "shop",
        "version": "v2",
        "action": "rollback",
        "to": "v1",
        "rule": "alert",
    }
    assert 2040 <= decision["t"] <= 2130
    assert "default policy" in terminal.err


def test_the_policy_of_the_named_configuration_is_the_judge(terminal: Terminal, tmp_path: Path) -> None:
    """And its secrets need not be readable where only the past is looked at."""
    config = tmp_path / "rollbackd.yaml"
    config.write_text(
        "notify: [webhook: {url: {env: NOT_SET_HERE}}]\nservices: {shop: {rules: {alert: {lasting: 20s}}}}\n"
    )
    file = str(recording(tmp_path))
    assert terminal.run("replay", "-c", str(config), "--format", "json", file) == 0
    assert json.loads(terminal.out)["t"] == 2030.0
    config.write_text("services: {shop: {rules: {alert: off}}}\n")
    assert terminal.run("replay", "-c", str(config), "--format", "json", file) == 0
    assert terminal.out == ""


def test_the_text_tells_the_story(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.run("replay", "--color", "never", str(recording(tmp_path))) == 0
    for word in ("v2", "v1", "rollback", "alert Down has been firing for "):
        assert word in terminal.out


def test_each_recording_is_judged_by_itself(terminal: Terminal, tmp_path: Path) -> None:
    files = [str(recording(tmp_path, name=name)) for name in ("a.jsonl", "b.jsonl")]
    assert terminal.run("replay", "--format", "json", *files) == 0
    first, second = terminal.out.splitlines()
    assert first == second


def test_several_recordings_end_with_one_line_over_all_of_them(terminal: Terminal, tmp_path: Path) -> None:
    files = [str(recording(tmp_path, name=name)) for name in ("a.jsonl", "b.jsonl")]
    assert terminal.run("replay", "--color", "never", *files) == 0
    last = terminal.out.splitlines()[-1]
    assert last == "2 recordings: 4 deployments watched, 2 rollback, 0 hold, 0 escalate."
    assert terminal.run("replay", "--color", "never", files[0]) == 0
    assert "recordings:" not in terminal.out


def test_a_bad_line_is_named_and_no_success_is_claimed(terminal: Terminal, tmp_path: Path) -> None:
    """What was decided before it is printed all the same."""
    file = recording(tmp_path, {"type": "probe", "t": 2300.0, "service": "shop", "up": "perhaps", "duration": 0})
    assert terminal.run("replay", "--format", "json", str(file)) == 1
    assert f"{file}:{len(PROBES) + 4}: up: expected `bool`, got `str`".replace("`", "") in terminal.err.replace("`", "")
    assert len(terminal.out.splitlines()) == 1


def test_what_cannot_be_read_is_said(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.run("replay", str(tmp_path / "no.jsonl")) == 1
    assert "no.jsonl: cannot be read: No such file or directory" in terminal.err
    assert terminal.run("replay", "-c", str(tmp_path / "no.yaml"), str(recording(tmp_path))) == 2
    assert "no such file" in terminal.err

"""Which policies a replay judges by."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Terminal

T = 1_700_000_000.0


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A deployment, and then twenty seconds of good probes."""
    lines = [f'{{"type": "deployment", "t": {T}, "service": "shop", "version": "v1", "phase": "finished"}}']
    lines += [
        f'{{"type": "requests", "t": {T + second}, "service": "shop", "total": 50, "errors": 0}}'
        for second in range(1, 21)
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_without_more_a_recording_is_judged_by_the_default_policy(recording: Path, terminal: Terminal) -> None:
    assert terminal.run("replay", str(recording)) == 0
    assert "good" not in terminal.out
    assert terminal.err == (
        "rollbackd: events.jsonl is judged by the default policy: "
        "there is no events.jsonl.yaml beside it, and -c names none\n"
    )


def test_a_configuration_beside_the_recording_is_used_and_named(recording: Path, terminal: Terminal) -> None:
    Path(f"{recording}.yaml").write_text("services: {shop: {bake: 10s, warmup: 1s}}\n")
    assert terminal.run("replay", str(recording)) == 0
    assert "release v1: good" in terminal.out
    assert terminal.err == "rollbackd: events.jsonl is judged by events.jsonl.yaml\n"


def test_a_configuration_that_is_asked_for_comes_first(recording: Path, terminal: Terminal, tmp_path: Path) -> None:
    Path(f"{recording}.yaml").write_text("services: {shop: {bake: 10s}}\n")
    (tmp_path / "mine.yaml").write_text("services: {shop: {bake: 1h}}\n")
    assert terminal.run("replay", "-c", str(tmp_path / "mine.yaml"), str(recording)) == 0
    assert "good" not in terminal.out
    assert terminal.err == ""

"""The benchmark of reverts: that it runs and what it says, not how fast anything is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.bench.running import patient, ran

pytestmark = patient


def measured(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return ran("revert", "--pairs", "1", "--json", *options, **variables)


@pytest.mark.parametrize(
    "on",
    [
        pytest.param("docker", marks=pytest.mark.needs("dockerd", "docker", "busybox")),
        pytest.param("kubernetes", marks=[pytest.mark.built("kubernetes"), pytest.mark.needs("etcd", "openssl")]),
    ],
)
def test_the_last_line_says_what_was_measured_against_what(on: str) -> None:
    ended = measured("--only", on)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found.keys() >= {"name", "unit", "ours", "peer", "ratio", "machine"}
    assert (found["name"], found["unit"]) == ("revert", "s")
    assert [row["platform"] for row in found["rows"]] == [on]
    assert all(0 < row[who]["accepted"] <= row[who]["settled"] for row in found["rows"] for who in ("ours", "peer"))


def test_what_is_not_there_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    ended = measured(PATH=str(tmp_path), ROLLBACKD_BUILT=str(tmp_path))
    assert ended.returncode == 1
    assert "swarm is left out: not installed: dockerd, docker, busybox" in ended.stderr
    assert "kubernetes is left out: not installed: etcd, openssl" in ended.stderr
    ended = measured("--only", "kubernetes", ROLLBACKD_BUILT=str(tmp_path))
    assert "left out: `make built` has not built it" in ended.stderr or "not installed" in ended.stderr

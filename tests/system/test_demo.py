"""The demo as a newcomer runs it: the right thing happens, and nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(240)

COMMAND = [sys.executable, "-m", "rollbackd"]
WITHIN_S = 180.0


class Place:
    """A folder for temporary files, and whatever runs with its name on the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(folder), "NO_COLOR": "1", "COLUMNS": "100"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The demo, in a session of its own as on a terminal of its own."""
        return subprocess.Popen(
            [*COMMAND, "demo", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[str]:
        """Command lines of processes that were started for this place."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.folder) in line:
                    found.append(line)
        return found

    def assert_clean(self) -> None:
        """Neither a process nor a file is left. One that was just killed may take a moment to be gone."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []
        assert list(self.folder.iterdir()) == []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tmp")


def perform(place: Place, *arguments: str) -> dict[str, Any]:
    """Run a demo to its end; its report."""
    with place.start("--json", *arguments) as demo:
        out, err = demo.communicate(timeout=WITHIN_S)
    assert (demo.returncode, err) == (0, ""), out + err
    place.assert_clean()
    report: dict[str, Any] = json.loads(out)
    assert report["ok"]
    assert len(out.splitlines()) == 1
    return report


@pytest.mark.parametrize(
    ("fault", "rules"),
    [
        ("latency", {"latency"}),
        ("crash", {"availability", "error_ratio", "traffic_loss", "log_signature"}),
        ("logs", {"log_signature"}),
    ],
)
def test_a_bad_release_is_caught_and_put_back(place: Place, fault: str, rules: set[str]) -> None:
    report = perform(place, "--fault", fault)
    assert report["decision"]["rule"] in rules
    assert (report["decision"]["version"], report["decision"]["to"]) == ("v2", "v1")
    assert 0 < report["detected_s"] < report["reverted_s"] < report["verified_s"]
    events = [moment["event"] for moment in report["timeline"]]
    assert [event for event in events if event != "first_bad_request"] == [
        "started",
        "good",
        "deployed",
        "detected",
        "reverted",
        "verified",
    ]


def test_a_good_release_is_accepted(place: Place) -> None:
    report = perform(place, "--fault", "none")
    assert report["accepted_s"] > 0
    assert report["failed_requests"] == 0
    assert [report[name] for name in ("detected_s", "reverted_s", "verified_s", "decision")] == [None] * 4


def test_errors_are_caught_and_a_recording_leads_to_the_same_decision(place: Place, tmp_path: Path) -> None:
    record = tmp_path / "events.jsonl"
    report = perform(place, "--record", str(record))
    assert report["decision"]["rule"] == "error_ratio"
    assert report["harmed_requests"] == report["failed_requests"] + report["slow_requests"] > 0
    assert 0 < report["first_bad_s"] < report["detected_s"]

    printed = [
        subprocess.run(
            [*COMMAND, "replay", "--format", "json", str(record)], capture_output=True, check=True, timeout=WITHIN_S
        ).stdout
        for _ in range(2)
    ]
    assert printed[0] == printed[1]
    (decision,) = [json.loads(line) for line in printed[0].splitlines()]
    assert decision == report["decision"]


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 3), (signal.SIGTERM, 1), (signal.SIGHUP, 1)]
)
def test_a_demo_that_is_stopped_leaves_nothing(place: Place, number: signal.Signals, times: int) -> None:
    """A signal to the whole group is what Ctrl-C does."""
    with place.start() as demo:
        assert demo.stdout is not None
        while "started  v1" not in (line := demo.stdout.readline()):
            assert line, "it ended before it was stopped"
        assert any("rollbackd run" in line for line in place.processes())
        for _ in range(times):
            os.killpg(demo.pid, number)
        _, err = demo.communicate(timeout=WITHIN_S)
    assert demo.returncode == 128 + number
    assert err == "rollbackd: the demo was stopped, and has cleaned up after itself\n"
    place.assert_clean()


def test_a_demo_that_is_killed_leaves_nothing(place: Place) -> None:
    with place.start() as demo:
        assert demo.stdout is not None
        while "started  v1" not in (line := demo.stdout.readline()):
            assert line, "it ended before it was killed"
        demo.kill()
        demo.communicate(timeout=WITHIN_S)
    deadline = time.monotonic() + 60
    while (place.processes() or any(place.folder.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.1)
    place.assert_clean()


def test_a_kept_folder_holds_the_logs_and_the_ledger(place: Place, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with place.start("--keep", str(kept)) as demo:
        assert demo.stdout is not None
        while "started  v1" not in (line := demo.stdout.readline()):
            assert line, "it ended before it was stopped"
        demo.terminate()
        demo.communicate(timeout=WITHIN_S)
    assert {"rollbackd.yaml", "rollbackd.log", "manager.log", "data", "shop"} <= {path.name for path in kept.iterdir()}
    place.assert_clean()


def test_an_existing_recording_is_not_overwritten(place: Place, tmp_path: Path) -> None:
    record = tmp_path / "mine.jsonl"
    record.write_text("precious")
    with place.start("--record", str(record)) as demo:
        _, err = demo.communicate(timeout=WITHIN_S)
    assert demo.returncode == 2
    assert "exists already" in err
    assert record.read_text() == "precious"


def test_a_folder_in_use_is_not_taken(place: Place, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with place.start("--keep", str(tmp_path / "used")) as demo:
        _, err = demo.communicate(timeout=WITHIN_S)
    assert demo.returncode == 2
    assert "not empty" in err

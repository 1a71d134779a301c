"""The systemd unit: systemd accepts it, and it stays locked down."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from rollbackd.web.connections import MOST, most_connections

UNIT = Path(__file__).parents[2] / "systemd/rollbackd.service"
HIGHEST_EXPOSURE = 15
"""In tenths of systemd's own scale from 0 (locked in) to 10 (open); the unit stood at 1.4 under systemd 252."""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists on this machine: systemd looks for it."""
    text = UNIT.read_text(encoding="utf-8")
    assert text.count("/opt/rollbackd/bin/rollbackd ") == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/rollbackd/bin/rollbackd ", "/bin/true "), encoding="utf-8")
    return copy


@pytest.mark.needs("systemd-analyze", "kill")
def test_systemd_finds_nothing_wrong(unit: Path) -> None:
    ran = analyze("verify", str(unit))
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_a_misspelt_setting(unit: Path) -> None:
    """Shows that the test above can fail: for systemd a misspelt setting is only a warning."""
    unit.write_text(unit.read_text(encoding="utf-8").replace("WatchdogSec=", "WatchDogSec="), encoding="utf-8")
    assert "WatchDogSec" in analyze("verify", str(unit)).stderr


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_locked_down(unit: Path) -> None:
    ran = analyze("security", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}", str(unit))
    assert ran.returncode == 0, ran.stdout[-2000:]


@pytest.mark.needs("systemd-analyze")
def test_a_unit_that_opens_up_is_noticed(unit: Path) -> None:
    opened = unit.read_text(encoding="utf-8").replace("CapabilityBoundingSet=\n", "").replace("User=rollbackd\n", "")
    unit.write_text(opened, encoding="utf-8")
    ran = analyze("security", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}", str(unit))
    assert ran.returncode != 0


def test_the_unit_speaks_the_protocols_that_the_daemon_speaks() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))
    assert settings["Type"] == "notify"
    assert settings["WatchdogSec"]
    assert settings["ExecReload"].endswith("kill -HUP $MAINPID")
    assert settings["ExecStart"].endswith("rollbackd run -c /etc/rollbackd/rollbackd.yaml")
    assert settings["StateDirectory"] == "rollbackd"


def test_callers_cannot_use_up_the_descriptors_that_the_unit_allows() -> None:
    allowed = re.findall(r"^LimitNOFILE=(\d+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert [most_connections(int(one)) for one in allowed] == [MOST]
    assert int(allowed[0]) > 4 * MOST

"""What the pages of senders say to try by hand is tried: the very lines, in a shell, against the real routes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path

import pytest

from rollbackd.fields import Secret
from tests.support.clock import ManualClock
from tests.support.deliveries import Known
from tests.support.website import build_intake, served

PAGES = Path(__file__).parents[3] / "docs/webhooks"
SETTINGS: dict[str, dict[str, object]] = {
    "github": {"secret": Secret(env="SECRET")},
    "gitlab": {"secret": Secret(env="SECRET")},
    "alertmanager": {},
    "grafana": {},
}


@pytest.mark.needs("curl")
@pytest.mark.needs("openssl")
@pytest.mark.parametrize("name", SETTINGS)
async def test_what_is_to_be_tried_by_hand_is_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "k3y")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", (PAGES / f"{name}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    intakes = {name: build_intake(name, Known(), SETTINGS[name])}
    async with served(intakes=intakes, clock=ManualClock(time.time())) as site:  # the shell's clock is the real one
        env = {"PATH": os.environ["PATH"], "SECRET": "k3y", "TOKEN": "ingest-secret", "ROLLBACKD_URL": site.server.url}
        shell = await asyncio.create_subprocess_exec(
            "sh", "-c", block, cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await shell.communicate()
        assert shell.returncode == 0, out + err
        assert json.loads(out) == {"accepted": 1, "duplicates": 0, "dropped": {}}

"""A real unit under a real systemd, watched through its journal alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollbackd.aiokit import SystemClock
from tests.support.docker import PROGRAMS, DockerEngine
from tests.support.inside import Inside
from tests.support.machine import Machine
from tests.support.talking import Talker, is_reverted


@pytest.mark.needs(*PROGRAMS, "debootstrap", "journalctl")
@pytest.mark.timeout(400)
async def test_what_a_unit_logs_takes_a_bad_release_back(engine: DockerEngine, tmp_path: Path) -> None:
    talker = Talker(tmp_path, "shop", nap="sleep 0.1")
    with Machine(engine, tmp_path, ("-v", f"{talker.folder}:/srv/shop:ro")) as machine:
        talker.restarts_by(f"docker --host {engine.host} exec {machine.name} systemctl restart shop.service")
        machine.write("shop.service", "exec /bin/sh /srv/shop/current/app")
        machine.sh("systemctl start shop.service")
        source = f"{{journald: {{unit: shop.service, directory: {machine.journal}}}}}"
        async with Inside(tmp_path, talker.block(source), clock=SystemClock()) as daemon:
            await is_reverted(daemon, talker)

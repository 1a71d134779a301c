"""Real containers of a good and then a bad image, watched through their output alone."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from rollbackd.aiokit import SystemClock
from tests.support.docker import PROGRAMS, DockerEngine
from tests.support.inside import Inside
from tests.support.talking import SCRIPTS, Talker, is_reverted


@pytest.mark.needs(*PROGRAMS)
async def test_what_a_container_prints_takes_a_bad_image_back(engine: DockerEngine, tmp_path: Path) -> None:
    talker = Talker(tmp_path, "shop", nap="usleep 100000")
    name = f"rollbackd-test-{uuid.uuid4().hex[:12]}"
    image = f"rollbackd-test/{name}"
    images = [engine.image(f"{image}:{version}") for version in SCRIPTS]
    run = f"run --detach --name {name} --network none --volume {talker.folder}:/srv:ro"
    release = f"$(basename $(readlink {talker.link}))"
    talker.restarts_by(
        f"docker --host {engine.host} rm --force {name} >/dev/null 2>&1",
        f"docker --host {engine.host} {run} {image}:{release} sh /srv/releases/{release}/app",
    )
    try:
        talker.restarted()
        source = f"{{docker_logs: {{image: {image}, host: '{engine.host}'}}}}"
        async with Inside(tmp_path, talker.block(source), clock=SystemClock()) as daemon:
            await is_reverted(daemon, talker)
    finally:
        engine.remove(name)
        engine.docker("rmi", "--force", *images)

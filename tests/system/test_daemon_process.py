"""The daemon as a process: how it starts, refuses to start, stops, and what it gives away."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import pytest
from aiohttp import web

from rollbackd.rollback.states import legal_journal
from tests.support.live import LiveDaemon, Site
from tests.support.servers import Server
from tests.support.waiting import eventually, eventually_async

STRICT = {"PYTHONWARNINGS": "default"}
"""Python then says what was left open or never awaited. Its development mode does so too, but has asyncio complain of
whatever took a tenth of a second, as it does on a busy machine."""


async def refused(*arguments: str | Path) -> tuple[int, str]:
    """Exit status and standard error of a daemon that must not start."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rollbackd", "run", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    assert out == b""
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_a_second_daemon_on_the_same_ledger_or_port_is_refused(tmp_path: Path) -> None:
    """It says whose the ledger is, or that the port is taken; the first one does not notice."""
    (tmp_path / "b").mkdir()
    site = Site(tmp_path)
    other = tmp_path / "b" / "other.yaml"
    async with LiveDaemon(site) as daemon:
        await daemon.ready()
        (status, said), (other_status, other_said) = await asyncio.gather(
            refused("-c", site.config), refused("-c", _on_another_ledger(site, other))
        )
        assert status == 1
        assert f"another rollbackd (pid {daemon.process.pid}) uses the ledger" in said
        assert other_status == 1
        assert f"cannot listen on 127.0.0.1:{site.port}: another process listens there" in other_said
        assert "Traceback" not in said + other_said
        assert (await daemon.ask("GET", "/readyz"))[0] == 200


def _on_another_ledger(site: Site, file: Path) -> Path:
    text = site.config.read_text().replace(f"data_dir: {site.home}/data", f"data_dir: {file.parent}/data")
    file.write_text(text.replace("release_dir: {path", "release_dir: {poll: 1s, path").replace(", poll: 100ms", ""))
    return file


async def test_a_configuration_that_cannot_be_used_exits_with_2_and_all_its_faults(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("lissen: 1\nservices:\n  shop:\n    bake: 30\n    metrix: http://x/metrics\n")
    (missing, said), (faulty, told) = await asyncio.gather(refused("-c", tmp_path / "no.yaml"), refused("-c", bad))
    assert (missing, faulty) == (2, 2)
    assert "no such file" in said
    for place in (":1: lissen", ":4: services.shop.bake", ":5: services.shop.metrix"):
        assert str(bad) + place in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_within_seconds_and_leaves_nothing_open(tmp_path: Path, number: signal.Signals) -> None:
    """With exit status 0, no task that was never awaited, and no socket or file that was left open."""
    site = Site(tmp_path)
    async with LiveDaemon(site, environment=STRICT) as daemon:
        await daemon.ready()
        await daemon.until_watching("v1")
        daemon.process.send_signal(number)
        assert await daemon.died() == 0
        for word in ("Warning", "Traceback", "never", "library_said", '"level": "error"'):
            assert word not in daemon.log, daemon.log
        assert '"event": "stopping"' in daemon.log


async def test_a_rollback_that_runs_when_the_daemon_stops_ends_after_the_next_start(tmp_path: Path) -> None:
    """Stopping is no fault of the target: nothing is escalated for it, and the restart command runs to its end."""
    site = Site(tmp_path)
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    site.restart.write_text(f"touch {begun}; while ! test -e {gate}; do sleep 0.02; done\n" + site.restart.read_text())
    async with LiveDaemon(site, environment=STRICT) as daemon:
        await daemon.ready()
        await daemon.until_watching("v1")
        site.deploy("v2")
        await daemon.until_watching("v2")
        status, _ = await daemon.post("/api/v1/services/shop/rollback", {})
        assert status == 202
        await eventually(begun.exists)
        daemon.process.send_signal(signal.SIGTERM)
        assert await daemon.died() == 0
        assert "escalated" not in daemon.log
        assert "Warning" not in daemon.log
    gate.touch()
    async with LiveDaemon(site) as again:
        await again.ready()
        rollback = await again.ended()
        assert rollback.state == "verified", rollback.steps
        assert legal_journal(rollback.steps)
        assert site.restarts == ["v1"]


async def test_systemd_is_told_when_it_is_ready_alive_and_stopping(tmp_path: Path) -> None:
    site, heard = Site(tmp_path), list[str]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        asyncio.get_running_loop().add_reader(ear, lambda: heard.extend(ear.recv(4096).decode().splitlines()))
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        async with LiveDaemon(site, environment=told) as daemon:
            await eventually(lambda: "READY=1" in heard)
            assert (await daemon.ask("GET", "/readyz"))[0] == 200, "ready means that it serves"
            await eventually(lambda: heard.count("WATCHDOG=1") >= 3)
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.died()
            await eventually(lambda: "STOPPING=1" in heard)
        asyncio.get_running_loop().remove_reader(ear)
    assert heard[:2] == ["READY=1", "STATUS=watching 1 services"]


SECRETS = {
    "token": "swordfish-token-0123456789abcdef",
    "bearer": "swordfish-bearer-0123456789abcdef",
    "hook": "swordfish-hook-0123456789abcdef",
    "scrape": "swordfish-scrape-0123456789abcdef",
    "env": "swordfish-env-0123456789abcdef",
}


async def test_secrets_are_given_away_nowhere(tmp_path: Path) -> None:
    """Not by the log at its most talkative, the API, the metrics, the page or the ledger, even as everything fails."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)

    async def echo(request: web.Request) -> web.StreamResponse:
        """A receiver that refuses everything, and says back what it was sent."""
        return web.Response(status=500, text=f"{request.path_qs} {dict(request.headers)}")

    async with Server(echo) as far:
        (tmp_path / "hook").write_text(far.url(f"/hooks/{SECRETS['hook']}?key={SECRETS['hook']}"))
        extra = (
            "log: {level: debug}\n"
            f"notify: [webhook: {{url: {{file: {tmp_path}/hook}}, bearer: {{file: {tmp_path}/bearer}}}}]"
        )
        site = Site(tmp_path, extra)
        text = site.config.read_text()
        token = f"tokens: [{{name: alice, token: {{file: {tmp_path}/token}}, scopes: [operate]}}]"
        text = text.replace("auth: {", f"auth: {{{token}, ")
        source = f"- scrape: {{url: '{far.url()}', bearer: {{file: {tmp_path}/scrape}}, interval: 200ms}}"
        text = text.replace("    sources:\n", f"    sources:\n      {source}\n")
        text = text.replace("poll: 100ms", f"poll: 100ms, env: {{KEY: {{file: {tmp_path}/env}}}}")
        site.config.write_text(text)
        site.restart.write_text("echo failed with $KEY >&2; exit 1\n")
        async with LiveDaemon(site) as daemon:
            await daemon.ready()
            await daemon.until_watching("v1")
            site.deploy("v2")
            await daemon.until_watching("v2")
            bearer = {"Authorization": f"Bearer {SECRETS['token']}"}
            status, _ = await daemon.ask("POST", "/api/v1/services/shop/rollback", {"reason": "test"}, bearer)
            assert status == 202
            wrong = {"Authorization": f"Bearer {SECRETS['token']}x"}
            assert (await daemon.ask("POST", "/api/v1/pause", {"reason": "x"}, wrong))[0] == 401

            async def failed() -> bool:
                return "notification_failed" in daemon.log and "target_trouble" in daemon.log

            await eventually_async(failed)
            paths = ["/", "/metrics", "/api/v1/status", "/api/v1/audit", "/api/v1/rollbacks", "/api/v1/openapi.json"]
            answers = b"\n".join([await daemon.get(path) for path in paths])
            assert b"alice" in answers
        kept = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
        for name, value in SECRETS.items():
            assert value not in daemon.log, (name, [line for line in daemon.log.splitlines() if value in line])
            assert value.encode() not in answers, name
            assert value.encode() not in kept, name

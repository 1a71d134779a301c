"""Credentials as they change: replaced tokens, programs that print them, client certificates."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import yaml
from aiohttp import web

from rollbackd.errors import Permanent, RollbackdError, Temporary
from rollbackd.kubernetes import plugin
from rollbackd.kubernetes.access import READ_AGAIN_S, Credentials
from rollbackd.kubernetes.api import Api
from rollbackd.kubernetes.kubeconfig import ClusterOptions
from rollbackd.kubernetes.objects import Thing
from tests.support.certificates import Authority
from tests.support.clock import ManualClock
from tests.support.waiting import eventually


def config(folder: Path, user: dict[str, object], cluster: dict[str, object] | None = None) -> ClusterOptions:
    content = {
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": cluster or {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return ClusterOptions(kubeconfig=path)


def program(folder: Path, body: str) -> dict[str, object]:
    path = folder / "credential"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./credential",
            "env": [{"name": "EXTRA", "value": "more"}],
        }
    }


def printed(**status: object) -> str:
    return msgspec.json.encode({"kind": "ExecCredential", "status": status}).decode()


async def token(credentials: Credentials) -> str:
    return (await credentials.access()).headers["Authorization"].removeprefix("Bearer ")


async def test_a_replaced_token_is_taken_over(tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "token").write_text("one\n")
    credentials = Credentials(config(tmp_path, {"tokenFile": "token"}), clock)
    first = await credentials.access()
    (tmp_path / "token").write_text("two\n")
    assert await token(credentials) == "one"
    await clock.advance(READ_AGAIN_S)
    assert await token(credentials) == "two"
    assert (await credentials.access()).tls is first.tls, "or every connection would be made anew"
    (tmp_path / "token").write_text("three\n")
    credentials.refused()
    assert await token(credentials) == "three"


async def test_a_token_with_a_line_break_in_it_is_not_sent(tmp_path: Path) -> None:
    credentials = Credentials(config(tmp_path, {"token": "ses\r\name: x"}), ManualClock())
    with pytest.raises(Permanent) as caught:
        await credentials.access()
    assert "ses" not in str(caught.value)


async def test_what_a_program_printed_is_kept_until_it_expires(tmp_path: Path) -> None:
    clock = ManualClock()
    said = printed(token="t-$n", expirationTimestamp="2023-11-14T22:43:20Z").replace('"', '\\"')
    user = program(tmp_path, f'echo x >> {tmp_path}/runs; n=$(wc -l < {tmp_path}/runs); echo "{said}"')
    credentials = Credentials(config(tmp_path, user), clock)
    assert await token(credentials) == "t-1"
    await clock.advance(60)
    assert await token(credentials) == "t-1"
    await clock.advance(1800)
    assert await token(credentials) == "t-2"
    credentials.refused()
    assert await token(credentials) == "t-3"


async def test_a_program_is_told_what_is_asked_of_it(tmp_path: Path) -> None:
    said = printed(token="t").replace('"', '\\"')
    user = program(tmp_path, f'echo "$KUBERNETES_EXEC_INFO $EXTRA" > {tmp_path}/asked; echo "{said}"')
    await Credentials(config(tmp_path, user), ManualClock()).access()
    asked, _, extra = (tmp_path / "asked").read_text().strip().rpartition(" ")
    assert msgspec.json.decode(asked) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    assert extra == "more"


@pytest.mark.parametrize(
    ("body", "told", "kind"),
    [
        ("echo no credentials here >&2; exit 3", "exit code 3: no credentials here", Temporary),
        ("echo '{}'", "printed no ExecCredential", Permanent),
        ('printf \'{"status": {"token": "\\377"}}\'', "printed no ExecCredential", Permanent),
        ("yes | head -c 9000000", "printed no ExecCredential", Permanent),
        (f"echo '{printed()}'", "neither a token nor a certificate", Permanent),
        ("kill -9 $$", "exit code -9", Temporary),
    ],
)
async def test_a_program_that_fails_is_told(tmp_path: Path, body: str, told: str, kind: type[RollbackdError]) -> None:
    with pytest.raises(kind, match=told):
        await Credentials(config(tmp_path, program(tmp_path, body)), ManualClock()).access()


async def test_a_program_that_hangs_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "WITHIN_S", 0.3)
    user = program(tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(Temporary, match="took longer than"):
        await Credentials(config(tmp_path, user), ManualClock()).access()
    child = int((tmp_path / "child").read_text())
    await eventually(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    user: dict[str, object] = {"exec": {"command": "./missing"}}
    with pytest.raises(Permanent, match="credential plugin missing: No such file"):
        await Credentials(config(tmp_path, user), ManualClock()).access()


# -- certificates


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[str, Authority]]:
    """A server that wants a certificate of its authority, and says whose it got."""
    authority = Authority(folder)
    pair = authority.signed("server")
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.cert))
    trust.load_cert_chain(pair.cert, pair.key)
    trust.verify_mode = ssl.CERT_REQUIRED

    async def who(request: web.Request) -> web.Response:
        assert request.transport is not None
        shown = request.transport.get_extra_info("peercert")["subject"][0][0][1]
        return web.json_response({"metadata": {"name": shown}})

    app = web.Application()
    app.router.add_get("/who", who)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"https://127.0.0.1:{port}", authority
    finally:
        await runner.cleanup()


def b64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()


@pytest.mark.needs("openssl")
async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as (url, authority):
        pair = authority.signed("robot")
        user: dict[str, object] = {"client-certificate-data": b64(pair.cert), "client-key-data": b64(pair.key)}
        trusted: dict[str, object] = {"server": url, "certificate-authority-data": b64(authority.cert)}
        api = Api(Credentials(config(tmp_path, user, trusted), ManualClock()), 5)
        assert (await api.get("/who", Thing, "who")).metadata.name == "robot"
        await api.close()


@pytest.mark.needs("openssl")
async def test_a_program_may_print_a_certificate(tmp_path: Path) -> None:
    async with serving(tmp_path) as (url, authority):
        pair = authority.signed("robot")
        said = printed(clientCertificateData=pair.cert.read_text(), clientKeyData=pair.key.read_text())
        (tmp_path / "said").write_text(said)
        user = program(tmp_path, f"cat {tmp_path}/said")
        api = Api(
            Credentials(config(tmp_path, user, {"server": url, "certificate-authority": "ca.pem"}), ManualClock()), 5
        )
        assert (await api.get("/who", Thing, "who")).metadata.name == "robot"
        await api.close()


@pytest.mark.needs("openssl")
async def test_a_server_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (url, _):
        other = Authority(tmp_path, "other")
        trusted: dict[str, object] = {"server": url, "certificate-authority": str(other.cert)}
        api = Api(Credentials(config(tmp_path, {"token": "sesame"}, trusted), ManualClock()), 5)
        with pytest.raises(Temporary, match="certificate is not accepted"):
            await api.get("/who", Thing, "who")
        await api.close()


@pytest.mark.needs("openssl")
async def test_a_certificate_with_anothers_key_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.signed("one"), authority.signed("other")
    user: dict[str, object] = {"client-certificate": str(one.cert), "client-key": str(other.key)}
    with pytest.raises(Permanent, match="are no PEM pair"):
        await Credentials(config(tmp_path, user), ManualClock()).access()

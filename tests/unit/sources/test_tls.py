"""Certificates that are shown, trusted, exchanged and broken, against a real TLS server."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rollbackd.sources.http import HttpClient, HttpOptions, Unreachable
from rollbackd.sources.tls import Tls
from tests.support.certificates import Authority, Pair, mutual_tls_server, openssl

pytestmark = pytest.mark.needs("openssl")


def options(authority: Authority, shown: Pair | None = None, **more: object) -> HttpOptions:
    pair = {"cert_file": shown.cert, "key_file": shown.key} if shown is not None else {}
    return HttpOptions.model_validate({"tls": {"ca_file": authority.cert, **pair, **more}})


async def asked(client: HttpClient) -> int:
    async with client.ask("GET", "*/*", follow=False) as answer:
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"ok"
        return answer.status


async def fault(url: str, settings: HttpOptions) -> Unreachable:
    async with HttpClient(url, settings, 5.0) as client:
        with pytest.raises(Unreachable) as caught:
            await asked(client)
    return caught.value


async def test_a_certificate_is_shown_where_one_is_asked_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.signed("rollbackd")
    both = tmp_path / "both.pem"
    both.write_bytes(client.cert.read_bytes() + client.key.read_bytes())
    with mutual_tls_server(authority.signed("server"), authority.cert) as (url, came):
        for settings in (options(authority, client), options(authority, Pair(both, both)), options(authority, client)):
            async with HttpClient(url, settings, 5.0) as http:
                assert await asked(http) == 200
        unchecked = HttpOptions(tls=Tls(verify=False, cert_file=both))
        async with HttpClient(url, unchecked, 5.0) as http:
            assert await asked(http) == 200
    assert came == ["rollbackd"] * 4


async def test_without_one_or_with_a_strangers_it_is_refused_with_the_cure(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    with mutual_tls_server(authority.signed("server"), authority.cert) as (url, came):
        bare = await fault(url, options(authority))
        assert "asks for a certificate: set `tls.cert_file` and `tls.key_file`" in str(bare)
        other = await fault(url, options(authority, stranger.signed("me")))
        assert "does not accept the certificate in `tls.cert_file`" in str(other)
        assert not bare.own_fault
        assert not other.own_fault
    assert came == []


async def test_a_connection_is_used_again_until_the_certificate_is_exchanged(tmp_path: Path) -> None:
    """Keys are rotated while the daemon runs: the next request shows the new one."""
    authority = Authority(tmp_path)
    old, new = authority.signed("old"), authority.signed("new")
    with mutual_tls_server(authority.signed("server"), authority.cert) as (url, came):
        async with HttpClient(url, options(authority, old), 5.0) as http:
            await asked(http)
            context = http._certificates.context()
            await asked(http)
            assert http._certificates.context() is context
            new.key.replace(old.key)
            new.cert.replace(old.cert)
            await asked(http)
            old.cert.unlink()
            with pytest.raises(Unreachable, match=r"cannot read `tls\.cert_file`"):
                await asked(http)
    assert came == ["old", "old", "new"]


async def test_files_that_are_no_good_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, other = authority.signed("good"), authority.signed("other")
    locked, text = tmp_path / "locked.key", tmp_path / "text.pem"
    openssl("pkey", "-in", good.key, "-aes256", "-passout", "pass:hunter2", "-out", locked)
    text.write_text("no certificate at all")
    url = "https://127.0.0.1:1/"
    faults = {
        "is locked with a passphrase: give it without one": Pair(good.cert, locked),
        "does not belong to the certificate": Pair(good.cert, other.key),
        "hold no certificate and its key in PEM": Pair(text, text),
        "cannot read `tls.key_file`": Pair(good.cert, tmp_path / "none"),
        "cannot read `tls.cert_file`": Pair(tmp_path / "none", good.key),
    }
    for words, pair in faults.items():
        found = await fault(url, options(authority, pair))
        assert words in str(found)
        assert found.own_fault


def test_a_key_alone_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="`key_file` is the key of a certificate"):
        Tls(key_file=tmp_path / "key.pem")

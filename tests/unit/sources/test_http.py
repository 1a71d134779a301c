"""Reading answers piece by piece: every byte once, in pieces of bounded size."""

from __future__ import annotations

import asyncio
import gzip
import os
from pathlib import Path

import pytest
from yarl import URL

from rollbackd.sources.http import CHUNK_BYTES, HttpClient, HttpOptions, Unreachable, within_origin
from tests.support.servers import Server, text


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_arrives_whole_in_bounded_pieces(compressed: bool) -> None:
    """Of any size around the bound, where a decompressor's room is used up in the middle of what it does."""
    sizes = [0, 1, *(multiple * CHUNK_BYTES + more for multiple in (1, 3) for more in (-258, -1, 0, 1, 2, 100, 258))]
    async with Server(text("")) as server, HttpClient(server.url(), HttpOptions(), 5.0) as client:
        for size in sizes:
            body = b"\n" * size
            server.handler = text(gzip.compress(body), Content_Encoding="gzip") if compressed else text(body)
            async with client.ask("GET", "*/*", follow=False) as answer:
                pieces = [piece async for piece in answer.chunks()]
            assert b"".join(pieces) == body
            assert max(map(len, pieces), default=0) <= CHUNK_BYTES


@pytest.mark.parametrize(
    ("asked", "url", "stays"),
    [
        ("http://a/metrics", "http://a:80/other", True),
        ("http://a/metrics", "https://a/metrics", True),
        ("http://a:80/metrics", "https://a:443/metrics", True),
        ("https://a:8443/x", "https://a:8443/y", True),
        ("https://a/metrics", "http://a/metrics", False),
        ("http://a/metrics", "https://a:8443/metrics", False),
        ("http://a:8080/metrics", "https://a/metrics", False),
        ("http://a:8080/metrics", "http://a:8081/metrics", False),
        ("http://a/metrics", "http://b/metrics", False),
    ],
)
def test_a_redirect_stays_where_its_credentials_belong(asked: str, url: str, stays: bool) -> None:
    assert within_origin(URL(asked), URL(url)) is stays


async def test_a_credential_whose_file_system_hangs_is_a_fault_of_our_side(tmp_path: Path) -> None:
    """And holds up nothing else: reading a pipe waits for a writer, which stands for the file system here."""
    pipe = tmp_path / "token"
    os.mkfifo(pipe)
    options = HttpOptions.model_validate({"bearer": {"file": str(pipe)}})
    async with Server(text("")) as server, HttpClient(server.url(), options, 0.05) as client:
        try:
            with pytest.raises(Unreachable, match="cannot be read in time") as caught:
                async with client.ask("GET", "*/*", follow=False):
                    pass
        finally:
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # lets the thread go
        assert caught.value.own_fault
        assert server.requests == []


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_large_body_leaves_turns_to_others(compressed: bool) -> None:
    """Also where a single packet holds all of it."""
    body, turns = b"\n" * (32 * CHUNK_BYTES), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    handler = text(gzip.compress(body), Content_Encoding="gzip") if compressed else text(body)
    async with Server(handler) as server, HttpClient(server.url(), HttpOptions(), 5.0) as client:
        counter = asyncio.create_task(count())
        try:
            async with client.ask("GET", "*/*", follow=False) as answer:
                at_piece = [turns async for _ in answer.chunks()]
        finally:
            counter.cancel()
    assert len(at_piece) >= 32
    assert len(set(at_piece)) == len(at_piece)

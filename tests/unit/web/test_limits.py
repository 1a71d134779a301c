"""Bodies too large, a bomb, too slow, broken off or of the wrong kind: each has its answer, and none is delivered."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from rollbackd.intake.base import Delivery, Intake, Reading
from rollbackd.web.body import INLINE_BYTES, Limits, _Inflater
from tests.support.deliveries import deployment
from tests.support.waiting import eventually
from tests.support.website import Site, authenticator, bearer, served

PATH = "/api/v1/deployments"
MOST = 256 * 1024
TELLING = json.dumps(deployment()).encode()
HEADERS = bearer("deploy") | {"Content-Type": "application/json"}


async def post(site: Site, body: object, **headers: str) -> tuple[int, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.client.post(PATH, data=body, headers=HEADERS | named) as response:
        return response.status, await response.json()


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TELLING)),
        ("x-gzip", gzip.compress(TELLING)),
        ("GZIP", gzip.compress(TELLING)),
        ("deflate", zlib.compress(TELLING)),
        ("deflate", raw_deflate(TELLING)),
        ("identity", TELLING),
    ],
    ids=["gzip", "x-gzip", "capitals", "zlib", "raw", "none"],
)
async def test_bodies_may_come_compressed(encoding: str, body: bytes) -> None:
    async with served() as site:
        assert await post(site, body, Content_Encoding=encoding) == (
            200,
            {"accepted": 1, "duplicates": 0, "dropped": {}},
        )


async def test_a_body_as_large_as_may_be_is_read_whole() -> None:
    body = TELLING + b" " * (MOST - len(TELLING))
    async with served() as site:
        assert (await post(site, body))[0] == 200
        assert (await post(site, gzip.compress(body), Content_Encoding="gzip"))[0] == 200
        for encoding, packed in (("gzip", gzip.compress(body + b" ")), ("deflate", zlib.compress(body + b" "))):
            assert (await post(site, packed, Content_Encoding=encoding))[0] == 413
        assert (await post(site, body + b" "))[0] == 413
    assert len(site.backend.actors) == 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_large_compressed_body_is_unpacked_beside_the_event_loop_and_whole(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[bool] = []
    rest = _Inflater.rest

    def watched(inflater: _Inflater, room: int) -> bytes:
        beside.append(threading.current_thread() is not threading.main_thread())
        return rest(inflater, room)

    monkeypatch.setattr(_Inflater, "rest", watched)
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    intake = Intake()
    intake.path, intake.max_bytes = "/hooks/large", 4 * INLINE_BYTES
    kept: list[bytes] = []

    def read(delivery: Delivery) -> Reading:
        kept.append(delivery.body)
        return Reading()

    monkeypatch.setattr(intake, "read", read)
    sizes = [INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, INLINE_BYTES + 2, 4 * INLINE_BYTES]
    async with served(intakes={"large": intake}, auth=authenticator(frozenset({"ingest"}))) as site:
        for size in sizes:
            headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
            body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            async with site.client.post("/hooks/large", data=pack(body), headers=headers) as response:
                assert response.status == 200
            assert kept.pop() == body
        assert beside
        assert all(beside)


async def test_a_body_that_announces_too_much_is_refused_before_it_is_sent() -> None:
    async with served() as site:
        reader, writer = await asyncio.open_connection(*site.server.address)
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(f"{head}\r\n".encode())
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 30)
        writer.close()
        await writer.wait_closed()


async def test_a_body_of_unannounced_length_is_cut_off_where_it_becomes_too_large() -> None:
    async def long() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b" " * 65536

    async with served() as site:
        status, told = await post(site, long())
        assert (status, told["error"]) == (413, "too_large")


async def test_a_compressed_body_that_never_becomes_anything_is_cut_off_too() -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield gzip.compress(b"", mtime=0)[:10]
        for _ in range(8):
            yield b"\x00\x00\x00\xff\xff" * 8192  # stored blocks without content

    async with served() as site:
        status, told = await post(site, nothing(), Content_Encoding="gzip")
        assert (status, told["error"]) == (413, "too_large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_refused_long_before_it_is_unpacked(encoding: str) -> None:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    assert len(bomb) < MOST
    async with served() as site:
        tracemalloc.start()
        try:
            status, told = await post(site, bomb, Content_Encoding=encoding)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (status, told["error"]) == (413, "too_large")
        assert peak < 10 * MOST
        assert site.backend.actors == []


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(TELLING)[:-6], gzip.compress(TELLING) + b"more", b""],
    ids=["plain", "cut off", "with a tail", "empty"],
)
async def test_what_is_not_compressed_as_promised_is_malformed(body: bytes) -> None:
    async with served() as site:
        status, told = await post(site, body, Content_Encoding="gzip")
        assert (status, told["error"]) == (400, "malformed")


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
async def test_an_encoding_that_is_not_understood_is_named_with_those_that_are(encoding: str) -> None:
    headers = HEADERS | {"Content-Encoding": encoding}
    async with served() as site, site.client.post(PATH, data=b"x", headers=headers) as response:
        assert response.status == 415
        assert response.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "nonsense"]
)
async def test_another_content_type_is_refused(kind: str) -> None:
    async with served() as site:
        status, told = await post(site, TELLING, Content_Type=kind)
        assert (status, told["error"]) == (415, "wrong_content_type")
        assert "application/json" in told["message"]


async def test_a_body_without_a_content_type_is_refused() -> None:
    async with (
        served() as site,
        site.client.post(PATH, data=TELLING, headers=bearer("deploy"), skip_auto_headers=["Content-Type"]) as response,
    ):
        assert response.status == 415


async def test_utf_8_may_be_stated() -> None:
    async with served() as site:
        assert (await post(site, TELLING, Content_Type="Application/JSON; charset=UTF-8"))[0] == 200


async def test_a_body_that_comes_too_slowly_is_given_up() -> None:
    never = asyncio.Event()

    async def dripping() -> AsyncIterator[bytes]:
        yield TELLING[:5]
        await never.wait()

    async with served(limits=Limits(body_timeout_s=0.05)) as site:
        status, told = await post(site, dripping())
        assert (status, told["error"]) == (408, "too_slow")
        assert site.backend.actors == []


async def test_a_body_that_breaks_off_is_not_delivered() -> None:
    async with served() as site:
        _reader, writer = await asyncio.open_connection(*site.server.address)
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(TELLING) + 9}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(f"{head}\r\n".encode() + TELLING)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await post(site, TELLING))[0] == 200
        assert len(site.backend.actors) == 1


async def test_no_more_bodies_are_received_at_once_than_allowed_and_the_rest_is_told_to_come_back() -> None:
    go = asyncio.Event()
    begun: list[int] = []

    async def waiting() -> AsyncIterator[bytes]:
        yield TELLING[:5]
        begun.append(1)
        await go.wait()
        yield TELLING[5:]

    async with served(limits=Limits(bodies_at_once=1)) as site:
        first = asyncio.create_task(post(site, waiting()))
        await eventually(lambda: begun)
        for _ in range(100):
            async with site.client.post(PATH, data=TELLING, headers=HEADERS) as response:
                if response.status == 503:
                    assert response.headers["Retry-After"] == "1"
                    break
        else:
            pytest.fail("the second body was never refused")
        go.set()
        assert (await first)[0] == 200
        assert (await post(site, TELLING))[0] == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "not JSON"),
        ("[]", "Expected `object`"),
        ("{}", "missing required field `reason`"),
        ('{"reason": ""}', r"at `$.reason`"),
        ('{"reason": "r", "servce": "checkout"}', "did you mean `service`"),
        ('{"reason": 7}', r"at `$.reason`"),
        ("", "not JSON"),
    ],
)
async def test_a_command_that_does_not_fit_is_refused_with_the_place(body: str, says: str) -> None:
    async with served() as site:
        headers = bearer("operate") | {"Content-Type": "application/json"}
        async with site.client.post("/api/v1/pause", data=body, headers=headers) as response:
            assert response.status == 400
            told = await response.json()
            assert told["error"] == "malformed"
            assert says in told["message"]
        assert site.backend.paused is None

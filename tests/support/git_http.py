"""A git server over https: git's own http-backend(1) behind a login, as a program of CGI."""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.certificates import Authority


class GitServer:
    """Serves the repositories below a folder to whoever knows the token; `refused` may read but not push."""

    def __init__(self, folder: Path, token: str) -> None:
        self._folder = folder
        self._login = "Basic " + b64encode(f"x-access-token:{token}".encode()).decode()
        self.refused = False
        self.cut_after_push = False
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != self._login:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        is_push = "git-receive-pack" in request.path_qs
        if is_push and self.refused:
            return web.Response(status=403, text="this token may only read")
        status, headers, body = await self._backend(request)
        if self.cut_after_push and request.method == "POST" and is_push:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status, headers=headers, body=body)

    async def _backend(self, request: web.Request) -> tuple[int, dict[str, str], bytes]:
        sent = await request.read()
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self._folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(sent)),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "rollbackd",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("git", "http-backend", stdin=pipe, stdout=pipe, env=environment)
        head, _, body = (await process.communicate(sent))[0].partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        return int(headers.pop("Status", "200").split()[0]), headers, body


@asynccontextmanager
async def git_server(root: Path, authority: Authority, token: str) -> AsyncIterator[GitServer]:
    """A running one, its certificate signed by this authority."""
    git = GitServer(root, token)
    pair = authority.signed("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    app = web.Application(client_max_size=10_000_000)
    # the body stays as it was sent: the backend undoes its compression
    app.router.add_route("*", "/{path:.*}", git.answer)
    server = TestServer(app, scheme="https", host="127.0.0.1")
    await server.start_server(ssl=context, auto_decompress=False)
    git.url = f"https://127.0.0.1:{server.port}"
    try:
        yield git
    finally:
        await server.close()

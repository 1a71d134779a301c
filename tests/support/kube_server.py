"""The small Kubernetes' API over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import yaml
from aiohttp import web

from tests.support.kube_controllers import Controllers
from tests.support.kube_rollout_controller import RolloutController
from tests.support.kube_store import NAMESPACE, Object, Refused, Store

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KubeServer:
    """One namespace of it. `misbehave` is asked first about each request, and answers instead where it wants to."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.store = Store()
        self.controllers = Controllers(self.store)
        self.rollouts = RolloutController(self.store)
        self.misbehave: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
        self.after_patch: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
        self.denied: set[str] = set()
        self.requests: list[str] = []
        self.patched: list[Object] = []
        self.watching: dict[asyncio.Task[None] | None, int] = {}
        self.busy = 0
        self._changed = asyncio.Event()
        self.store.listeners.append(self._changed.set)
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; again on the same port after `stop`."""
        app = web.Application(middlewares=[self._around])
        for prefix in (f"/api/v1/namespaces/{NAMESPACE}", f"/apis/{{group}}/{{version}}/namespaces/{NAMESPACE}"):
            app.router.add_get(f"{prefix}/{{plural}}", self._list)
            app.router.add_get(f"{prefix}/{{plural}}/{{name}}", self._get)
            app.router.add_patch(f"{prefix}/{{plural}}/{{name}}", self._patch)
            app.router.add_patch(f"{prefix}/{{plural}}/{{name}}/{{part}}", self._patch)
            app.router.add_delete(f"{prefix}/{{plural}}/{{name}}", self._delete)
        app.router.add_post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", self._review)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # aiohttp has no other way

    async def stop(self) -> None:
        """Listen no more, and end what is open."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def kubeconfig(self, path: Path) -> Path:
        """Write one that leads here."""
        content = {
            "current-context": "test",
            "clusters": [{"name": "small", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "tester", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "small", "user": "tester", "namespace": NAMESPACE}}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    @property
    def quiet(self) -> bool:
        """Whether every watch was told everything, and nothing else is being asked."""
        return not self.busy and all(at >= int(self.store.version) for at in self.watching.values())

    # -- requests

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_watch = "watch" in request.query
        self.requests.append(f"{request.method} {request.path}{' watch' if is_watch else ''}")
        self.busy += not is_watch
        try:
            if self.misbehave is not None and (answer := await self.misbehave(request)) is not None:
                return answer
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            self.controllers.run()
            self.rollouts.run()
            return await handler(request)
        except Refused as refused:
            return status(refused.code, refused.reason, str(refused))
        finally:
            self.busy -= not is_watch

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        if "watch" in request.query:
            return await self._watch(request, plural)
        found = [one for one in self.store.all(plural) if chosen(one, request)]
        at, limit = int(request.query.get("continue", "0")), int(request.query.get("limit", "500"))
        meta = {"resourceVersion": self.store.version}
        if at + limit < len(found):
            meta["continue"] = str(at + limit)
        return web.json_response({"metadata": meta, "items": found[at : at + limit]})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        at = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        me = asyncio.current_task()
        with suppress(ConnectionResetError):
            await response.prepare(request)
            try:
                while True:
                    self._changed.clear()
                    at = await self._tell(response, request, plural, at)
                    self.watching[me] = at
                    await self._changed.wait()
            except Refused as refused:
                gone = {"kind": "Status", "code": refused.code, "reason": refused.reason, "message": str(refused)}
                await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            finally:
                self.watching.pop(me, None)
        return response

    async def _tell(self, response: web.StreamResponse, request: web.Request, plural: str, at: int) -> int:
        until = int(self.store.version)
        for _, type_, changed in [*self.store.since(at, plural)]:
            if chosen(changed, request):
                await response.write(json.dumps({"type": type_, "object": changed}).encode() + b"\n")
        mark = {"kind": "X", "metadata": {"resourceVersion": str(until)}}
        await response.write(json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n")
        return until

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.store.get(request.match_info["plural"], request.match_info["name"]))

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json-patch+json":
            raise Refused(415, "UnsupportedMediaType", "this is no JSON Patch")
        plural, name = request.match_info["plural"], request.match_info["name"]
        operations = await request.json()
        part = request.match_info.get("part", "")
        if any(operation["path"].startswith("/status") is not bool(part) for operation in operations[1:]):
            raise Refused(422, "Invalid", "the status is changed by its subresource, and nothing else is")
        after = self.store.patch(plural, name, operations)
        self.patched.append(after)
        self.controllers.run()
        self.rollouts.run()
        if self.after_patch is not None and (answer := await self.after_patch(request)) is not None:
            return answer
        return web.json_response(after)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        plural, name = request.match_info["plural"], request.match_info["name"]
        asked = (await request.json()).get("preconditions", {})
        found = self.store.get(plural, name)
        if any(found["metadata"][field] != value for field, value in asked.items()):
            raise Refused(409, "Conflict", "the precondition does not hold")
        self.store.delete(plural, name)
        return web.json_response({})

    async def _review(self, request: web.Request) -> web.StreamResponse:
        wanted = (await request.json())["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
        allowed = f"{wanted['verb']} {resource}" not in self.denied
        return web.json_response({"status": {"allowed": allowed}}, status=201)


def chosen(found: Object, request: web.Request) -> bool:
    """Whether the request's selectors choose it (equality only)."""
    labels = found["metadata"].get("labels", {})
    wanted = [part.partition("=") for part in request.query.get("labelSelector", "").split(",") if part]
    if any(labels.get(name) != value for name, _, value in wanted):
        return False
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
    return not name or found["metadata"]["name"] == name


def status(code: int, reason: str, message: str) -> web.Response:
    """A refusal as the API server words it."""
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)

"""A small Argo CD to test against: one application with its history, whose syncs put manifests into a small Kubernetes.

It answers as server/application/application.go of argoproj/argo-cd v3 does: a rollback is refused while automated sync
is on or an operation is there; a patch is a JSON Patch of the whole application, whose tests fail with a 500; an
application that is not there is a 403. The real one is in tests/system/kubernetes/test_argocd.py.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.support.kube_server import KubeServer
from tests.support.kube_store import NAMESPACE, Object

TOKEN = "argo-5e1f9b2c"
APP = "shop-app"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(Exception):
    """What it answers instead."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class ArgoServer:
    """`misbehave` is asked first about each request; `after` sees each request that was answered.

    `commits` holds the manifests of each revision, `head` is what the branch points to.
    """

    def __init__(self, kube: KubeServer) -> None:
        self.kube = kube
        self.commits: dict[str, list[Object]] = {}
        self.head = ""
        self.app: Object = {
            "metadata": {"name": APP, "namespace": "argocd", "uid": "app-1", "annotations": {}},
            "spec": {
                "project": "default",
                "source": {"repoURL": "https://git.test/shop", "path": "app", "targetRevision": "HEAD"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": NAMESPACE},
                "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
            },
            "status": {"history": [], "resources": []},
        }
        self.others: dict[str, Object] = {}
        self.sets: dict[str, Object] = {}
        self._operations = 0
        self.can_sync = True
        self.denied: set[str] = set()
        self.requests: list[str] = []
        self.misbehave: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
        self.after: Callable[[web.Request], Awaitable[None]] | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(middlewares=[self._around])
        one = "/api/v1/applications/{name}"
        app.router.add_get("/api/v1/applications", self._list)
        app.router.add_get(one, self._get)
        app.router.add_patch(one, self._patch)
        app.router.add_get(f"{one}/manifests", self._manifests)
        app.router.add_get(f"{one}/syncwindows", self._windows)
        app.router.add_get(f"{one}/resource", self._resource)
        app.router.add_post(f"{one}/rollback", self._rollback)
        app.router.add_get("/api/v1/applicationsets/{name}", self._set)
        app.router.add_get("/api/v1/account/can-i/applications/{action}/{scope:.*}", self._can_i)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]  # aiohttp has no other way

    async def stop(self) -> None:
        """End what is open."""
        if self._runner is not None:
            await self._runner.cleanup()

    # -- what people and the controller do

    @property
    def automated(self) -> bool:
        """Whether it syncs by itself."""
        return "automated" in self.app["spec"].get("syncPolicy", {})

    def commit(self, revision: str, *manifests: Object) -> None:
        """Push to the branch, which automated sync puts in place."""
        self.commits[revision], self.head = list(manifests), revision
        self.run()

    def sync(self, revision: str, **changed: object) -> None:
        """What `argocd app sync` asks for."""
        source = {**self.app["spec"]["source"], **changed}
        self.app["operation"] = {"sync": {"revision": revision, "source": source}}

    def run(self, *, phase: str = "Succeeded") -> None:
        """The controller: syncs by itself where it should, and ends an operation with this phase."""
        history = self.app["status"]["history"]
        if "operation" not in self.app and self.automated and (not history or history[-1]["revision"] != self.head):
            self.sync(self.head)
        operation = self.app.pop("operation", None)
        if operation is None:
            return
        self._operations += 1
        state = {"phase": phase, "operation": operation, "message": f"it {phase}", "startedAt": f"t{self._operations}"}
        self.app["status"]["operationState"] = state
        if phase != "Succeeded":
            return
        sync = operation["sync"]
        for manifest in self.commits[sync["revision"]]:
            self._apply(manifest)
        number = history[-1]["id"] + 1 if history else 0
        entry = {"id": number, "revision": sync["revision"], "source": copy.deepcopy(sync["source"])}
        self.app["status"]["history"] = [*history, entry][-10:]

    def _apply(self, manifest: Object) -> None:
        name, kind = manifest["metadata"]["name"], manifest["kind"]
        group, _, version = manifest["apiVersion"].partition("/")
        plural = f"{kind.lower()}s"
        tracked = f"{APP}:{group}/{kind}:{NAMESPACE}/{name}"
        found = self.kube.store.objects.get((plural, name), {"metadata": {"name": name}})
        new = copy.deepcopy(found)
        notes = new["metadata"].setdefault("annotations", {})
        notes["argocd.argoproj.io/tracking-id"] = tracked
        new["spec"] = {**new.get("spec", {}), **copy.deepcopy(manifest["spec"])}
        self.kube.store.put(plural, new)
        for _ in range(2):
            self.kube.controllers.run()
            self.kube.rollouts.run()
        resource = {"group": group, "version": version, "kind": kind, "namespace": NAMESPACE, "name": name}
        if resource not in self.app["status"]["resources"]:
            self.app["status"]["resources"].append(resource)

    # -- requests

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if self.misbehave is not None and (answer := await self.misbehave(request)) is not None:
            return answer
        try:
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Fault(401, 16, "invalid session: token is malformed")
            answer = await handler(request)
        except Fault as fault:
            answer = fault_of(fault.status, fault.code, str(fault))
        if self.after is not None:
            await self.after(request)
        return answer

    def _found(self, request: web.Request) -> Object:
        name = request.match_info["name"]
        if name == APP:
            return self.app
        if name in self.others:
            return self.others[name]
        raise Fault(403, 7, "permission denied")

    async def _list(self, request: web.Request) -> web.StreamResponse:
        every = {APP: self.app, **self.others}
        found = every.get(request.query.get("name", ""))
        return web.json_response({"metadata": {}, "items": [found] if found is not None else None})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._found(request))

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        self._needs("update")
        body = await request.json()
        patched = copy.deepcopy(self._found(request))
        for operation in json.loads(body["patch"]):
            _apply_one(patched, operation)
        for part in ("spec", "metadata"):
            self.app[part] = patched[part]
        return web.json_response(self.app)

    async def _rollback(self, request: web.Request) -> web.StreamResponse:
        self._needs("sync")
        asked = await request.json()
        if self.automated:
            raise Fault(400, 9, "rollback cannot be initiated when auto-sync is enabled")
        entry = next((one for one in self.app["status"]["history"] if one["id"] == asked["id"]), None)
        if entry is None:
            raise Fault(400, 3, f"application {APP} does not have deployment with id {asked['id']}")
        if "operation" in self.app:
            raise Fault(400, 9, "another operation is already in progress")
        self.app["operation"] = {"sync": {"revision": entry["revision"], "source": entry["source"]}}
        self.app["status"].pop("operationState", None)
        return web.json_response(self.app)

    async def _manifests(self, request: web.Request) -> web.StreamResponse:
        self._found(request)
        revision = request.query["revision"]
        if revision not in self.commits:
            raise Fault(500, 2, f"failed to generate manifest: unable to resolve {revision}")
        return web.json_response({"manifests": [json.dumps(one) for one in self.commits[revision]]})

    async def _windows(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"canSync": self.can_sync})

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        asked = {part: request.query[part] for part in ("group", "version", "kind", "namespace")}
        asked["name"] = request.query["resourceName"]
        if asked not in self._found(request)["status"]["resources"]:
            raise Fault(400, 3, f"{asked['kind']} {asked['group']} {asked['name']} not found as part of application")
        live = self.kube.store.get(f"{asked['kind'].lower()}s", asked["name"])
        return web.json_response({"manifest": json.dumps(live)})

    async def _set(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["name"] not in self.sets:
            raise Fault(403, 7, "permission denied")
        return web.json_response(self.sets[request.match_info["name"]])

    async def _can_i(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"value": "no" if request.match_info["action"] in self.denied else "yes"})

    def _needs(self, action: str) -> None:
        if action in self.denied:
            raise Fault(403, 7, f"permission denied: applications, {action}, default/{APP}")


def fault_of(status: int, code: int, message: str) -> web.Response:
    """A refusal as grpc-gateway words it."""
    return web.json_response({"error": message, "code": code, "message": message}, status=status)


def _apply_one(target: Any, operation: Object) -> None:
    """One operation of RFC 6902: add, remove or test."""
    *folders, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    try:
        for folder in folders:
            target = target[int(folder) if isinstance(target, list) else folder]
        if operation["op"] == "test" and target[last] != operation["value"]:
            raise Fault(500, 2, f"error applying patch: testing value {operation['path']} failed: test failed")
        if operation["op"] == "remove":
            del target[last]
        elif operation["op"] == "add":
            target[last] = operation["value"]
    except (KeyError, IndexError):
        raise Fault(500, 2, f"error applying patch: {operation['path']}: missing value") from None

"""The road over Argo CD: the application that looks after a workload is rolled back by Argo CD's own API.

Argo CD refuses to roll back while it syncs by itself, and would undo the rollback if it did not. So automated sync is
turned off first, and stays off until somebody turns it on again: what git says is still the bad release.
Source: https://argo-cd.readthedocs.io/en/stable/user-guide/commands/argocd_app_rollback/ and Rollback and Patch in
server/application/application.go of argoproj/argo-cd.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec
import structlog

from rollbackd.aiokit import Clock
from rollbackd.errors import Conflict, Permanent, Temporary
from rollbackd.kubernetes.kinds import ROLLOUT, Kind
from rollbackd.kubernetes.refusals import without_values
from rollbackd.kubernetes.workloads import Workload
from rollbackd.targets.base import RevertOrder, TargetContext
from rollbackd.targets.disk import Disk
from rollbackd.targets.keys import Next, SpentKeys
from rollbackd.targets.kubernetes.argocd_above import find, parted, turns_on_again
from rollbackd.targets.kubernetes.argocd_api import ArgoApi, ArgoCDOptions, Query
from rollbackd.targets.kubernetes.argocd_history import History, Place
from rollbackd.targets.kubernetes.argocd_objects import (
    NOTE,
    Answer,
    Application,
    Live,
    Manifest,
    Note,
    Synced,
    Windows,
)
from rollbackd.targets.kubernetes.completion import Completion
from rollbackd.targets.kubernetes.owners import Keeper
from rollbackd.targets.kubernetes.road import Road
from rollbackd.targets.kubernetes.view import Look, View

INSTANCE = "app.kubernetes.io/instance"
"""The label by which Argo CD tracked by default before 3.0, and which Helm charts set as well."""
MOST_NAMED = 10

log: structlog.stdlib.BoundLogger = structlog.get_logger("rollbackd.targets.kubernetes")


class ArgoCD:
    """One Argo CD: who of its applications looks after a workload, and the road over that one."""

    def __init__(self, options: ArgoCDOptions, view: View, completion: Completion, context: TargetContext) -> None:
        self._api, self._view, self._completion, self._context = ArgoApi(options), view, completion, context

    def road(self, kept_by: Keeper) -> Road:
        """The road over one application."""
        return ArgoCDRoad(self._api, self._view, self._completion, self._context, kept_by.name)

    async def claims(self, workload: Workload) -> Keeper | None:
        """The application that the label INSTANCE names, where Argo CD says that it looks after this very workload.

        Raises Permanent where the token may not know.
        """
        tracked = workload.metadata.labels.get(INSTANCE, "")
        if not tracked:
            return None
        name, namespace = parted(tracked)
        app = await find(self._api, name, namespace)
        if app is None:
            scope = f"*/{namespace}/{name}" if namespace else f"*/{name}"
            if not await may(self._api, "get", scope):
                raise Permanent(
                    f"its label {INSTANCE} may name Argo CD application {name}, which the token may not see: "
                    "docs/targets/argocd.md lists the rights that are needed"
                )
            return None
        if not await looks_after(self._api, app, self._view.kind, workload):
            return None
        return Keeper("argocd", tracked)

    async def close(self) -> None:
        """Close every connection. Safe to call twice."""
        await self._api.close()


class ArgoCDRoad:
    """Orders are carried out on the application; what is in place is told by the workload."""

    def __init__(self, api: ArgoApi, view: View, completion: Completion, context: TargetContext, tracked: str) -> None:
        self._api, self._view, self._completion = api, view, completion
        self._clock: Clock = context.clock
        self._service = context.service
        self._disk: Disk = view.disk
        self._keys = SpentKeys(context.state_dir)
        self._name, self._namespace = parted(tracked)
        self._path = f"/api/v1/applications/{quote(self._name, safe='')}"
        self._query: Query = [("appNamespace", self._namespace)] if self._namespace else []
        self._history = History(api, self._path, self._query)
        self._what = f"application {self._name}"
        self._paused = f"the {view.kind.name} is paused, which a sync of Argo CD's does not change: resume it"

    # -- whether it would work

    async def problems(self, look: Look, to: str) -> list[str]:
        """What Argo CD says is in the way, and the rights that the token lacks."""
        found = [await self._disk.run(self._keys.problem), *await self._completion.problems()]
        try:
            app = await self._app()
            await self._check(app, look.workload)
            found += [await self._closed(), await turns_on_again(self._api, app) if app.is_automated else None]
            place = self._place(look.workload)
            await self._history.entry(app, look, place, to)
            for action in ("update", "sync"):
                if not await may(self._api, action, self._scope(app)):
                    found.append(
                        f"the token for Argo CD may not {action} {self._what}: "
                        "docs/targets/argocd.md lists the rights that are needed"
                    )
        except Permanent as error:
            found.append(str(error))
        if look.workload.spec.paused:
            found.append(self._paused)
        return [problem for problem in found if problem is not None]

    async def settled(self, _look: Look) -> bool:
        """Whether Argo CD's operation is over. Raises Permanent where it was our rollback and did not succeed."""
        app = await self._app()
        if app.under_way is not None:
            return False
        state, note = app.status.operation_state, app.note
        if state is None or note is None or state.phase not in ("Failed", "Error"):
            return True
        entry = next((one for one in app.status.history if one.id == note.id), None)
        sync = state.operation.sync
        if entry is None or sync is None or not sync.same(entry):
            return True
        words = without_values(" ".join(state.message.split()))[:300]
        raise Permanent(f"Argo CD could not roll {self._what} back: {words}")

    async def close(self) -> None:
        """Close every connection. Safe to call twice."""
        await self._api.close()

    # -- the revert

    async def carry_out(self, order: RevertOrder) -> None:
        """Go on from wherever the order is."""
        async with self._keys.exclusive(self._disk):
            app = await self._app()  # before the workload: an operation that is over by now has changed that already
            look = await self._view.look_to_revert(self._clock)
            if look.staged:
                raise Conflict(
                    "the Deployment is paused with a template that was never rolled out: somebody prepares it"
                )
            await self._check(app, look.workload)
            if self._is_accepted(order, app):
                await self._completion.carry_out(order)
                return
            mark = f"{app.metadata.uid} {app.newest}"
            try:
                step = await self._disk.run(lambda: self._keys.judge(order, look.version, mark))
            except Conflict:
                self._tell_what_stays(order, app)
                raise
            if step is Next.SWITCH:
                await self._switch(order, look, app, mark)
            elif step is Next.ADOPT:
                await self._disk.run(lambda: self._keys.begin(order, self._clock.now(), mark))
            if step is not Next.NOTHING:
                await self._completion.carry_out(order)
                await self._disk.run(lambda: self._keys.finish(order, self._clock.now()))

    @staticmethod
    def _is_accepted(order: RevertOrder, app: Application) -> bool:
        """Whether this order's rollback is under way: the workload is still what it was until Argo CD gets to it."""
        note, under_way = app.note, app.under_way
        if note is None or note.key != order.key or under_way is None or under_way.sync is None:
            return False
        entry = next((one for one in app.status.history if one.id == note.id), None)
        return entry is not None and under_way.sync.same(entry)

    async def _switch(self, order: RevertOrder, look: Look, app: Application, mark: str) -> None:
        if look.workload.spec.paused:
            raise Permanent(self._paused)
        if app.under_way is not None:
            raise Temporary(f"an operation on Argo CD {self._what} is running already")
        if app.is_automated and app.note is not None and app.note.key == order.key:
            raise Conflict(f"somebody turned auto-sync of {self._what} on again, which this revert had turned off")
        if (closed := await self._closed()) is not None:
            raise Temporary(closed)
        if app.is_automated and (why := await turns_on_again(self._api, app)) is not None:
            raise Permanent(why)
        entry = await self._history.entry(app, look, self._place(look.workload), order.to)
        await self._disk.run(lambda: self._keys.begin(order, self._clock.now(), mark))
        after = await self._prepared(order, app, entry)
        if after.newest != app.newest or after.under_way is not None:
            raise Temporary(f"Argo CD synced {self._what} meanwhile")
        body = {"name": self._name, "id": entry.id, "prune": False, "dryRun": False}
        await self._api.post(f"{self._path}/rollback", body | dict(self._query), self._what)
        self._tell(order, app, look.workload, entry)

    async def _prepared(self, order: RevertOrder, app: Application, entry: Synced) -> Application:
        """The application with automated sync off and a note of the order on it.

        The patch holds what it was worked out from: Argo CD refuses it where that is no longer so.
        """
        why = f"rollbackd: release {order.expect} of {self._service} was bad, and this went back to {order.to}"
        earlier = app.note.automated if app.note is not None else None
        note = Note(key=order.key, id=entry.id, why=why, automated=app.automated if app.is_automated else earlier)
        patch: list[Mapping[str, object]] = [
            {"op": "test", "path": "/metadata/uid", "value": app.metadata.uid},
        ]
        if app.status.operation_state is not None:
            began = app.status.operation_state.started_at
            patch.append({"op": "test", "path": "/status/operationState/startedAt", "value": began})
        if app.is_automated:
            patch += [
                {"op": "test", "path": "/spec/syncPolicy/automated", "value": app.automated},
                {"op": "remove", "path": "/spec/syncPolicy/automated"},
            ]
        if not app.metadata.annotations:
            patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
        noted = msgspec.json.encode(note).decode()
        patch.append({"op": "add", "path": f"/metadata/annotations/{NOTE.replace('/', '~1')}", "value": noted})
        body = {"name": self._name, "patchType": "json", "patch": msgspec.json.encode(patch).decode()}
        after = await self._api.patch(self._path, body | dict(self._query), Application, self._what)
        if after.is_automated:
            raise Temporary(f"auto-sync of {self._what} is still on, though it was turned off")
        if app.is_automated:
            self._tell_off("auto_sync_turned_off", order, app.automated or {})
        return after

    def _tell(self, order: RevertOrder, app: Application, workload: Workload, entry: Synced) -> None:
        mine = (self._view.kind.name, workload.metadata.namespace, workload.metadata.name)
        others = [
            f"{one.kind} {one.name}"
            for one in app.status.resources
            if (one.group == "apps" or (one.group, one.kind) == (ROLLOUT.group, ROLLOUT.name))
            and (one.kind, one.namespace, one.name) != mine
        ]
        log.info(
            "application_rolled_back",
            service=self._service,
            application=self._name,
            version=order.to,
            was=order.expect,
            entry=entry.id,
            revision=", ".join(entry.which),
            others=others[:MOST_NAMED],
            how_many_others=len(others),
        )

    def _tell_what_stays(self, order: RevertOrder, app: Application) -> None:
        """Somebody else deployed after this order turned automated sync off: that is theirs to turn on again."""
        note = app.note
        if note is not None and note.key == order.key and note.automated is not None and not app.is_automated:
            self._tell_off("auto_sync_stays_off", order, note.automated)

    def _tell_off(self, event: str, order: RevertOrder, automated: Mapping[str, object]) -> None:
        command = turn_on(self._name, self._namespace, automated)
        log.warning(
            event,
            service=self._service,
            application=self._name,
            key=order.key,
            until=f"a human turns it on again: {command}",
        )

    # -- what Argo CD says

    async def _app(self) -> Application:
        return await self._api.get(self._path, Application, self._what, self._query)

    async def _check(self, app: Application, workload: Workload) -> None:
        """Raises Permanent where the application does not look after this very workload."""
        if not await looks_after(self._api, app, self._view.kind, workload):
            raise Permanent(
                f"Argo CD {self._what} does not look after this {self._view.kind.name} {workload.metadata.name}, "
                "as its marks say: "
                "is `owners.argocd.url` the Argo CD of this cluster?"
            )

    async def _closed(self) -> str | None:
        """That sync windows allow no sync now, as a sentence."""
        windows = await self._api.get(f"{self._path}/syncwindows", Windows, self._what, self._query)
        if windows.can_sync:
            return None
        return f"the sync windows of {self._what} allow no sync now: wait, or let them allow `manualSync`"

    def _place(self, workload: Workload) -> Place:
        return Place(self._view.kind, workload.metadata.namespace, workload.metadata.name)

    def _scope(self, app: Application) -> str:
        """What its rights are given for."""
        inside = f"{self._namespace}/" if self._namespace else ""
        return f"{app.spec.project}/{inside}{self._name}"


async def may(api: ArgoApi, action: str, scope: str) -> bool:
    """Whether the token has this right on applications."""
    path = f"/api/v1/account/can-i/applications/{action}/{quote(scope, safe='/*')}"
    return (await api.get(path, Answer, "the token's rights")).value == "yes"


async def looks_after(api: ArgoApi, app: Application, kind: Kind, workload: Workload) -> bool:
    """Whether it is one of the application's resources, and not one of the same name in another cluster."""
    meta = workload.metadata
    if not app.lists(kind.group, kind.name, meta.namespace, meta.name):
        return False
    query = [
        ("group", kind.group),
        ("version", kind.version),
        ("kind", kind.name),
        ("namespace", meta.namespace),
        ("resourceName", meta.name),
        *([("appNamespace", app.metadata.namespace)] if app.metadata.namespace else []),
    ]
    what = f"{kind.name} {meta.name} of application {app.metadata.name}"
    live = await api.get(f"/api/v1/applications/{quote(app.metadata.name, safe='')}/resource", Live, what, query)
    try:
        return msgspec.json.decode(live.manifest, type=Manifest).metadata.uid == meta.uid
    except (msgspec.MsgspecError, RecursionError):
        raise Permanent(f"Argo CD's answer about {what} cannot be read") from None


def turn_on(name: str, namespace: str | None, automated: Mapping[str, object]) -> str:
    """The command that turns automated sync on again as it was."""
    options = {"prune": "--auto-prune", "selfHeal": "--self-heal", "allowEmpty": "--allow-empty"}
    extra = [option for field, option in options.items() if automated.get(field) is True]
    whole = f"{namespace}/{name}" if namespace else name
    return " ".join(["argocd app set", whole, "--sync-policy automated", *extra])

"""Who looks after an application itself, and would turn automated sync on again that we turned off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rollbackd.errors import Permanent
from rollbackd.targets.kubernetes.argocd_api import ArgoApi, Query
from rollbackd.targets.kubernetes.argocd_objects import Application, Applications, ApplicationSet, Ignored

GROUP, KIND = "argoproj.io", "Application"
_POINTERS = frozenset({"/spec/syncPolicy", "/spec/syncPolicy/automated"})
_PATHS = frozenset({".spec.syncPolicy", ".spec.syncPolicy.automated"})
CURE = "revert in the repository, as by `owners.git`"


async def turns_on_again(api: ArgoApi, app: Application) -> str | None:
    """Who would, and what cures it, as a sentence; None where nobody would by themselves."""
    for owner in app.metadata.owner_references:
        if owner.kind == "ApplicationSet":
            if (why := await _of_set(api, app, owner.name)) is not None:
                return why
        elif owner.controller:
            return f"{_is(app)} looked after by {owner.kind} {owner.name}, which may turn auto-sync on again: {CURE}"
    return await _of_parent(api, app)


async def _of_set(api: ArgoApi, app: Application, name: str) -> str | None:
    what = f"ApplicationSet {name}"
    query = [("appsetNamespace", app.metadata.namespace)] if app.metadata.namespace else []
    try:
        found = await api.get(f"/api/v1/applicationsets/{name}", ApplicationSet, what, query)
    except Permanent as error:
        return f"{_is(app)} made by {what}, which may turn auto-sync on again ({error}): {CURE}"
    policy = found.spec.sync_policy
    if policy is not None and policy.applications_sync in ("create-only", "create-delete"):
        return None
    rules = found.spec.ignore_application_differences
    if _ignored(one for one in rules if one.name in ("", app.metadata.name)):
        return None
    return (
        f"{_is(app)} made by {what}, which would turn auto-sync on again: {CURE}, or let the ApplicationSet's "
        "`ignoreApplicationDifferences` name the JSON pointer /spec/syncPolicy/automated"
    )


async def _of_parent(api: ArgoApi, app: Application) -> str | None:
    """An application of applications."""
    name, namespace = parent(app)
    if not name:
        return None
    above = await find(api, name, namespace)
    if above is None or not _lists(above, app) or not above.is_automated:
        return None
    rules = [one for one in above.spec.ignore_differences if _names(one, app)]
    options = above.spec.sync_policy.sync_options if above.spec.sync_policy is not None else ()
    if _ignored(rules) and "RespectIgnoreDifferences=true" in options:
        return None
    return (
        f"{_is(app)} itself synced by application {name}, which would turn auto-sync on again: {CURE}, or let its "
        "`ignoreDifferences` name /spec/syncPolicy/automated and set the sync option RespectIgnoreDifferences=true"
    )


def parent(app: Application) -> tuple[str, str | None]:
    """The name and namespace of the application that tracks this one; an empty name where none does."""
    meta = app.metadata
    tracked = meta.annotations.get("argocd.argoproj.io/tracking-id", "").partition(":")[0]
    labels = (meta.labels.get("argocd.argoproj.io/instance", ""), meta.labels.get("app.kubernetes.io/instance", ""))
    said = next((one for one in (tracked, *labels) if one), "")
    name, namespace = parted(said)
    return ("", None) if name == meta.name else (name, namespace)


def parted(tracked: str) -> tuple[str, str | None]:
    """Name and namespace of an application as tracking writes it.

    `name`, or `namespace_name` of one that is not in Argo CD's own namespace.
    """
    namespace, _, name = tracked.rpartition("_")
    return name, namespace or None


async def find(api: ArgoApi, name: str, namespace: str | None) -> Application | None:
    """The application; None where there is none that the token may read."""
    query: Query = [("name", name), *([("appNamespace", namespace)] if namespace else [])]
    found = await api.get("/api/v1/applications", Applications, f"application {name}", query)
    return next((one for one in found.items or () if one.metadata.name == name), None)


def _is(app: Application) -> str:
    return f"Argo CD application {app.metadata.name} is"


def _lists(above: Application, app: Application) -> bool:
    return above.lists(GROUP, KIND, app.metadata.namespace, app.metadata.name)


def _names(rule: Ignored, app: Application) -> bool:
    wanted = (GROUP, KIND, app.metadata.name, app.metadata.namespace)
    said = (rule.group, rule.kind, rule.name, rule.namespace)
    return all(one in ("*", "") or one == other for one, other in zip(said, wanted, strict=True))


def _ignored(rules: Iterable[Ignored]) -> bool:
    """Whether a rule passes over automated sync as a whole; any other rule we take for one that does not."""
    return any(_whole(one.json_pointers, _POINTERS) or _whole(one.jq_path_expressions, _PATHS) for one in rules)


def _whole(said: Sequence[str], known: frozenset[str]) -> bool:
    return any(one.strip() in known for one in said)

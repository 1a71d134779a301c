"""Whether what an old pod template needs is still there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rollbackd.kubernetes.api import METADATA_ONLY, Api, Forbidden, NotThere
from rollbackd.kubernetes.objects import Thing
from rollbackd.kubernetes.pods import Reference, Template, Volume

MOST = 50
"""How many things a template may name that are looked at, so that a look stays short."""


class Need(NamedTuple):
    """Something in the workload's namespace, by kind and name."""

    kind: str
    name: str


_PLURALS = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ServiceAccount": "serviceaccounts",
}


def needs(pod: Template) -> list[Need]:
    """What its pods would not start without, each once."""
    return list(dict.fromkeys(need for need in _all(pod) if need.name))[:MOST]


def _all(pod: Template) -> Iterator[Need]:
    spec = pod.spec
    yield Need("ServiceAccount", spec.service_account_name)
    for container in (*spec.init_containers, *spec.containers):
        for each in container.env_from:
            yield from _references(each.config_map_ref, each.secret_ref)
        for one in container.env:
            if one.value_from is not None:
                yield from _references(one.value_from.config_map_key_ref, one.value_from.secret_key_ref)
    for volume in spec.volumes:
        yield from _of_volume(volume)


def _of_volume(volume: Volume) -> Iterator[Need]:
    yield from _references(volume.config_map, None)
    if volume.secret is not None and not volume.secret.optional:
        yield Need("Secret", volume.secret.secret_name)
    if volume.persistent_volume_claim is not None:
        yield Need("PersistentVolumeClaim", volume.persistent_volume_claim.claim_name)
    for part in volume.projected.sources if volume.projected is not None else ():
        yield from _references(part.config_map, part.secret)


def _references(config_map: Reference | None, secret: Reference | None) -> Iterator[Need]:
    if config_map is not None and not config_map.optional:
        yield Need("ConfigMap", config_map.name)
    if secret is not None and not secret.optional:
        yield Need("Secret", secret.name)


async def missing(api: Api, namespace: str, pod: Template) -> list[str]:
    """What is gone, a sentence each. What we have no right to look at is taken to be there.

    Only metadata is asked for: what is in a Secret never comes here.
    """
    gone = []
    for need in needs(pod):
        path = f"/api/v1/namespaces/{namespace}/{_PLURALS[need.kind]}/{need.name}"
        try:
            await api.get(path, Thing, f"{need.kind} {need.name}", accept=METADATA_ONLY)
        except NotThere:
            gone.append(f"{need.kind} {need.name}, which it needs, is gone")
        except Forbidden:
            continue
    return gone

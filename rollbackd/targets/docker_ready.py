"""Whether containers of an earlier release could be made and started right now: what would stand in the way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rollbackd.docker.engine import EngineFault
from rollbackd.errors import Permanent
from rollbackd.targets.docker_engine import Docker, Listed
from rollbackd.targets.docker_shape import Host, Inspected
from rollbackd.targets.docker_swap import shape
from rollbackd.targets.kept_releases import Kept

MOST_OTHERS = 200
"""How many other containers are asked what they share: a list of them tells of networks alone."""
OTHERS_WITHIN_S = 2.0
"""How long all of them may take to answer; an engine takes a few milliseconds for each."""
_AT_ONCE = 8
_ID = re.compile(r"[0-9a-f]{64}")
SWARM_TASK = "com.docker.swarm.task.id"


async def problems(docker: Docker, to: Kept, members: Sequence[Inspected]) -> list[str]:
    """A sentence for each thing that is missing or in the way. Raises EngineFault where the engine does not answer."""
    try:
        wanted = shape(to).seen
        listed = await docker.containers()
        found = [
            *await _image(docker, to),
            *await _networks(docker, to, wanted),
            *await _joined(docker, to, wanted),
            *await _volumes(docker, to, wanted),
            *_ports(to, wanted, listed, members),
            *await _dependents(docker, listed, members),
        ]
    except EngineFault:
        raise
    except Permanent as error:
        return [str(error)]
    swarm = [f"container {one.shown} is a task of Swarm: use the target `swarm`" for one in members if _is_task(one)]
    return [*found, *swarm]


async def _image(docker: Docker, to: Kept) -> list[str]:
    if await docker.image(to.seen.image) is not None:
        return []
    return [f"the image of {to.version} is gone from this engine: pull {to.seen.reference} again, and keep it"]


async def _networks(docker: Docker, to: Kept, wanted: Inspected) -> list[str]:
    missing = (wanted.attached.networks or {}).keys() - await docker.networks()
    return [f"{to.version} was in network {name}, which is gone" for name in sorted(missing)]


async def _joined(docker: Docker, to: Kept, wanted: Inspected) -> list[str]:
    """Whether the containers are there in which it lived: their network, processes, shared memory or volumes."""
    joined = [(f"lived in the {part}", other) for part, other in _lives_in(wanted.host.network, wanted.host)]
    joined += [("had the volumes", one.partition(":")[0]) for one in wanted.host.volumes_from or ()]
    return [
        f"{to.version} {how} of container {_short(other)}, which is gone: it was made again, perhaps"
        for how, other in joined
        if await docker.container(other) is None
    ]


def _short(container: str) -> str:
    """An id as Docker's own programs show it; a name is left whole."""
    return container[:12] if _ID.fullmatch(container) else container


def _lives_in(network: str, host: Host) -> list[tuple[str, str]]:
    """What a container with this mode of network shares with which other, for as long as that is there."""
    modes = {"network": network, "processes (--pid)": host.pid, "shared memory (--ipc)": host.ipc}
    return [(part, mode.partition(":")[2]) for part, mode in modes.items() if mode.startswith("container:")]


async def _volumes(docker: Docker, to: Kept, wanted: Inspected) -> list[str]:
    names = {bind.partition(":")[0] for bind in wanted.host.binds or ()}
    names |= {str(one.get("Source", "")) for one in wanted.host.mounts or () if one.get("Type") == "volume"}
    named = {name for name in names if name and not name.startswith("/")}
    missing = named - await docker.volumes() if named else set()
    return [f"{to.version} had volume {name}, which is gone and would be made anew, empty" for name in sorted(missing)]


def _ports(to: Kept, wanted: Inspected, listed: Sequence[Listed], members: Sequence[Inspected]) -> list[str]:
    own = {member.id for member in members}
    found = []
    for other in listed:
        taken = {f"{port.number}/{port.kind}" for port in other.ports or () if port.number}
        if other.id not in own and (both := wanted.published & taken):
            found.append(f"{to.version} wants port {', '.join(sorted(both))} of the host, which {other.shown} has")
    if len(members) > 1 and wanted.published:
        found.append(f"{to.version} wants a port of the host, which only one of {len(members)} containers can have")
    return found


async def _dependents(docker: Docker, listed: Sequence[Listed], members: Sequence[Inspected]) -> list[str]:
    """Containers that live in one that is to be replaced: they would be cut off, or end with it.

    Who only has its volumes keeps them.
    """
    own = {member.id: member.shown for member in members}
    others = [one for one in listed if one.id not in own]
    answers = await _asked(docker, others[:MOST_OTHERS])
    found = []
    for other in others:
        seen = answers.get(other.id)
        for part, host in _lives_in(other.host.network, seen.host if seen is not None else Host()):
            if host in own:
                found.append(f"container {other.shown} shares the {part} of {own[host]}, and would lose it")
    return found


async def _asked(docker: Docker, others: Sequence[Listed]) -> Mapping[str, Inspected]:
    """What the engine shows of each, by id. Of whom it shows nothing, or not in time, nothing is known, and no more."""
    answers: dict[str, Inspected] = {}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(other: Listed) -> None:
        async with gate:
            with suppress(EngineFault, Permanent):
                if (seen := await docker.container(other.id)) is not None:
                    answers[other.id] = seen[0]

    with suppress(TimeoutError):
        async with asyncio.timeout(OTHERS_WITHIN_S), asyncio.TaskGroup() as group:
            for other in others:
                group.create_task(ask(other))
    return answers


def _is_task(member: Inspected) -> bool:
    return SWARM_TASK in member.labels

"""What a Docker engine answers, or whatever else listens on its address, as parsers."""

from __future__ import annotations

import msgspec

from rollbackd.docker.commands import Commands, Missing, Refused
from rollbackd.docker.engine import EngineFault
from rollbackd.errors import Permanent
from rollbackd.targets import docker_shape, swarm_service
from rollbackd.targets.docker_engine import ImageShown, Listed, as_type
from rollbackd.targets.docker_swap import clash
from rollbackd.targets.swarm_service import Shown, Task
from tests.fuzz.parser import Parser, few, pure

STATUSES = (400, 401, 404, 409, 429, 500)


def container(data: bytes) -> object:
    """`GET /containers/ID/json`, and what it takes to make that container again."""
    found, whole = docker_shape.decoded(data)
    shape = docker_shape.shape_of(found, whole)
    body = shape.body("shop:v1", {}, docker_shape.anonymous_volumes(found))
    assert len(shape.fingerprint) == 64
    assert msgspec.json.encode(body)
    clash(found, shape.seen)
    docker_shape.given(shape.config)
    return few(shape.networks), few(found.published), found.well, docker_shape.seconds(found.created) is None


def listed(data: bytes) -> object:
    """`GET /containers/json` and `GET /images/ID/json`."""
    image = as_type(data, ImageShown, "/images/ID/json") if data.lstrip()[:1] == b"{" else None
    return image is None or few(image.digests or ()), image or few(
        [one.shown for one in as_type(data, list[Listed], "/")]
    )


def service(data: bytes) -> object:
    """`GET /services`: is it the release that was asked for, and what would go back?"""
    outcomes = []
    for shown in as_type(data, list[Shown], "/services"):
        found = swarm_service.read(shown)
        back = swarm_service.reverted(found.whole, found, {})
        swarm_service.secrets(found.whole)
        assert msgspec.json.encode(back)
        outcomes.append((len(found.fingerprint), found.state[:8], found.digest is None, not found.mark))
    return outcomes[:2]


def tasks(data: bytes) -> object:
    """`GET /tasks`, beside a service that is as it should be."""
    (shown,) = as_type(SERVICE, list[Shown], "/services")
    found = as_type(data, list[Task], "/tasks")
    return few(found), swarm_service.in_place(found, swarm_service.read(shown))


def refusal(data: bytes) -> object:
    """The engine's own words, in which a secret of ours may stand."""
    engine = Commands("unix:///nobody.sock")
    engine.hidden |= {"sesame"}
    faults = [engine._fault(status, "POST", "/containers/1/start", data) for status in STATUSES]
    assert all("sesame" not in str(fault) and str(fault).isprintable() for fault in faults)
    return [type(fault) in (Missing, Refused, EngineFault) for fault in faults], len(str(faults[0])) > 60


CONTAINER = b"""{"Id": "0123456789abcdef", "Name": "/shop", "Image": "sha256:1",
"Created": "2026-11-24T10:00:00.123456789Z",
"State": {"Status": "running", "Running": true, "StartedAt": "2026-11-24T10:00:01Z", "Health": {"Status": "healthy"}},
"Config": {"Image": "shop:v1", "Hostname": "0123456789ab", "Env": ["TOKEN=sesame"], "Labels": {"a": "b"},
"Volumes": {"/d": {}}}, "HostConfig": {"NetworkMode": "web", "Links": ["/db:/shop/d"], "Binds": ["data:/data"],
"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
"Mounts": [{"Type": "volume", "Source": "%s", "Target": "/e"}]},
"Mounts": [{"Type": "volume", "Name": "%s", "Destination": "/d"}],
"NetworkSettings": {"Networks": {"web": {"Aliases": ["shop"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}}}"""
CONTAINER %= (b"0f" * 32, b"1e" * 32)

TEMPLATE = b"""{"ContainerSpec": {"Image": "shop:v1@sha256:%s", "Env": ["TOKEN=sesame"]}, "ForceUpdate": 1}""" % (
    b"0" * 64
)
SERVICE = b"""[{"ID": "1", "Version": {"Index": 7},
"Spec": {"Name": "shop", "Labels": {"a": "b"}, "TaskTemplate": %s, "Mode": {"Replicated": {"Replicas": 1}}},
"UpdateStatus": {"State": "completed", "StartedAt": "2026-11-24T10:00:00Z"}}]"""
SERVICE %= TEMPLATE
TASKS = b"""[{"Spec": %s, "DesiredState": "running",
"Status": {"State": "running", "ContainerStatus": {"ContainerID": "1"}}}]"""

DEEP = b'"Unknown": ' + b"[" * 800 + b"]" * 800 + b", "
"""What can be decoded, and is nested too deeply to be walked through."""

PARSERS = [
    Parser(
        "docker.container",
        ["rollbackd.targets.docker_shape"],
        pure(container),
        [CONTAINER, CONTAINER.replace(b'"Binds"', DEEP + b'"Binds"')],
        (Permanent,),
        "json",
    ),
    Parser(
        "docker.listed",
        ["rollbackd.targets.docker_engine"],
        pure(listed),
        [
            b'[{"Id": "1", "Names": ["/shop"], "Ports": [{"PublicPort": 80, "Type": "tcp"}]}]',
            b'{"Id": "sha256:1", "RepoDigests": ["shop@sha256:2"]}',
        ],
        (Permanent,),
        "json",
    ),
    Parser(
        "docker.refusal",
        ["rollbackd.docker.commands"],
        pure(refusal),
        [b'{"message": "no such container: sesame"}'],
        shape="json",
        words=[b"sesame"],
    ),
    Parser(
        "swarm.service",
        ["rollbackd.targets.swarm_service"],
        pure(service),
        [SERVICE, SERVICE.replace(b'"Labels"', DEEP + b'"Labels"')],
        (Permanent,),
        "json",
    ),
    Parser("swarm.tasks", ["rollbackd.targets.swarm_service"], pure(tasks), [TASKS % TEMPLATE], (Permanent,), "json"),
]

"""Where an API server is and who we are there, from a kubeconfig or from what a pod is given.

Sources: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and
https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/. As with kubectl, the first of the files in
$KUBECONFIG that defines a name wins, and relative paths are relative to the file they stand in.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from rollbackd.errors import ConfigError, Permanent, Temporary
from rollbackd.fields import Model

MAX_BYTES = 1024 * 1024
POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")

T = TypeVar("T", bound="_Named")


class ClusterOptions(Model):
    """Which API server to talk to, and as whom."""

    kubeconfig: Path | None = None
    """A kubeconfig file.

    Left out, the files that $KUBECONFIG names, else the service account of the pod that rollbackd runs in, else
    ~/.kube/config.
    """
    context: str | None = None
    """The context of the kubeconfig to use; left out, its current one."""


@dataclass(frozen=True)
class Plugin:
    """A program that prints credentials. `environment` is added to the daemon's own."""

    command: str
    args: tuple[str, ...]
    environment: Mapping[str, str]
    api_version: str
    tell_cluster: bool


@dataclass(frozen=True)
class Identity:
    """One API server and one user of it. `shown` says where both were found, for messages."""

    shown: str
    server: str
    namespace: str
    ca: bytes | None = None
    verify: bool = True
    server_name: str | None = None
    token: str | None = None
    token_file: Path | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    plugin: Plugin | None = None


def identity(options: ClusterOptions, environment: Mapping[str, str], pod_folder: Path = POD_FOLDER) -> Identity:
    """Who we are and where. Reads files. Raises ConfigError, Permanent or Temporary, naming the file."""
    if options.kubeconfig is not None:
        return _from_files([options.kubeconfig], options.context)
    if named := [Path(name) for name in environment.get("KUBECONFIG", "").split(os.pathsep) if name]:
        return _from_files([path for path in named if path.exists()] or named[:1], options.context)
    if in_pod(options, environment, pod_folder):
        return _of_pod(environment, pod_folder)
    home = environment.get("HOME")
    if home and (usual := Path(home, ".kube", "config")).exists():
        return _from_files([usual], options.context)
    raise ConfigError(
        "no Kubernetes credentials: rollbackd runs in no pod, and there is neither $KUBECONFIG nor ~/.kube/config; "
        "set `kubeconfig`"
    )


def in_pod(options: ClusterOptions, environment: Mapping[str, str], pod_folder: Path = POD_FOLDER) -> bool:
    """Whether it is the service account of the pod that rollbackd runs in."""
    named = options.kubeconfig is not None or any(environment.get("KUBECONFIG", "").split(os.pathsep))
    return not named and "KUBERNETES_SERVICE_HOST" in environment and (pod_folder / "token").exists()


def _of_pod(environment: Mapping[str, str], folder: Path) -> Identity:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    return Identity(
        shown="the pod's service account",
        server=f"https://{host}:{port}",
        namespace=read_small(folder / "namespace").decode("utf-8", "replace").strip() or "default",
        ca=read_small(folder / "ca.crt"),
        token_file=folder / "token",
    )


# -- the file


class _Named(msgspec.Struct):
    name: str


class _ClusterFields(msgspec.Struct, rename="kebab"):
    server: str = ""
    tls_server_name: str | None = None
    insecure_skip_tls_verify: bool = False
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None


class _Variable(msgspec.Struct):
    name: str
    value: str = ""


class _ExecFields(msgspec.Struct, rename="camel"):
    command: str
    api_version: str = "client.authentication.k8s.io/v1"
    args: list[str] | None = None
    env: list[_Variable] | None = None
    provide_cluster_info: bool = False


class _UserFields(msgspec.Struct, rename="kebab"):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    exec: _ExecFields | None = None
    username: str | None = None
    auth_provider: object = None
    impersonate: str | None = msgspec.field(default=None, name="as")


class _ContextFields(msgspec.Struct):
    cluster: str = ""
    user: str = ""
    namespace: str | None = None


class _Cluster(_Named):
    cluster: _ClusterFields
    folder: Path = Path()


class _User(_Named):
    user: _UserFields
    folder: Path = Path()


class _Context(_Named):
    context: _ContextFields


class _Config(msgspec.Struct, rename="kebab"):
    current_context: str | None = None
    clusters: list[_Cluster] | None = None
    users: list[_User] | None = None
    contexts: list[_Context] | None = None


def _from_files(paths: list[Path], wanted: str | None) -> Identity:
    where = f"kubeconfig {os.pathsep.join(map(str, paths))}"
    configs = [_parsed(path) for path in paths]
    name = wanted or next((one.current_context for one in configs if one.current_context), None)
    if name is None:
        raise ConfigError(f"{where}: has no current-context; set `context`")
    context = _find(where, "context", name, (one.contexts or [] for one in configs)).context
    cluster = _find(where, "cluster", context.cluster, (one.clusters or [] for one in configs))
    user = _find(where, "user", context.user, (one.users or [] for one in configs))
    return _identity(f"{where}, context {name}", cluster, user, context.namespace or "default")


def _identity(shown: str, cluster: _Cluster, user: _User, namespace: str) -> Identity:
    place, who = cluster.cluster, user.user
    if not place.server.startswith(("https://", "http://")):
        raise ConfigError(f"{shown}: the cluster's `server` is no URL")
    for field, value in (("auth-provider", who.auth_provider), ("username", who.username), ("as", who.impersonate)):
        if value is not None:
            raise ConfigError(f"{shown}: `{field}` is not supported; use a token, a client certificate or `exec`")
    certificate = _content(shown, user.folder, who.client_certificate_data, who.client_certificate)
    key = _content(shown, user.folder, who.client_key_data, who.client_key)
    if (certificate is None) != (key is None):
        raise ConfigError(f"{shown}: a client certificate needs its key, and a key its certificate")
    return Identity(
        shown=shown,
        server=place.server.rstrip("/"),
        namespace=namespace,
        ca=_content(shown, cluster.folder, place.certificate_authority_data, place.certificate_authority),
        verify=not place.insecure_skip_tls_verify,
        server_name=place.tls_server_name,
        token=who.token,
        token_file=user.folder / who.token_file if who.token_file else None,
        certificate=certificate,
        key=key,
        plugin=_plugin(who.exec, user.folder) if who.exec is not None else None,
    )


def _plugin(fields: _ExecFields, folder: Path) -> Plugin:
    command = fields.command
    if os.sep in command:
        command = str(folder / command)
    return Plugin(
        command=command,
        args=tuple(fields.args or ()),
        environment={one.name: one.value for one in fields.env or ()},
        api_version=fields.api_version,
        tell_cluster=fields.provide_cluster_info,
    )


def _find(where: str, kind: str, name: str, lists: Iterable[list[T]]) -> T:
    found = next((one for entries in lists for one in entries if one.name == name), None)
    if found is None:
        raise ConfigError(f"{where}: there is no {kind} called `{name}`")
    return found


def _parsed(path: Path) -> _Config:
    try:
        config = msgspec.convert(yaml.safe_load(read_small(path)) or {}, _Config)
    except (yaml.YAMLError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        # what the libraries say may quote the file, and with it a token
        raise ConfigError(f"kubeconfig {path}: is none ({type(error).__name__})") from None
    for entry in [*(config.clusters or ()), *(config.users or ())]:
        entry.folder = path.parent
    return config


def _content(shown: str, folder: Path, inline: str | None, file: str | None) -> bytes | None:
    if inline:
        try:
            return b64decode(inline, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{shown}: holds certificate data that is not base64") from None
    return read_small(folder / file) if file else None


def read_small(path: Path) -> bytes:
    """The content of a file of credentials. Raises Permanent or Temporary that names it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise Permanent(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise Temporary(f"{path}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise Permanent(f"{path}: larger than any file of credentials")
    return content

"""Credentials printed by a program, as cloud providers have it (client.authentication.k8s.io, "exec plugins").

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import asyncio
import os
import signal
from base64 import b64encode
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from rollbackd.errors import Permanent, Temporary
from rollbackd.kubernetes.kubeconfig import Identity, Plugin

WITHIN_S = 30.0
MAX_OUTPUT = 256 * 1024
_QUOTED = 200


class Credential(msgspec.Struct, rename="camel", frozen=True):
    """What a plugin printed."""

    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None

    @property
    def expires(self) -> float | None:
        """When it ends, in Unix seconds; None where that is not known."""
        return self.expiration_timestamp.timestamp() if self.expiration_timestamp is not None else None


class _Printed(msgspec.Struct):
    status: Credential


async def credential(identity: Identity, plugin: Plugin) -> Credential:
    """Run the plugin, at most WITHIN_S seconds. It gets the daemon's environment, as it does from kubectl.

    Raises Temporary where it fails or takes too long, Permanent where it is not there or prints something else.
    """
    name = Path(plugin.command).name
    environment = {**os.environ, **plugin.environment, "KUBERNETES_EXEC_INFO": _info(identity, plugin)}
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its arguments hold a NUL"
        raise Permanent(f"{identity.shown}: cannot run the credential plugin {name}: {reason}") from None
    try:
        async with asyncio.timeout(WITHIN_S):
            printed, complaint = await _output(process)
            code = await process.wait()
    except TimeoutError:
        raise Temporary(f"{identity.shown}: the credential plugin {name} took longer than {WITHIN_S:g} s") from None
    finally:
        await _end(process)
    if code != 0:
        raise Temporary(f"{identity.shown}: the credential plugin {name} ended with exit code {code}{complaint}")
    return _read(identity, name, printed)


async def _output(process: asyncio.subprocess.Process) -> tuple[bytes, str]:
    assert process.stdout is not None  # noqa: S101  both are pipes
    assert process.stderr is not None  # noqa: S101
    printed, complaint = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
    words = " ".join(complaint.decode("utf-8", "replace").split())[-_QUOTED:]
    shown = "".join(sign if sign.isprintable() else "?" for sign in words)
    return printed, f": {shown}" if shown else ""


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """The first MAX_OUTPUT bytes; the rest is read and thrown away, so that the program can end."""
    kept = bytearray()
    while piece := await stream.read(64 * 1024):
        kept += piece[: MAX_OUTPUT - len(kept)]
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing it started stays behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _read(identity: Identity, name: str, printed: bytes) -> Credential:
    try:
        found = msgspec.json.decode(printed, type=_Printed).status
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Permanent(f"{identity.shown}: the credential plugin {name} printed no ExecCredential") from None
    if not found.token and not (found.client_certificate_data and found.client_key_data):
        raise Permanent(f"{identity.shown}: the credential plugin {name} printed neither a token nor a certificate")
    return found


def _info(identity: Identity, plugin: Plugin) -> str:
    spec: dict[str, object] = {"interactive": False}
    if plugin.tell_cluster:
        cluster: dict[str, object] = {"server": identity.server, "insecure-skip-tls-verify": not identity.verify}
        if identity.ca is not None:
            cluster["certificate-authority-data"] = b64encode(identity.ca).decode()
        if identity.server_name is not None:
            cluster["tls-server-name"] = identity.server_name
        spec["cluster"] = cluster
    info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return msgspec.json.encode(info).decode()

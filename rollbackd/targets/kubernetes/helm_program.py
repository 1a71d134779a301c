"""The program `helm`: the history of one release, what each revision of it holds, and a rollback.

Everything is asked of the program itself, so that it works with whatever Helm 3 or 4 keeps its history in (Secrets,
unless HELM_DRIVER says otherwise). Source: https://helm.sh/docs/helm/, and for what states mean pkg/action/rollback.go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec
from pydantic import Field

from rollbackd.errors import Permanent, Temporary
from rollbackd.fields import Duration, Model
from rollbackd.kubernetes.kubeconfig import ClusterOptions, in_pod
from rollbackd.kubernetes.refusals import without_values
from rollbackd.targets.process import Commands, Environment, Finished, check

MAX_OUTPUT = 16 * 1024 * 1024
"""How much one revision's manifest may take. Helm keeps it packed in one object, which Kubernetes bounds at 1 MiB."""
MAX_REVISIONS = 256
READ_WITHIN_S = 30.0
GRACE_S = 30.0
"""How much longer than its own `--timeout` helm may run before it is ended."""

_RELEASE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,51}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LEADS_ASTRAY = re.compile(r"HELM_KUBE\w*|HELM_NAMESPACE|HELM_DEBUG|HELM_MAX_HISTORY")
"""Variables that would lead helm to another cluster or namespace than ours, or change what it prints and keeps."""
_WARNED = re.compile(r"^.*\bwarnings\.go:\d+\].*$", re.MULTILINE)
"""A warning as client-go's rest/warnings.go logs it in the words of a webhook or policy: these may quote values."""


class HelmOptions(Model):
    """How `helm` is run."""

    program: str = Field(default="helm", min_length=1, pattern=r"^[^\x00]*$")
    """The program: a name that is looked for in $PATH, or a path. Helm 3 and 4 are understood."""
    timeout: Duration = Field(default=300.0, ge=1)
    """How long a rollback and each of its hooks may take."""
    hooks: bool = True
    """Whether the chart's rollback hooks run, as they do with `helm rollback`."""
    env: Environment = {}
    """Variables for helm beside the daemon's own, such as HELM_DRIVER; a value may be a secret."""


class Entry(msgspec.Struct, frozen=True):
    """One revision in a release's history. `updated` is when it was begun."""

    revision: int
    status: str = ""
    description: str = ""
    updated: datetime | None = None

    @property
    def pending(self) -> bool:
        """Whether helm is at it, or died over it."""
        return self.status.startswith("pending-") or self.status == "uninstalling"

    @property
    def was_good(self) -> bool:
        """Whether Helm once called it deployed."""
        return self.status in ("deployed", "superseded")

    def age(self, now: float) -> float:
        """How many seconds ago it was begun."""
        return now - self.updated.timestamp() if self.updated is not None else float("inf")


class Helm:
    """One release of one cluster, by the program."""

    def __init__(self, options: HelmOptions, cluster: ClusterOptions, release: str, namespace: str) -> None:
        """Nothing is run yet. Raises Permanent for names that no release has."""
        if not _RELEASE.fullmatch(release) or not _NAMESPACE.fullmatch(namespace):
            raise Permanent("the workload's annotations meta.helm.sh/release-name and -namespace name no Helm release")
        self.release, self.namespace, self.timeout = release, namespace, options.timeout
        self._options, self._cluster = options, cluster
        self._commands = Commands(options.env, keep=MAX_OUTPUT, fit=_fit)

    def problem(self) -> str | None:
        """Why helm cannot be run, as a sentence."""
        why = self._commands.problem("helm", (self._options.program,))
        return f"{why}: install it or set `owners.helm.program`, or set `if_managed: revert`" if why else None

    async def history(self) -> list[Entry]:
        """Its revisions, newest first; at least one. Raises Temporary or Permanent."""
        finished = await self._run(("history", self.release, "--max", str(MAX_REVISIONS), "--output", "json"))
        try:
            found = msgspec.json.decode(finished.output, type=list[Entry])
        except (msgspec.MsgspecError, RecursionError):
            found = []
        if not found or finished.overflowed:
            raise Permanent(f"helm history {self.release}: prints no history that can be read; is it Helm 3 or 4?")
        return sorted(found, key=lambda one: one.revision, reverse=True)

    async def manifest(self, revision: int) -> str:
        """What a revision holds, without hooks. Raises Temporary or Permanent."""
        finished = await self._run(("get", "manifest", self.release, "--revision", str(revision)))
        if finished.overflowed:
            raise Permanent(f"revision {revision} of Helm release {self.release} is larger than {MAX_OUTPUT} bytes")
        return finished.output

    async def roll_back(self, revision: int) -> None:
        """Put the whole release back. Raises Temporary or Permanent, after which it may have had any effect.

        The history is not shortened, or a rollback could drop the very revisions that others want to go back to.
        """
        hooks = () if self._options.hooks else ("--no-hooks",)
        bounds = ("--history-max", "0", "--timeout", f"{max(1, round(self.timeout))}s")
        await self._run(("rollback", self.release, str(revision), *bounds, *hooks), self.timeout + GRACE_S)

    async def _run(self, arguments: Sequence[str], within: float = READ_WITHIN_S) -> Finished:
        label = f"helm {' '.join(arguments[:1])} {self.release}"
        variables = {name: value for name, value in _surroundings(os.environ).items() if name not in self._options.env}
        where = ["--namespace", self.namespace]
        if in_pod(self._cluster, os.environ):
            variables["KUBECONFIG"] = os.devnull
        else:
            where += ["--kubeconfig", str(self._cluster.kubeconfig)] if self._cluster.kubeconfig is not None else []
            where += ["--kube-context", self._cluster.context] if self._cluster.context is not None else []
        command = (self._options.program, *arguments, *where)
        finished = await self._commands.run(label, command, within, variables)
        if arguments[0] == "get" and finished.output:
            finished = replace(finished, tail="")  # what it prints may hold Secrets
        try:
            check(label, finished)
        except Temporary as error:
            raise _lasting(error, self.release, self.namespace) from None
        return finished


def _fit(words: str) -> str:
    """What helm printed, fit for a message: without values, and without what the API server only warned of."""
    return without_values(_WARNED.sub("", words))


def _surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """The daemon's own variables, which credential plugins need, but for those that lead to another place."""
    return {name: value for name, value in environment.items() if not _LEADS_ASTRAY.fullmatch(name)}


def _lasting(error: Temporary, release: str, namespace: str) -> Temporary | Permanent:
    """What stays until somebody cures it, told as such. helm itself ends with 1 whatever went wrong."""
    words = str(error)
    if "release: not found" in words:
        return Permanent(
            f"helm knows no release {release} in namespace {namespace}: if it keeps its history elsewhere, set "
            "HELM_DRIVER under `owners.helm.env`; if there is no such release any more, set `if_managed: revert`"
        )
    if "is forbidden" in words or "Forbidden" in words:
        return Permanent(f"{words}; docs/targets/helm.md lists the rights that are needed")
    return error

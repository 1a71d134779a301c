"""The configuration as the daemon uses it: what an operator may write at the top of the file and for each service.

Which keys there are, what they mean and what they are when left out is said here and nowhere else; the JSON Schema
and the reference are made from it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, WithJsonSchema, model_validator

from rollbackd.adapter import AdapterKind
from rollbackd.decide.policy import FleetPolicy, Policy
from rollbackd.fields import Duration, Model, Secret
from rollbackd.intake.base import Scope
from rollbackd.ledger.base import Mode

_LISTEN = re.compile(r"(?:\[(?P<six>[^]\s]+)\]|(?P<host>[^:\s/\[\]]+)):(?P<port>[0-9]{1,5})")

ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True)
class Block:
    """One configured adapter: `settings` is what the adapter `name` of that kind reads. `label` tells it from others.

    The label is the operator's own (`name: ...`), or the adapter's name, or for a second one `scrape#2`.
    """

    kind: AdapterKind
    name: str
    label: str
    settings: Model


def _section(value: object) -> object:
    """A section with everything under it commented out is a section left out."""
    return {} if value is None else value


def _items(value: object) -> object:
    return () if value is None else value


Section = BeforeValidator(_section)
Items = BeforeValidator(_items)

# What a block may be written as is known only with its adapter: the JSON Schema gets its place filled in later.
Target: TypeAlias = Annotated[InstanceOf[Block], WithJsonSchema({"x-block": "target"})]
Sources: TypeAlias = Annotated[tuple[InstanceOf[Block], ...], WithJsonSchema({"x-block": "sources"})]
Metrics: TypeAlias = Annotated[tuple[InstanceOf[Block], ...], WithJsonSchema({"x-block": "metrics"})]
Probes: TypeAlias = Annotated[tuple[InstanceOf[Block], ...], WithJsonSchema({"x-block": "probe"})]
Logs: TypeAlias = Annotated[tuple[InstanceOf[Block], ...], WithJsonSchema({"x-block": "logs"})]
Notifiers: TypeAlias = Annotated[tuple[InstanceOf[Block], ...], WithJsonSchema({"x-block": "notify"})]
Intakes: TypeAlias = Annotated[tuple[InstanceOf[Block], ...], WithJsonSchema({"x-block": "intake"})]
LedgerBlock: TypeAlias = Annotated[InstanceOf[Block], WithJsonSchema({"x-block": "ledger"})]


class Listen(Model):
    """Where the HTTP API is served."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9797

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if isinstance(value, dict | Listen):
            return value
        wanted = 'write host:port, as in 127.0.0.1:9797 or "[::1]:9797"'
        found = _LISTEN.fullmatch(str(value).strip())
        if not isinstance(value, str) or found is None or int(found["port"]) > 65535:
            raise ValueError(wanted)
        if found["six"] is not None and not _is_ip6(found["six"]):
            raise ValueError(wanted)
        return {"host": found["six"] or found["host"], "port": int(found["port"])}

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_ip6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class LogSettings(Model):
    """The daemon's own log, on standard error."""

    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least grave that is written."""


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,253}", name):
        raise ValueError("write a host's name alone, without scheme and port, as in rollbackd.example.com")
    return name.lower()


HostName: TypeAlias = Annotated[str, AfterValidator(_host_name)]


class TokenSettings(Model):
    """A credential and what it may do. It is sent as `Authorization: Bearer TOKEN`, or as a Basic password."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Who this is, in the audit trail."""
    token: Secret
    """Where the credential is kept."""
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    """What it may do; no scope implies another."""


class AuthSettings(Model):
    """Who may do what over HTTP. Scopes: `read` what is there, `deploy`: tell of deployments, `ingest`: push alerts
    and telemetry, `operate`: roll back, pause and resume.
    """

    tokens: Annotated[tuple[TokenSettings, ...], Items] = ()
    """The credentials."""
    anonymous: Annotated[frozenset[Scope], Items] = frozenset({"read"})
    """What needs no credential. Scopes other than `read` only while listening on a loopback address."""
    allowed_hosts: Annotated[frozenset[HostName], Items] = frozenset()
    """Names that browsers may reach the page and the API by, beside `localhost` and IP addresses: a proxy's, say."""


class Limits(Model):
    """Bounds on what is kept."""

    keep: Annotated[Duration, Field(ge=3600)] = 90 * 86400.0
    """How long decisions, finished rollbacks and the audit trail are kept."""
    deliveries_per_second: Annotated[float, Field(ge=0, le=1e6)] = 200.0
    """How often one credential may deliver to intakes, after a burst of twice as many; 0 takes the limit away."""


class Defaults(Policy):
    """What holds for every service that does not say otherwise, also for services that are not in this file.

    A service's own setting takes the place of the one here: lists as a whole, rules setting by setting.
    """

    mode: Mode | None = None
    """`act`, or `shadow`: decide, record and tell, but do not touch the target. Left out, the `mode` of the file."""


class Service(Defaults):
    """One service: where it runs, what is watched, and how it is judged. Everything may be left out."""

    target: Target | None = None
    """Where its releases run, and how an old one is put back. Without it, trouble is only told."""
    metrics: Annotated[Metrics, Items] = ()
    """Prometheus or OpenMetrics endpoints: a URL, or the settings of a `scrape` source, or a list of these."""
    probe: Annotated[Probes, Items] = ()
    """Is it up? A URL, or the settings of a `probe` source, or a list of these."""
    logs: Annotated[Logs, Items] = ()
    """Log files: a path, or the settings of a `log_file` source, or a list of these."""
    sources: Annotated[Sources, Items] = ()
    """Any other streams, each by the name of its source."""

    @property
    def streams(self) -> tuple[Block, ...]:
        """All sources of the service, however they were written."""
        return (*self.metrics, *self.probe, *self.logs, *self.sources)


def _service_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.:@-]{0,199}", name):
        raise ValueError("a service's name is letters, digits and . _ - : @, beginning with a letter or digit")
    return name


ServiceName: TypeAlias = Annotated[str, AfterValidator(_service_name)]


class Config(Model):
    """The whole file. Everything may be left out: an empty file is a configuration, too."""

    listen: Annotated[
        Listen,
        WithJsonSchema(
            {"x-kind": "host:port", "type": "string", "pattern": r"^\s*(\[[^]\s]+\]|[^:\s/\[\]]+):[0-9]{1,5}\s*$"}
        ),
    ] = Listen()
    """Host and port of the HTTP API. An IPv6 address stands in brackets, and so in quotes: "[::1]:9797"."""
    mode: Mode = "act"
    """`act`, or `shadow`: decide, record and tell, but touch no target."""
    data_dir: Path = Path("/var/lib/rollbackd")
    """Where the daemon keeps what must survive a restart. Relative paths in this file start where the daemon does."""
    ledger: LedgerBlock
    """The store of deployments, decisions and rollbacks."""
    record: Path | None = None
    """A file to which every event is written, for `rollbackd replay`."""
    log: Annotated[LogSettings, Section] = LogSettings()
    auth: Annotated[AuthSettings, Section] = AuthSettings()
    limits: Annotated[Limits, Section] = Limits()
    fleet: Annotated[FleetPolicy, Section] = FleetPolicy()
    notify: Annotated[Notifiers, Items] = ()
    """Who is told, and how: each entry names a notifier, and may carry a `name` of its own."""
    intake: Annotated[Intakes, Items] = ()
    """What others may push. `deployments` and `alertmanager` are on; `off` switches one off, settings change it."""
    defaults: Annotated[Defaults, Section] = Defaults()
    services: Annotated[dict[ServiceName, Annotated[Service, Section]], Section] = {}
    """The services, by name."""

    def policy_for(self, service: str) -> Policy:
        """How a service is judged: its own settings over `defaults`, over the default policy. Any name will do."""
        policy = _layered(Policy(), self.defaults)
        if service in policy.depends_on:
            others = tuple(name for name in policy.depends_on if name != service)
            policy = policy.model_copy(update={"depends_on": others})
        return _layered(policy, self.services[service]) if service in self.services else policy

    def mode_for(self, service: str) -> Mode:
        """Whether decisions about a service are carried out."""
        own = self.services[service].mode if service in self.services else None
        return own or self.defaults.mode or self.mode


def _layered(base: ModelT, over: Model) -> ModelT:
    """`base`, but for what `over` says in so many words."""
    changed: dict[str, Any] = {}
    for name in over.model_fields_set & type(base).model_fields.keys():
        old, new = getattr(base, name), getattr(over, name)
        changed[name] = _layered(old, new) if isinstance(old, Model) and isinstance(new, Model) else new
    return base.model_copy(update=changed)

"""Names of adapters to their configuration model and factory, imported only when configured.

An adapter module ends with `ADAPTER = Adapter(Config, build)`. Other packages add theirs through the entry point
groups `rollbackd.source`, `rollbackd.target`, `rollbackd.notifier`, `rollbackd.intake` and `rollbackd.ledger`, each
entry naming such an object. A name of ours wins over an entry point of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeAlias

from rollbackd import extras
from rollbackd.adapter import Adapter, AdapterKind
from rollbackd.errors import ConfigError

AnyAdapter: TypeAlias = Adapter[Any, Any, Any]
"""An adapter of a kind not known here; whoever asks for one knows the kind, and so what `build` returns."""

BUILTIN: Mapping[AdapterKind, Mapping[str, str]] = {
    "source": {
        "docker_logs": "rollbackd.sources.docker_logs",
        "journald": "rollbackd.sources.journald",
        "kubernetes": "rollbackd.sources.kubernetes_pods",
        "log_file": "rollbackd.sources.log_file",
        "loki": "rollbackd.sources.loki",
        "probe": "rollbackd.sources.probe",
        "prometheus": "rollbackd.sources.prometheus",
        "scrape": "rollbackd.sources.scrape",
        "statsd": "rollbackd.sources.statsd",
        "syslog": "rollbackd.sources.syslog",
    },
    "target": {
        "command": "rollbackd.targets.command",
        "compose": "rollbackd.targets.compose",
        "docker": "rollbackd.targets.docker",
        "git": "rollbackd.targets.git",
        "kubernetes": "rollbackd.targets.kubernetes",
        "release_dir": "rollbackd.targets.release_dir",
        "swarm": "rollbackd.targets.swarm",
    },
    "notifier": {"webhook": "rollbackd.notify.webhook"},
    "intake": {
        "alertmanager": "rollbackd.intake.alertmanager",
        "argocd": "rollbackd.intake.argocd",
        "cloudevents": "rollbackd.intake.cloudevents",
        "cloudevents_deployments": "rollbackd.intake.cloudevents_deployments",
        "cloudwatch": "rollbackd.intake.cloudwatch",
        "datadog": "rollbackd.intake.datadog",
        "deployments": "rollbackd.intake.deployments",
        "flux": "rollbackd.intake.flux",
        "generic": "rollbackd.intake.generic",
        "generic_deployments": "rollbackd.intake.generic_deployments",
        "github": "rollbackd.intake.github",
        "gitlab": "rollbackd.intake.gitlab",
        "grafana": "rollbackd.intake.grafana",
        "json_lines": "rollbackd.intake.json_lines",
        "loki_push": "rollbackd.intake.loki_push",
        "otlp_logs": "rollbackd.intake.otlp_logs",
        "otlp_metrics": "rollbackd.intake.otlp_metrics",
        "sentry": "rollbackd.intake.sentry",
        "remote_write": "rollbackd.intake.remote_write",
    },
    "ledger": {"sqlite": "rollbackd.ledger.sqlite"},
}


def _foreign(kind: AdapterKind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"rollbackd.{kind}")}


def names(kind: AdapterKind) -> list[str]:
    """The names that a configuration can use for this kind, sorted."""
    return sorted({*BUILTIN[kind], *_foreign(kind)})


def load(kind: AdapterKind, name: str) -> AnyAdapter:
    """The adapter of that name. Raises ConfigError where there is none, or where it cannot be imported."""
    wanted_by, extra = f"{kind} `{name}`", name.replace("_", "-")
    if name in BUILTIN[kind]:
        found: object = extras.load(BUILTIN[kind][name], wanted_by, extra).ADAPTER
    elif (point := _foreign(kind).get(name)) is not None:
        try:
            found = point.load()
        except ImportError as error:
            raise extras.missing(wanted_by, extra, error) from error
    else:
        raise ConfigError(f"there is no {kind} called `{name}`; known: {', '.join(names(kind))}")
    if not isinstance(found, Adapter):
        raise ConfigError(f"{kind} `{name}` is not an adapter: its entry point must name an `Adapter` object")
    return found

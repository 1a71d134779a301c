"""`rollbackd check`: every fault of a configuration file in one run, or what the file amounts to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rollbackd import registry
from rollbackd.cli.command import OK, USAGE, Commands
from rollbackd.cli.terminal import printable
from rollbackd.config.checks import notes
from rollbackd.config.faults import ConfigFaults, Fault
from rollbackd.config.loading import Loaded, load
from rollbackd.config.schema import Config
from rollbackd.ledger.base import ConfigStamp, Mode


class CheckedService(msgspec.Struct, frozen=True, kw_only=True):
    """A configured service: what is watched, and what can put an old release back."""

    name: str
    mode: Mode
    target: str | None
    sources: tuple[str, ...]


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `check --format json`. `config`, `services` and `notes` are empty where there are faults."""

    file: str
    valid: bool
    faults: tuple[Fault, ...] = ()
    config: ConfigStamp | None = None
    services: tuple[CheckedService, ...] = ()
    notes: tuple[str, ...] = ()


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "check",
        description="Validate a configuration file. Every fault is one line on standard output: "
        "FILE:LINE: where: what is wrong, and what would be right.",
        epilog="Exit code 0 where the file is in order, 2 where it has faults.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-c", "--config", metavar="FILE", type=Path, help="the configuration file")
    where.add_argument("file", nargs="?", metavar="FILE", type=Path, help="the same, as other checkers take it")
    parser.add_argument(
        "--without-secrets",
        action="store_true",
        help="do not ask that the secrets can be read here, as on a build machine that must not have them",
    )
    parser.add_argument("--format", choices=["text", "json"], default="text", help="for people, or for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the faults, or in short what the file amounts to."""
    path: Path = options.config or options.file
    try:
        loaded = load(path, registry, reveal=not options.without_secrets)
    except ConfigFaults as error:
        _print(options.format, CheckReport(file=str(path), valid=False, faults=error.faults), str(error))
        return USAGE
    report = _report(path, loaded)
    _print(options.format, report, _text(report, loaded))
    return OK


def _print(form: str, report: CheckReport, text: str) -> None:
    print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() if form == "json" else printable(text))


def _report(path: Path, loaded: Loaded) -> CheckReport:
    config = loaded.config
    return CheckReport(
        file=str(path),
        valid=True,
        config=loaded.stamp,
        services=tuple(
            CheckedService(
                name=name,
                mode=config.mode_for(name),
                target=service.target.label if service.target is not None else None,
                sources=tuple(block.label for block in service.streams),
            )
            for name, service in config.services.items()
        ),
        notes=(*notes(config), *_missing(config)),
    )


def _missing(config: Config) -> Iterator[str]:
    """What is no fault of the file, since it may be checked elsewhere or earlier, yet would not work here and now."""
    if not config.services:
        yield "No service is configured: nothing is watched but what others push."
    for name, service in config.services.items():
        for block in (*([service.target] if service.target is not None else []), *service.streams):
            for key, value in block.settings:
                if isinstance(value, Path) and not value.exists():
                    yield f"services.{name}: `{key}` of {block.label} is not there now: {value}."


def _text(report: CheckReport, loaded: Loaded) -> str:
    config, stamp = loaded.config, loaded.stamp
    commit = f", commit {stamp.commit}" if stamp.commit else ""
    count = len(report.services)
    services = f"{count} service{'' if count == 1 else 's'}; any other is judged by the defaults:"
    lines = [
        f"{report.file} is in order (sha256 {stamp.sha256[:12]}{commit}).",
        f"Listens on {config.listen}, keeps its data in {config.data_dir}, {_told(len(config.notify))}.",
        "",
        services if count else "No services are named; any that reports is judged by the defaults.",
        *(f"  {_sentence(service)}" for service in report.services),
    ]
    if report.notes:
        lines += ["", *(f"Note: {note}" for note in report.notes)]
    return "\n".join(lines)


def _sentence(service: CheckedService) -> str:
    watched = f"watches {', '.join(service.sources)}" if service.sources else "watches pushed alerts alone"
    if service.target is None:
        reverted = "nothing can be reverted"
    elif service.mode == "shadow":
        reverted = f"in shadow mode, {service.target} is left alone"
    else:
        reverted = f"bad releases are reverted by {service.target}"
    return f"{service.name}: {watched}; {reverted}."


def _told(notifiers: int) -> str:
    if not notifiers:
        return "tells nobody"
    return f"tells {notifiers} notifier{'' if notifiers == 1 else 's'}"

"""`rollbackd backtest`: what would have been decided about past deployments, from a Prometheus server's history."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from pydantic import TypeAdapter, ValidationError

from rollbackd import registry
from rollbackd.aiokit import Clock, SystemClock
from rollbackd.backtest.deployments import Deployment, from_csv, from_ledger
from rollbackd.backtest.prometheus import Prometheus
from rollbackd.backtest.report import BacktestReport, Judgement, summary_of
from rollbackd.backtest.run import Backtest, Saving
from rollbackd.backtest.selector import DEFAULT_MATCH, Match, read_match
from rollbackd.backtest.windows import Window, windows
from rollbackd.cli.backtest_text import Story
from rollbackd.cli.client import read_token
from rollbackd.cli.command import OK, Commands, Unreachable, Usage
from rollbackd.cli.options import add_output
from rollbackd.config.loading import Loaded, load
from rollbackd.errors import Permanent
from rollbackd.explain.amounts import moment
from rollbackd.fields import AsWritten, Duration, Secret
from rollbackd.ledger.base import Ledger, LedgerContext
from rollbackd.sources import http
from rollbackd.telemetry import configure_logs

_durations: TypeAdapter[float] = TypeAdapter(Duration)


LOOK_BACK_S = 30 * 86400.0
"""How far back the ledger's deployments are judged unless --since says."""


def add(commands: Commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "backtest",
        description="Read the history around past deployments from a Prometheus-compatible server, and tell what would "
        "have been decided about each. Nothing is changed anywhere.",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="whose services and policies")
    server = parser.add_argument_group("the server")
    server.add_argument("--prometheus", required=True, metavar="URL", help="its address, as in http://127.0.0.1:9090")
    server.add_argument("--prometheus-token-file", type=Path, metavar="FILE", help="a file with a bearer token for it")
    server.add_argument(
        "--match",
        default=DEFAULT_MATCH,
        metavar="MATCHERS",
        help=f"label matchers of a service's series; {{service}} is its name (default: {DEFAULT_MATCH})",
    )
    server.add_argument("--step", type=_span, default=15.0, metavar="TIME", help="time between two looks (15s)")
    past = parser.add_argument_group("which deployments")
    past.add_argument(
        "--since", type=_span, metavar="TIME", help="how far back (30d; with --deployments all that it holds)"
    )
    past.add_argument("--baseline", type=_span, default=3600.0, metavar="TIME", help="time read before each (1h)")
    past.add_argument("--deployments", type=Path, metavar="CSV", help="read them from this file, not from the ledger")
    past.add_argument("--service", action="append", metavar="NAME", help="of this service alone; may be repeated")
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep each window as a recording, for replay")
    add_output(parser)
    parser.set_defaults(run=run)


def _span(text: str) -> float:
    """A duration above nothing, for argparse."""
    try:
        seconds = _durations.validate_python(text, context=AsWritten())
    except ValidationError:
        seconds = 0.0
    if not 1 <= seconds <= 3650 * 86400:
        raise argparse.ArgumentTypeError(f"`{text}` is no duration of a second or more: write 15s, 1h or 30d")
    return seconds


def run(options: argparse.Namespace) -> int:
    """Judge and print. Raises ConfigError, Usage, Unreachable, Temporary and Permanent."""
    configure_logs("json", "error")
    loaded = load(options.config, registry, reveal=False)
    match, secret = read_match(options.match), _secret(options.prometheus_token_file)
    asyncio.run(_run(options, loaded, match, secret, SystemClock()))
    return OK


def _secret(file: Path | None) -> http.HttpOptions:
    if file is None:
        return http.HttpOptions()
    read_token(file)  # says what is wrong with it before anything is asked
    return http.HttpOptions(bearer=Secret(file=file))


async def _run(
    options: argparse.Namespace, loaded: Loaded, match: Match, access: http.HttpOptions, clock: Clock
) -> None:
    now, config = clock.now(), loaded.config
    every = await _deployments(options, loaded, now)
    since = _since(options, every, now)
    wanted = _wanted(options, every, config.services.keys(), since, now)
    needed = windows(wanted, every, config.policy_for, options.baseline, options.step, now)
    saving = Saving(options.save, options.config.read_bytes()) if options.save is not None else None
    story = Story(options.color) if options.format == "text" else None
    judgements: list[Judgement] = []
    async with Prometheus(options.prometheus, access, clock) as prometheus:
        backtest = Backtest(prometheus, config, match, options.step, saving, _progress)
        try:
            async for judgement in backtest.run(wanted, needed):
                judgements.append(judgement)
                if story is not None:
                    story.judgement(judgement)
        except http.Unreachable as error:
            raise Unreachable(f"{error}: is --prometheus right, and does the server run?") from None
        report = BacktestReport(
            prometheus=prometheus.shown,
            since=since,
            until=now,
            judgements=tuple(judgements),
            summary=summary_of(judgements),
            notes=(
                *_left_out(every, since),
                *(f"the server warns: {t} ({n} times)" for t, n in prometheus.warnings.items()),
            ),
        )
    if story is not None:
        story.end(report, options.save)
    else:
        print(msgspec.json.encode(report).decode())


def _progress(number: int, of: int, window: Window) -> None:
    if sys.stderr.isatty():
        print(f"window {number} of {of}, from {moment(window.start)}", file=sys.stderr)


async def _deployments(options: argparse.Namespace, loaded: Loaded, now: float) -> list[Deployment]:
    if options.deployments is not None:
        return from_csv(options.deployments, now)
    block = loaded.config.ledger
    ledger: Ledger = registry.load("ledger", block.name).build(
        block.settings, LedgerContext(data_dir=str(loaded.config.data_dir))
    )
    try:
        return await from_ledger(ledger)
    except Permanent as error:
        raise Permanent(f"{error} (or name the deployments with --deployments CSV)") from None


def _since(options: argparse.Namespace, every: Sequence[Deployment], now: float) -> float:
    """From when on deployments are judged: as asked for; else all that a CSV names, and of the ledger's a month's."""
    if options.since is not None:
        return now - float(options.since)
    if options.deployments is not None:
        return min((one.deployed_at for one in every), default=now)
    return now - LOOK_BACK_S


def _left_out(every: Sequence[Deployment], since: float) -> tuple[str, ...]:
    """What is not judged for being too long ago, so that nobody takes it for good."""
    older = sum(one.deployed_at < since for one in every)
    return (f"{older} older than {moment(since)} left out: look further back with --since",) if older else ()


def _wanted(
    options: argparse.Namespace, every: Sequence[Deployment], configured: Iterable[str], since: float, now: float
) -> list[Deployment]:
    """The deployments to be judged. Raises Usage and Permanent where there are none."""
    known = {*configured, *(one.service for one in every)}
    for name in options.service or ():
        if name not in known:
            raise Usage(f"--service: there is no service `{name}`; known: {', '.join(sorted(known)) or 'none'}")
    wanted = [
        one
        for one in every
        if since <= one.deployed_at <= now and (options.service is None or one.service in options.service)
    ]
    if not wanted:
        place = options.deployments or "the ledger"
        raise Permanent(
            f"{place} holds no such deployment since {moment(since)}: "
            "look further back with --since"
            + ("" if options.deployments else ", or name the deployments with --deployments CSV")
        )
    return wanted

"""Feeds every parser of foreign bytes with hostile inputs, and tells what it did not take well.

    python -m tools.fuzz                         a million inputs for each parser
    python -m tools.fuzz syslog --inputs 100000  some of them
    python -m tools.fuzz --engine atheris        led by the code that an input reaches; needs the package of that name

A failure is an exception that the table of parsers (tests/fuzz/table.py) does not foresee, an input that takes longer
than it may, or memory that grows. The inputs that show it are made small and printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

import structlog

from tests.fuzz.table import PARSERS
from tools import fuzz_atheris
from tools.fuzz_examiner import Examined, Examiner, Failure, alarmed
from tools.fuzz_mutator import Mutator


def examine(name: str, inputs: int, seed: str, *, swell: bool = False) -> Examined:
    """Mutated inputs for one parser; with `swell` the first are long ones, which show what is worse than linear."""
    parser = PARSERS[name]
    examiner = Examiner(parser)
    mutator = Mutator(parser.seeds, parser.shape, parser.words, f"{name} {seed}")
    with alarmed():
        for data in (*parser.seeds, *(mutator.swollen() if swell else ())):
            if examiner.done.inputs < inputs:
                examiner.take(data)
        while examiner.done.inputs < inputs:
            data = mutator.one()
            if examiner.take(data):
                mutator.keep(data)
        return examiner.finished()


def _silently(name: str, inputs: int, seed: str, *, swell: bool = False) -> Examined:
    structlog.configure(
        logger_factory=structlog.ReturnLoggerFactory(), processors=[lambda _logger, _name, event: event]
    )
    return examine(name, inputs, seed, swell=swell)


def shares(
    name: str, inputs: int, seed: str, pool: ProcessPoolExecutor, jobs: int, engine: str
) -> list[Future[Examined]]:
    """The work for one parser, a share for each process; the first one begins with the long inputs."""
    part = -(-inputs // jobs)
    work = fuzz_atheris.start if engine == "atheris" else partial(_silently, swell=True)
    found = []
    for number, start in enumerate(range(0, inputs, part)):
        found.append(pool.submit(work, name, min(part, inputs - start), f"{seed}{number}"))
        work = fuzz_atheris.start if engine == "atheris" else _silently
    return found


def gathered(futures: Sequence[Future[Examined]]) -> Examined:
    """What all processes found."""
    total = Examined()
    for future in futures:
        try:
            total.add(future.result())
        except BrokenProcessPool:
            total.failures.append(Failure("the process died", "", []))
    return total


HEADER = f"{'parser':32} {'inputs':>9} {'1/s':>7} {'outcomes':>8} {'slowest':>18} {'grown':>9} failures"


def row(name: str, found: Examined) -> str:
    """One line of the table."""
    rate = found.inputs / found.seconds if found.seconds else 0.0
    slowest = f"{found.slowest_ms:.1f} ms, {found.slowest_bytes} B"
    return (
        f"{name:32} {found.inputs:9} {rate:7.0f} {found.outcomes:8} {slowest:>18} {found.grown_mib:5.1f} MiB "
        f"{len(found.failures) or 'none'}"
    )


def told(failure: Failure) -> Iterator[str]:
    """What is to be known of a failure."""
    yield f"    {failure.what}  {failure.where}"
    for data in failure.inputs[-5:]:
        shown = repr(data)
        yield f"        {shown if len(shown) < 400 else f'{shown[:300]} ... {len(data)} bytes ... {shown[-60:]}'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PARSER", help=f"of {', '.join(PARSERS)}; all by default")
    parser.add_argument("--inputs", type=lambda text: int(float(text)), default=1_000_000, help="for each parser")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--engine", choices=("mutator", "atheris"), default="mutator")
    parser.add_argument("--seed", default="", help="other inputs than the usual ones")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in PARSERS]
    if unknown:
        parser.error(f"there is no parser {', '.join(unknown)}; known: {', '.join(PARSERS)}")
    failed = False
    print(HEADER)
    for name in options.names or PARSERS:
        # New processes for each parser: what one leaves in memory must not be counted for another.
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
            found = gathered(shares(name, options.inputs, options.seed, pool, options.jobs, options.engine))
        print(row(name, found), flush=True)
        for failure in found.failures:
            failed = True
            print("\n".join(told(failure)), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

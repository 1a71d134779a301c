"""Holds the served API to its own OpenAPI document, by schemathesis: requests that fit it and requests that do not.

    python -m tools.fuzz_api                 a thousand requests for each operation
    python -m tools.fuzz_api --examples 100  fewer

All intakes are served, with all their media types, over a backend in memory. What it cannot say of a request, and so
does not try, are compressed bodies and signatures of a body.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import structlog

from rollbackd.errors import Temporary
from rollbackd.intake.base import Scope
from rollbackd.web.auth import Authenticator, Token
from tests.support.backend import FakeBackend
from tests.support.website import served

CONFIG = Path(__file__).with_suffix(".toml")
TOKEN = "fuzz-secret"


async def hold(examples: int, *, seed: int = 1, broken: bool = False, options: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code of schemathesis and what it printed. `broken` is a backend that cannot reach its ledger."""
    # Ten minutes pass between two looks at the clock, so that its wrong credentials do not shut out its right ones.
    clock = itertools.count(0, 600)
    auth = Authenticator(
        [Token("fuzz", TOKEN.strip, frozenset(get_args(Scope)))], frozenset(), monotonic=lambda: float(next(clock))
    )
    backend = FakeBackend()
    if broken:
        backend.broken, backend.not_ready = Temporary("the ledger is full"), ("the ledger is full",)
    checks = ("--exclude-checks", "not_a_server_error") if broken else ()
    async with served(backend, auth=auth) as site:
        with tempfile.TemporaryDirectory() as folder:
            own = {"HOME": folder, "XDG_CACHE_HOME": folder, "PYTHONPATH": str(CONFIG.parents[1])}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run"),
                f"{site.url}/api/v1/openapi.json",
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--max-examples", str(examples), "--seed", str(seed), "--generation-database", "none"),
                *checks,
                *options,
                cwd=folder,
                env={**os.environ, **own, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                printed, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    return process.returncode or 0, printed.decode(errors="replace")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="requests for each operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("SENTRY_CLIENT_SECRET", "secret")
    structlog.configure(
        logger_factory=structlog.ReturnLoggerFactory(), processors=[lambda _logger, _name, event: event]
    )
    failed = 0
    for broken in (False, True):
        code, printed = asyncio.run(hold(options.examples, seed=options.seed, broken=broken))
        print(printed)
        failed |= code
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""A process that reverts once, to be killed in the middle: NAME SETTINGS STATE_DIR ORDER, the middle ones as JSON."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from rollbackd.aiokit import SystemClock
from rollbackd.targets.base import RevertOrder
from tests.contract.targets import build


async def main(name: str, settings: str, state_dir: str, order: str) -> None:
    target = build(name, msgspec.json.decode(settings, type=dict[str, object]), Path(state_dir), SystemClock())
    await target.revert(msgspec.json.decode(order, type=RevertOrder))
    await target.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""A process that writes to a ledger for ever and says what was acknowledged: `ledger_program NAME DATA_DIR`."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from tests.contract.ledgers import T0, build, message, pushed, snapshot, stored


async def main(name: str, data_dir: Path) -> None:
    ledger = build(name, data_dir)
    await ledger.open()
    for n in count(1):
        (item,) = await ledger.accept([pushed(str(n))], T0)
        await ledger.record([stored(str(n), t=T0 + n)], [], snapshot(inbox_seq=item.seq), [("chat", message(str(n)))])
        print(n, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))

"""The demo's service manager: keeps the current release's process alive, and starts another release when told to.

`keep ROOT` stands in for systemd; `restart ROOT` is the restart command that a deploy script, or rollbackd, calls.
The two talk over a socket in ROOT. A restart starts the new process, waits until it is ready, then ends the old one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

CONTROL = "control.sock"
RESTART_AFTER_S = 1.0
"""How long a process that ended by itself stays down."""
READY_WITHIN_S = 10.0
END_WITHIN_S = 5.0


class Manager:
    """Owns the service's process. All methods run in one event loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._changing = asyncio.Lock()

    async def start(self, instead_of: asyncio.subprocess.Process | None = None) -> str:
        """Start the current release beside the process that runs, then end that one. The answer for `restart`.

        Where `instead_of` is given and no longer the process that runs, somebody else was quicker: nothing is done.
        """
        async with self._changing:
            if instead_of is not None and self._process is not instead_of:
                return "ok already"
            release = Path("current").resolve()  # noqa: ASYNC240  one local link
            new = await asyncio.create_subprocess_exec(
                sys.executable,
                str(release / "service.py"),
                f"--port={self._port}",
                "--log=service.log",
                stdin=sys.stdin,  # its end tells us and the service that whoever started us is gone
                stdout=asyncio.subprocess.PIPE,
                process_group=0,
            )
            if not await _is_ready(new):
                await _end(new)
                return f"failed: release {release.name} did not become ready"
            old, self._process = self._process, new
            if old is not None:
                await _end(old)
            return f"ok {release.name}"

    async def keep_alive(self) -> None:
        """Start the service again whenever it ends by itself."""
        while True:
            watched = self._process
            assert watched is not None  # noqa: S101  `keep` started it first
            await watched.wait()
            await asyncio.sleep(RESTART_AFTER_S)
            await self.start(instead_of=watched)

    async def close(self) -> None:
        """End the service."""
        if self._process is not None:
            await _end(self._process)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One restart over the control socket."""
        with contextlib.suppress(OSError):
            await reader.readline()
            writer.write((await self.start() + "\n").encode())
            await writer.drain()
        writer.close()


async def _is_ready(process: asyncio.subprocess.Process) -> bool:
    assert process.stdout is not None  # noqa: S101  it was asked for as a pipe
    try:
        return await asyncio.wait_for(process.stdout.readline(), READY_WITHIN_S) == b"ready\n"
    except TimeoutError:
        return False


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def keep(port: int) -> int:
    """Run the service until SIGTERM or the end of standard input. The working directory is ROOT."""
    manager = Manager(port)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_reader(sys.stdin.fileno(), ended.set)
    answer = await manager.start()
    if not answer.startswith("ok"):
        print(answer, file=sys.stderr)
        return 1
    server = await asyncio.start_unix_server(manager.answer, CONTROL)
    keeping = asyncio.create_task(manager.keep_alive())
    print("ready", flush=True)
    await ended.wait()
    keeping.cancel()
    server.close()
    await manager.close()
    return 0


def restart() -> int:
    """Have the current release started in the place of the one that runs, and wait for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(READY_WITHIN_S + END_WITHIN_S + 5.0)
        try:
            control.connect(CONTROL)
            control.sendall(b"restart\n")
            answer = control.makefile().readline().strip()
        except OSError as error:
            answer = f"failed: the service manager does not answer ({error})"
    print(answer, file=sys.stdout if answer.startswith("ok") else sys.stderr)
    return 0 if answer.startswith("ok") else 1


def main() -> int:
    """`keep ROOT --port N` or `restart ROOT`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["keep", "restart"])
    parser.add_argument("root", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    os.chdir(options.root)  # a socket's path may be no longer than 107 bytes, the name alone always fits
    return asyncio.run(keep(options.port)) if options.action == "keep" else restart()


if __name__ == "__main__":
    sys.exit(main())

"""A journal of a test's own making, read through a program that stands in for journalctl."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.waiting import eventually

PROGRAM = Path(__file__).with_name("journalctl_program.py")


class Journal:
    """Entries that followers are told at once. `fault` is what every journalctl ends with, while there is one."""

    def __init__(self, folder: Path) -> None:
        self._socket, self.program = folder / "journal.sock", folder / "journalctl"
        self.entries: list[str] = []
        self.fault: str | None = None
        self.silent = False
        """Whether it takes questions and never answers."""
        self.asked: list[list[str]] = []
        self.printed = 0
        self.oldest = 0
        """The first entry that was not vacuumed away."""
        self._followers: set[asyncio.StreamWriter] = set()
        self._unread = 0

    async def start(self) -> None:
        self.program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {PROGRAM} {self._socket} "$@"\n')
        self.program.chmod(0o755)
        self._server = await asyncio.start_unix_server(self._serve, self._socket)

    async def stop(self) -> None:
        self._server.close()
        await self.tell_fault("gone")
        await self._server.wait_closed()
        await eventually(lambda: not self._followers)

    @property
    def following(self) -> bool:
        """Whether somebody follows it."""
        return bool(self._followers)

    def entry(self, **fields: object) -> str:
        """What journalctl prints for the next entry."""
        known = {"__CURSOR": f"c={len(self.entries)}", "__REALTIME_TIMESTAMP": "1700000000000000", "_PID": "7"}
        return json.dumps(known | fields) + "\n"

    async def log(self, **fields: object) -> None:
        """One entry; returns when every follower has printed it."""
        await self.put(self.entry(**fields))

    async def put(self, text: str, *, also: int = 0) -> None:
        """What journalctl prints for an entry, whatever it is; before it, so many that nobody was told of yet."""
        self.entries.append(text)
        for follower in self._followers:
            for one in self.entries[-1 - also :]:
                self._say(follower, {"print": one})
        await eventually(lambda: self._unread == 0 or not self._followers)

    async def tell_fault(self, words: str) -> None:
        """End every follower with that error, and every one to come until `fault` is taken back."""
        self.fault = words
        for follower in self._followers:
            self._say(follower, {"exit": 1, "error": words})
        await eventually(lambda: not self._followers)

    def _say(self, follower: asyncio.StreamWriter, said: dict[str, object]) -> None:
        follower.write(json.dumps(said).encode() + b"\n")
        self._unread += "print" in said

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            arguments: list[str] = json.loads(await reader.readline())
            self.asked.append(arguments)
            if self.fault is not None:
                self._say(writer, {"exit": 1, "error": self.fault})
            elif not self.silent:
                self._answer(arguments, writer)
            while await reader.read(1):
                self._unread -= 1
                self.printed += 1
        except (OSError, ValueError):
            pass  # the program was ended
        finally:
            self._unread = 0 if writer in self._followers else self._unread
            self._followers.discard(writer)
            writer.close()

    def _answer(self, arguments: list[str], writer: asyncio.StreamWriter) -> None:
        cursor = next((one.partition("c=")[2] for one in arguments if one.startswith("--cursor=")), None)
        first = max(int(cursor or 0), self.oldest)
        if "--follow" in arguments:
            self._followers.add(writer)
            for text in self.entries[first:]:
                self._say(writer, {"print": text})
            return
        shown = first if cursor is not None else len(self.entries) - 1
        text = f"what it says\n-- cursor: c={shown}\n" if shown >= 0 else "-- No entries --\n"
        self._say(writer, {"print": text})
        self._say(writer, {"exit": 0, "error": ""})

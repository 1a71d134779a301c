"""Events to and from JSON Lines: the recording format is the contract between a live daemon and a replay."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import msgspec

from rollbackd.errors import RecordingError, Temporary
from rollbackd.model import MAX_BACKWARDS_S, AnyEvent, max_backwards

MAX_LINE_BYTES = 16 * 1024 * 1024
"""The longest line that is read; an event is a few hundred bytes, so anything near this is no recording."""
_BATCH_BYTES = 64 * 1024
"""How much is read and decoded at a time: some hundred events, of which the first waits for the last."""

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_encode = msgspec.json.Encoder().encode


def encode(event: AnyEvent) -> bytes:
    """One event as a line, without its newline."""
    return _encode(event)


def decode(line: bytes) -> AnyEvent:
    """The event of a line. Raises RecordingError that says what is wrong, but not where: the caller knows."""
    try:
        return _decoder.decode(line)
    except RecursionError:
        raise RecordingError("it is nested too deeply to be an event") from None
    except UnicodeDecodeError:
        raise RecordingError("it is not valid UTF-8") from None
    except msgspec.ValidationError as error:
        raise RecordingError(_plain(str(error))) from None
    except msgspec.DecodeError as error:
        raise RecordingError(f"it is not JSON ({error})") from None


def _plain(message: str) -> str:
    """msgspec's words with the place in front, as in `total: expected float, got str`."""
    what, _, place = message.partition(" - at `")
    place = place.rstrip("`").removeprefix("$").removeprefix(".").removeprefix("[...]")
    what = what[:1].lower() + what[1:]
    if "Invalid value" in message and "type" in place:
        what += " (an event's type is deployment, requests, latency, gauge, probe, log or alert)"
    return f"{place}: {what}" if place else what


def read(path: Path) -> Iterator[AnyEvent]:
    """The events of a recording. Raises RecordingError naming file, line and fault at the first bad line."""
    try:
        with path.open("rb") as handle:
            yield from _parse(_batches(handle), str(path))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error


def _batches(handle: BufferedReader) -> Iterator[list[bytes]]:
    """The file's lines as they come, of each no more than what it takes to tell that it is too long.

    Only the last line of a batch can be long, and it alone keeps its newline.
    """
    while block := handle.read1(_BATCH_BYTES):
        lines = block.split(b"\n")
        if begun := lines.pop():
            lines.append(begun + handle.readline(MAX_LINE_BYTES + 1 - len(begun)))
        yield lines


def parse(lines: Iterable[bytes], name: str) -> Iterator[AnyEvent]:
    """The events of lines, `name` standing for their place in errors. Blank lines are allowed."""
    return _parse(([line] for line in lines), name)


def _parse(batches: Iterable[list[bytes]], name: str) -> Iterator[AnyEvent]:
    newest, before = 0.0, 0
    for lines in batches:
        for number, event in _decoded(lines, before + 1, name):
            if event.t >= newest:
                newest = event.t
            elif event.t < newest - MAX_BACKWARDS_S and event.t < newest - max_backwards(event):
                raise RecordingError(
                    f"{name}:{number}: t: {event.t} lies {newest - event.t:.0f} s behind an earlier line; "
                    f"at most {max_backwards(event):.0f} s are allowed"
                )
            yield event
        before += len(lines)


def _decoded(lines: list[bytes], first: int, name: str) -> Iterable[tuple[int, AnyEvent]]:
    """The events of a batch with the numbers of their lines, in one go where all of them are good.

    Not by msgspec's `decode_lines`, to which two events on one line, or one on two, are as good as any.
    """
    if len(lines[-1]) <= MAX_LINE_BYTES:
        try:
            return enumerate([*map(_decoder.decode, lines)], first)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # a fault or a blank line: what comes before it counts
    return _one_by_one(lines, first, name)


def _one_by_one(lines: list[bytes], first: int, name: str) -> Iterator[tuple[int, AnyEvent]]:
    for number, line in enumerate(lines, first):
        if len(line) > MAX_LINE_BYTES:
            raise RecordingError(f"{name}:{number}: the line is longer than {MAX_LINE_BYTES} bytes")
        if not line.strip():
            continue
        try:
            event = decode(line)
        except RecordingError as error:
            raise RecordingError(f"{name}:{number}: {error}") from None
        yield number, event


def _readable(event: AnyEvent) -> bytes:
    """The event as a line. One that is refused when read would cost the whole recording, so it is refused here."""
    try:
        line = encode(event) + b"\n"
        decode(line)
    except (RecordingError, UnicodeEncodeError) as error:
        raise RecordingError(f"an event of {event.service!r:.80} cannot be recorded: {error}") from None
    if len(line) > MAX_LINE_BYTES:
        raise RecordingError(f"an event of {event.service!r:.80} is longer than {MAX_LINE_BYTES} bytes")
    return line


class Recorder:
    """Appends events to a recording, whole lines only. A new one can be read by the daemon's user alone.

    What a power cut or a full disk leaves of a line is taken away before the next one is written: it was never an
    event, and a torn line in the middle would make everything after it unreadable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def write(self, event: AnyEvent) -> None:
        """Append one event.

        Raises Temporary where the disk refuses, RecordingError for an event that could not be read back; that event is
        then not in the recording.
        """
        line = _readable(event)
        try:
            if self._file is None:
                self._file = self._open()
            written = self._file.write(line)
            if written != len(line):
                self._file.truncate(self._file.seek(0, os.SEEK_END) - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.close()  # the next write opens the file anew and repairs its end
            raise Temporary(f"recording {self._path}: {error.strerror}") from error

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        handle = os.fdopen(descriptor, "ab", buffering=0)
        try:
            if stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                self._repair(handle)
        except OSError:
            handle.close()
            raise
        return handle

    def _repair(self, handle: BinaryIO) -> None:
        with self._path.open("rb") as reader:
            size = reader.seek(0, os.SEEK_END)
            begin = max(0, size - MAX_LINE_BYTES)
            reader.seek(begin)
            torn = reader.read().rpartition(b"\n")[2]
        if not torn:
            return
        try:
            decode(torn)
        except RecordingError:
            handle.truncate(size - len(torn))
        else:
            handle.write(b"\n")

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

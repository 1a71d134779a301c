"""Watches one parser read inputs: what it raises, how long it takes, and whether memory grows."""

from __future__ import annotations

import re
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import msgspec

from tests.fuzz.parser import Parser, Read

T = TypeVar("T")

LIMIT_BYTES = 64 * 1024
"""Up to so long an input may take a parser's `limit_s`, and longer ones in proportion."""
DOUBTED_S = 0.01
"""What seems to take longer is measured again."""
HANGS_S = 20.0
"""After so many seconds of processor time an input is given up."""
GROWS_MIB = 64.0
"""How much more memory a process may need at its end than after its first inputs."""
RENEWED = 200
"""Inputs that a parser reads before it has to forget everything: so many at most explain a failure."""
WARM = 2000
MOST_OUTCOMES = 5000
MOST_FAILURES = 20
MOST_TRIES = 3000

_VARIABLE = re.compile(r"`[^`]*`|'[^']*'|\d+")


class Hangs(BaseException):
    """An input takes for ever. No parser's `except Exception` holds it up."""


class Failure(msgspec.Struct):
    """What a parser did not take well: what it was, where, and the fewest, shortest inputs that show it."""

    what: str
    where: str
    inputs: list[bytes]


class Examined(msgspec.Struct):
    """What became of the inputs: how many, the processor time, the slowest one and its length, and growth of memory."""

    inputs: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    slowest_bytes: int = 0
    grown_mib: float = 0.0
    outcomes: int = 0
    failures: list[Failure] = []

    def add(self, other: Examined) -> None:
        """Count in what another process found."""
        self.inputs += other.inputs
        self.seconds += other.seconds
        if other.slowest_ms > self.slowest_ms:
            self.slowest_ms, self.slowest_bytes = other.slowest_ms, other.slowest_bytes
        self.grown_mib = max(self.grown_mib, other.grown_mib)
        self.outcomes = max(self.outcomes, other.outcomes)
        known = {(failure.what, failure.where) for failure in self.failures}
        self.failures += [failure for failure in other.failures if (failure.what, failure.where) not in known]


class Examiner:
    """Gives a parser one input after the other, and keeps count in `done`."""

    def __init__(self, parser: Parser) -> None:
        self.done = Examined()
        self._parser = parser
        self._read: Read = parser.fresh()
        self._history: list[bytes] = []
        self._outcomes: set[object] = set()
        self._known: set[tuple[str, str]] = set()
        self._began = time.process_time()
        self._warm_kib = 0

    def take(self, data: bytes) -> bool:
        """Have it read; whether what came of it was not seen before."""
        if len(self._history) >= RENEWED:
            self._renew()
        self._history.append(data)
        done = self.done
        done.inputs += 1
        if done.inputs == WARM:
            self._warm_kib = _peak_kib()
        outcome, seconds = self._outcome(self._read, data)
        if seconds * 1000 > done.slowest_ms and not isinstance(outcome, Failure):
            if seconds > DOUBTED_S:
                seconds = min(seconds, *(self._timed_again() for _ in range(2)))
            if self._too_slow(seconds, data):
                outcome = Failure(f"takes longer than {self._parser.limit_s * 1000:.0f} ms", "", [])
            if seconds * 1000 > done.slowest_ms:
                done.slowest_ms, done.slowest_bytes = seconds * 1000, len(data)
        if isinstance(outcome, Failure):
            self._failed(outcome)
            return False
        if outcome in self._outcomes or len(self._outcomes) >= MOST_OUTCOMES:
            return False
        self._outcomes.add(outcome)
        return True

    def finished(self) -> Examined:
        """The count, at the end."""
        self.done.seconds = time.process_time() - self._began
        self.done.outcomes = len(self._outcomes)
        if self._warm_kib:
            self.done.grown_mib = (_peak_kib() - self._warm_kib) / 1024
        if self.done.grown_mib > GROWS_MIB:
            self.done.failures.append(Failure(f"memory grows by more than {GROWS_MIB:.0f} MiB", "", []))
        return self.done

    def _too_slow(self, seconds: float, data: bytes) -> bool:
        return seconds > self._parser.limit_s * max(1.0, len(data) / LIMIT_BYTES)

    def _timed_again(self) -> float:
        """The seconds of the last input, after all that came before it: a collection of garbage is no fault of its."""
        read, seconds = self._parser.fresh(), 0.0
        for data in self._history:
            _, seconds = self._outcome(read, data)
        return seconds

    def _renew(self) -> None:
        self._read, self._history = self._parser.fresh(), []

    def _outcome(self, read: Read, data: bytes) -> tuple[object, float]:
        """What came of it, a Failure perhaps, and the processor time in seconds."""
        began = time.thread_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, HANGS_S)
        try:
            found: object = repr(read(data))
        except self._parser.may_raise as error:
            found = type(error).__name__ + _VARIABLE.sub("", str(error))[:60]
        except (Exception, Hangs) as error:
            found = _failure(error)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return found, time.thread_time() - began

    def _failed(self, failure: Failure) -> None:
        key = (failure.what, failure.where)
        if key not in self._known and len(self._known) < MOST_FAILURES:
            self._known.add(key)
            failure.inputs = self._smallest(key, self._history)
            self.done.failures.append(failure)
        self._renew()

    def _smallest(self, key: tuple[str, str], inputs: Sequence[bytes]) -> list[bytes]:
        """The fewest and shortest inputs that fail in the same way."""

        def fails(tried: Sequence[bytes]) -> bool:
            read = self._parser.fresh()
            for data in tried:
                outcome, seconds = self._outcome(read, data)
                slow = self._too_slow(seconds, data) and not key[1]
                if slow or (isinstance(outcome, Failure) and (outcome.what, outcome.where) == key):
                    return True
            return False

        last = [inputs[-1]]
        if not fails(last):
            last = smaller(list(inputs), fails, 300)
        if not key[1]:
            return last  # a slow one is as long as it is for a reason
        return (
            [bytes(smaller(list(last[0]), lambda part: fails([bytes(part)]), MOST_TRIES))] if len(last) == 1 else last
        )


def smaller(items: list[T], fails: Callable[[list[T]], bool], tries: int) -> list[T]:
    """The items without those that need not be there for it to fail."""
    size = max(len(items) // 2, 1)
    while tries > 0:
        at, before = 0, len(items)
        while at < len(items) and tries > 0:
            without = items[:at] + items[at + size :]
            tries -= 1
            if without and fails(without):
                items = without
            else:
                at += size
        if size == 1 and len(items) == before:
            break
        size = max(size // 2, 1)
    return items


def _failure(error: BaseException) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/rollbackd/" in frame.filename or "/tests/fuzz/" in frame.filename]
    where = ours[-1] if ours else frames[-1]
    place = f"{where.filename.rpartition('/rollbackd/')[2]}:{where.lineno}"
    if isinstance(error, Hangs):
        return Failure(f"takes longer than {HANGS_S:.0f} s", place, [])
    return Failure(type(error).__name__, place, [])


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise Hangs


@contextmanager
def alarmed() -> Iterator[None]:
    """While it lasts, this thread's timer ends what takes for ever."""
    before = signal.signal(signal.SIGVTALRM, _hang)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)

"""What the intakes of log lines share: whose a line is, when it was, what it says, and which lines belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rollbackd.fields import Size
from rollbackd.intake.base import Delivery, Reading, ServiceNames
from rollbackd.intake.matching import Matcher, Matching
from rollbackd.intake.reading import REACH_S
from rollbackd.intake.repeats import Repeats
from rollbackd.logs.formats import Folder, Line, LineReader
from rollbackd.logs.levels import Level
from rollbackd.logs.settings import LineSettings
from rollbackd.model import Log

MAX_STREAMS = 10_000
"""Streams of one delivery that are told apart; lines of further ones are dropped."""


class PushedLineSettings(Matching, LineSettings):
    """How pushed lines find their service, and how they are read."""

    service_labels: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "service",
        "service_name",
        "app",
        "app_kubernetes_io_name",
        "job",
        "container",
    )
    """Labels to look at, in this order: the first whose value is a configured service's name tells the service."""
    version_labels: tuple[str, ...] = ("version", "service_version", "app_kubernetes_io_version")
    """Labels to look at for the version: the first that is there, and neither empty nor `unknown`, tells it."""
    max_line: Annotated[Size, Field(ge=256)] = 64 * 1024
    """Longer lines are cut, and counted as `line_too_long`."""
    max_bytes: Annotated[Size, Field(gt=0)] = 4 * 1024 * 1024
    """The largest delivery, before and after decompression."""


@dataclass
class Stream:
    """Lines of one origin, in the order in which they were written."""

    service: str
    version: str | None
    folder: Folder
    opened_at: float = 0.0
    opened_version: str | None = None


class Batch:
    """The lines of one delivery.

    Dropped are `unknown_service`, `too_old` and `too_many_streams`; `line_too_long` were cut.
    """

    def __init__(self, config: PushedLineSettings, matcher: Matcher, reader: LineReader, received_at: float) -> None:
        self.dropped: Counter[str] = Counter()
        self.dated = True
        """Whether all lines so far told their moment."""
        self._config, self._matcher, self._reader, self._now = config, matcher, reader, received_at
        self._streams: list[Stream] = []
        self._events: list[Log] = []

    def stream(self, labels: Mapping[str, str]) -> Stream | None:
        """The stream with these labels; None where it is nobody's that is known, or one too many."""
        service = self._matcher.service(labels)
        if service is None or len(self._streams) >= MAX_STREAMS:
            return None
        folder = Folder(self._reader, self._config.max_line)
        self._streams.append(Stream(service, self._matcher.version(labels), folder))
        return self._streams[-1]

    def refuse(self, lines: int) -> None:
        """Count the lines of a stream that is None."""
        self.dropped["too_many_streams" if len(self._streams) >= MAX_STREAMS else "unknown_service"] += lines

    def line(
        self,
        stream: Stream,
        text: str,
        at: float | None = None,
        *,
        level: Level | None = None,
        version: str | None = None,
    ) -> None:
        """A line as it was written, at Unix seconds `at` or now; what it says is for us to find out.

        `level` and `version` are those that came with it, if any.
        """
        moment = self._moment(at)
        if moment is None:
            return
        over = stream.folder.take(self._cut(text), level)
        if over is not None:
            self._add(stream, over, stream.opened_at)
        if over is not None or not stream.opened_at:
            stream.opened_at, stream.opened_version = moment, version

    def record(
        self, stream: Stream, level: Level | None, message: str, at: float | None = None, version: str | None = None
    ) -> None:
        """A record whose sender knows its level and message; a level of None is looked for in the message."""
        moment = self._moment(at)
        if moment is None:
            return
        text = self._cut(message)
        line = self._reader.read(text) if level is None else Line(level, text)
        self._add(stream, Line(line.level, line.message, version or line.version), moment)

    def reading(self) -> Reading:
        """All of it, in order of time."""
        for stream in self._streams:
            over = stream.folder.flush()
            if over is not None:
                self._add(stream, over, stream.opened_at)
        self._events.sort(key=lambda event: event.t)
        return Reading(observed=tuple(self._events), dropped=dict(self.dropped))

    def _moment(self, at: float | None) -> float | None:
        if at is None:
            self.dated = False
        if at is None or at > self._now:
            return self._now
        if at < self._now - REACH_S:
            self.dropped["too_old"] += 1
            return None
        return at

    def _cut(self, text: str) -> str:
        if len(text) > self._config.max_line:
            self.dropped["line_too_long"] += 1
            return text[: self._config.max_line]
        return text

    def _add(self, stream: Stream, line: Line, t: float) -> None:
        version = stream.version or line.version or stream.opened_version
        self._events.append(Log(t=t, service=stream.service, version=version, level=line.level, message=line.message))


class PushedLines:
    """Reads deliveries of lines, each once."""

    def __init__(self, config: PushedLineSettings, services: ServiceNames) -> None:
        self._config, self._matcher = config, Matcher(config, services)
        self._reader = config.reader()
        self._repeats = Repeats()

    def read(self, delivery: Delivery, fill: Callable[[Batch], None]) -> Reading:
        """What `fill` finds in the delivery; nothing where it is known already. Raises what `fill` raises."""
        if self._repeats.known(delivery):
            return Reading(dropped={"repeated_delivery": 1})
        batch = Batch(self._config, self._matcher, self._reader, delivery.received_at)
        fill(batch)
        reading = batch.reading()
        if reading.observed:
            self._repeats.take(delivery, dated=batch.dated)
        return reading

"""What is followed on this machine as parsers: systemd's journal, and containers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

from rollbackd.docker.containers import Choice, Container, Settings, State
from rollbackd.docker.output import NotFramed
from rollbackd.logs.formats import LineReader
from rollbackd.sources import journald
from rollbackd.sources.base import SourceContext
from rollbackd.sources.container_output import ContainerOutput, Place
from rollbackd.sources.docker_session import Kept, Session
from rollbackd.sources.records import Teller
from tests.fuzz.parser import Parser, Read, few, halves, keepable, run
from tests.support.backend import NOW
from tests.support.clock import ManualClock
from tests.support.sink import RecordingSink

LONGEST = 4096


def journal() -> Read:
    """What journalctl prints, read on and on."""
    sink = RecordingSink()
    config = journald.JournaldConfig(unit="checkout.service", version_field="APP_VERSION", max_line=LONGEST)
    teller = Teller(SourceContext("checkout", ManualClock(NOW)), sink)
    following = journald._Following(config, journald.Place(), NOW, sink, teller)

    def read(data: bytes) -> object:
        sink.events.clear()
        sink.drops.clear()
        for piece in (*halves(data), b"\n"):
            run(following.take(piece))
        run(following.settle())
        return keepable(sink.events), sorted(sink.drops)

    return read


def container(*, tty: bool) -> Read:
    """What a container prints, each input over a new connection."""
    sink = RecordingSink()
    told = Container("c0ffee", Settings(tty=tty), State(running=True))
    teller = Teller(SourceContext("checkout", ManualClock(NOW)), sink)
    output = ContainerOutput(told, None, Place(), LineReader(), LONGEST, sink, teller)

    def read(data: bytes) -> object:
        sink.events.clear()
        sink.drops.clear()
        output.begin()
        for piece in halves(data):
            run(output.take(piece))
        run(output.finish())
        return keepable(sink.events), sorted(sink.drops)

    return read


def engine_events() -> Read:
    """What an engine says of its containers."""
    sink, followed = RecordingSink(), set[str]()
    state = {"_sink": sink, "_wanted": SimpleNamespace(choice=Choice()), "_kept": Kept(), "_unreadable": {}}
    session = cast("Session", SimpleNamespace(**state, _started_again=set(), _following={}, _follow=followed.add))

    def read(data: bytes) -> object:
        sink.drops.clear()
        followed.clear()
        for line in data.split(b"\n"):
            Session._heard(session, line)
        return sorted(sink.drops), few(followed)

    return read


def _framed(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


STAMP = b"2023-11-14T22:13:19.992716718Z "
PRINTED = [STAMP + b"ERROR failed\n", STAMP + b"  at Main.java:1\n", STAMP + b"level=warn msg=slow\n", STAMP + b"half"]
FRAMED = b"".join(_framed(1 + number % 2, text) for number, text in enumerate(PRINTED))

ENTRY = {
    "__CURSOR": "s=1;i=2",
    "__REALTIME_TIMESTAMP": str(int((NOW - 5) * 1e6)),
    "MESSAGE": "payment failed",
    "PRIORITY": "3",
    "_PID": "87",
    "APP_VERSION": "v2",
}
ENTRIES = [
    ENTRY,
    {**ENTRY, "__CURSOR": "s=1;i=3", "MESSAGE": [102, 97, 255, 108], "PRIORITY": ["6", "4"]},
    {**ENTRY, "__CURSOR": "s=1;i=4", "MESSAGE_ID": "a596d6fe7bfa4994828e72309e95d61e", "N_DROPPED": "12"},
    {**ENTRY, "__CURSOR": "s=1;i=5", "MESSAGE": "Traceback (most recent call last):\n  a\nE: b", "_PID": None},
]
HAPPENING = {"Action": "start", "Actor": {"ID": "c0ffee", "Attributes": {"image": "shop:v2", "name": "checkout"}}}

PARSERS = [
    Parser(
        "journal",
        ["rollbackd.sources.journald", "rollbackd.sources.journal_entry", "rollbackd.sources.journalctl"],
        journal,
        [*(json.dumps(one).encode() for one in ENTRIES), "\n".join(map(json.dumps, ENTRIES)).encode()],
        shape="json",
    ),
    Parser(
        "docker.frames",
        ["rollbackd.docker.output", "rollbackd.sources.container_output"],
        lambda: container(tty=False),
        [FRAMED],
        (NotFramed,),
        words=[b"\1\0\0\0", b"\2\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", STAMP],
    ),
    Parser(
        "docker.terminal",
        ["rollbackd.docker.output"],
        lambda: container(tty=True),
        [b"".join(PRINTED)],
        words=[STAMP, b"0001-01-01T00:00:00+14:00 ", b"9999-12-31T23:59:59-12:00 "],
    ),
    Parser(
        "docker.events",
        ["rollbackd.sources.docker_session"],
        engine_events,
        [json.dumps(HAPPENING).encode(), json.dumps({**HAPPENING, "Action": "destroy"}).encode()],
        shape="json",
    ),
]

"""The formats of log lines as parsers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rollbackd.logs import framing, loki, loki_push, syslog
from rollbackd.logs.formats import Format, LineReader
from rollbackd.logs.levels import SERIOUS
from rollbackd.logs.loki import Entries
from rollbackd.logs.masking import MASK, mask
from rollbackd.logs.rules import LineRule, Rules
from rollbackd.logs.sieve import Sieve
from rollbackd.sources.loki_records import Records
from tests.fuzz.parser import Parser, Read, few, halves, keepable, pure, run
from tests.support.backend import NOW
from tests.support.clock import ManualClock
from tests.support.loki_push import push
from tests.support.sink import RecordingSink

LOKI = Path(__file__).parents[1] / "unit/logs/loki"
LONGEST = 4096
RULES = Rules([LineRule(match="slow (query|call)", level="error"), LineRule(match="^deprecated", name="deprecated")])


def records(form: Format) -> Read:
    """Blocks of a file, sifted into records: in two pieces as many, and the same errors, as in one."""

    def read(data: bytes) -> object:
        told = []
        for pieces in ((data,), halves(data)):
            sieve = Sieve(LineReader(form, "app.version", RULES), LONGEST)
            found = [line for piece in pieces for line in sieve.feed(piece)] + sieve.flush()
            counts = Counter[str]()
            for line in found:
                counts[line.level] += line.count
            told.append((counts, [line for line in found if line.level in SERIOUS]))
        assert told[0] == told[1]
        counts, errors = told[0]
        return sorted(counts), few(errors), [(line.level, line.version is None) for line in errors[:3]]

    return read


def unmasked(data: bytes) -> object:
    """A line with secrets; what is masked stays so."""
    text = data.decode(errors="replace")
    masked = mask(text)
    return masked == text, masked.count(MASK)


def syslog_message(data: bytes) -> object:
    """One message, and what its structured data say."""
    message = syslog.parse(data)
    if message is None:
        return None
    value = message.value("version")
    return [part is None for part in message], message.severity, value is None


def frames(data: bytes) -> object:
    """A stream in two pieces must hold the messages that it holds in one."""
    found = []
    for pieces in ((data,), halves(data)):
        stream = framing.Frames(1024)
        got: list[framing.Frame] = []
        try:
            for piece in pieces:
                got += stream.feed(piece)
            got += stream.flush()
        except framing.Unframed:
            got.append(framing.Frame(b"unframed"))
        assert all(len(frame.data) <= 1024 for frame in got)
        found.append(got)
    assert found[0] == found[1]
    return few(found[0]), [frame.cut for frame in found[0][:3]]


def loki_lines(reads: Callable[[bytes], Entries]) -> Read:
    """Loki's answers or frames of its tail, as records."""
    sink = RecordingSink()

    def read(data: bytes) -> object:
        sink.events.clear()
        sink.drops.clear()
        found = reads(data)
        records = Records("checkout", ManualClock(NOW), sink, LineReader(), LONGEST, None)
        for entry in found.entries:
            run(records.take(entry))
        run(records.flush(int((NOW + 60) * 1e9)))
        return keepable(sink.events), found.unreadable > 0, sorted(sink.drops)

    return read


def loki_labels(data: bytes) -> object:
    """The labels of a pushed stream, as text."""
    return few(list(loki_push.read_protobuf(push((data.decode("utf-8", "replace"), [])))))


def _answers(*names: str) -> Sequence[bytes]:
    return [(LOKI / f"{name}.json").read_bytes() for name in names]


def _records(form: Format) -> Parser:
    covers = [f"rollbackd.{name}" for name in ("logs.formats", "logs.sieve", "logs.harmless", "logs.rules")]
    covers += ["rollbackd.sources.log_file"]
    seeds = [RECORDS, *RECORDS.splitlines(keepends=True)]
    return Parser(f"lines:{form}", covers, lambda: records(form), seeds, words=MARKS)


RECORDS = b"""\
slow query: 3 s
deprecated call
2023-11-14T22:13:20Z ERROR payment failed
Traceback (most recent call last):
  File "app.py", line 1, in <module>
ValueError: no card
<3>kernel: oops
E1114 22:13:20.000000 1 main.go:7] failed
{"level":"error","msg":"slow","app":{"version":"v2"},"time":1700000000}
level=warn msg="a \\"quoted\\" word" app.version=v2 took=1.5s
\x1b[31mpanic: boom\x1b[0m
Caused by: java.io.IOException: broken pipe
\tat com.acme.Main.run(Main.java:17)
"""

SYSLOG = [
    b"<34>1 2023-11-14T22:13:20.003Z web1 checkout 8710 ID47"
    b' [app@32473 version="v\\"2" iut="3"][x] \xef\xbb\xbfpayment failed',
    b"<13>Nov 14 22:13:20 web1 checkout[87]: level=error msg=slow#012next",
    b'<190>2023-11-14T22:13:20+01:00 web1 nginx: @cee: {"msg":"x"}',
    b"<11>checkout: failed",
]

SECRETS = [
    b"POST /pay?token=abc123def&x=1 Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    b'{"password": "hunter2 \\"x", "api_key":"k", "card": "4111 1111 1111 1111"} postgres://u:p4ss@db:5432/x',
    b"--db-password s3cret Cookie: session=abc; b=c AKIAIOSFODNN7EXAMPLE ghp_0123456789abcdefghij",
    b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
]

FRAMES = [b"".join(b"%d %s" % (len(one), one) for one in SYSLOG), b"\n".join(SYSLOG) + b"\n", b"3000 " + b"x" * 3100]

MARKS = [b"{", b"}", b"[", b"]", b"<", b">", b'"', b"\\", b"=", b" ", b"- ", b"\t", b"\n", b"\r\n", b"\0"]

PARSERS = [
    _records("auto"),
    _records("json"),
    _records("logfmt"),
    _records("plain"),
    Parser("syslog", ["rollbackd.logs.syslog"], pure(syslog_message), SYSLOG, words=MARKS),
    Parser("masking", ["rollbackd.logs.masking"], pure(unmasked), SECRETS, words=[*MARKS, b"eyJ", b"://", b"-", b"4"]),
    Parser(
        "syslog.frames",
        ["rollbackd.logs.framing", "rollbackd.sources.syslog_port"],
        pure(frames),
        FRAMES,
        words=[*MARKS, b"1 ", b"999999999 "],
    ),
    Parser(
        "loki.answer",
        ["rollbackd.logs.loki", "rollbackd.sources.loki_records"],
        lambda: loki_lines(loki.read_answer),
        _answers("answer", "answer-parsed", "answer-merged"),
        (loki.Foreign, loki.NotLines),
        "json",
    ),
    Parser(
        "loki.frame",
        ["rollbackd.logs.loki", "rollbackd.sources.loki_tail"],
        lambda: loki_lines(loki.read_frame),
        _answers("tail", "tail-dropped"),
        (loki.Foreign,),
        "json",
    ),
    Parser(
        "loki.labels",
        ["rollbackd.logs.loki_push", "rollbackd.wire"],
        pure(loki_labels),
        [b'{service="checkout", a="\\"b\\\\\\n"}'],
        (loki_push.Malformed,),
        words=[b'"', b"\\", b"=", b",", b"{", b"}"],
    ),
]

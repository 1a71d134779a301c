"""Recordings: read strictly, written whole."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.errors import RecordingError, Temporary
from rollbackd.model import (
    LAST_MOMENT,
    MAX_BACKFILL_S,
    MAX_BACKWARDS_S,
    Alert,
    AnyEvent,
    DeploymentEvent,
    Gauge,
    Latency,
    Log,
    Probe,
    Requests,
)
from rollbackd.recording import MAX_LINE_BYTES, Recorder, decode, encode, parse, read

GOOD = b'{"type":"probe","t":100.0,"service":"shop","up":true,"duration":0.1}'

moments = st.floats(0, LAST_MOMENT)
texts = st.text(max_size=60)
names = st.text(min_size=1, max_size=60)
versions = st.none() | names
counts = st.floats(0, 1e15)
bounds = st.lists(st.floats(0, 1e6), max_size=8, unique=True).map(sorted)


@st.composite
def buckets(draw: st.DrawFn) -> dict[str, float]:
    keys = [repr(bound) for bound in draw(bounds)] + ["+Inf"]
    heights = sorted(draw(st.lists(counts, min_size=len(keys), max_size=len(keys))))
    return dict(zip(keys, heights, strict=True))


@st.composite
def requests(draw: st.DrawFn) -> Requests:
    errors, total = sorted((draw(counts), draw(counts)))
    return Requests(t=draw(moments), service=draw(names), version=draw(versions), total=total, errors=errors)


events: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(
        DeploymentEvent,
        t=moments,
        service=names,
        version=names,
        previous=versions,
        phase=st.sampled_from(["started", "finished", "failed"]),
    ),
    requests(),
    st.builds(Latency, t=moments, service=names, version=versions, buckets=buckets()),
    st.builds(
        Gauge,
        t=moments,
        service=names,
        version=versions,
        name=names,
        value=st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.builds(Probe, t=moments, service=names, up=st.booleans(), duration=counts),
    st.builds(Log, t=moments, service=names, version=versions, level=names, message=texts),
    st.builds(
        Alert, t=moments, service=names, name=names, status=st.sampled_from(["firing", "resolved"]), severity=texts
    ),
)


@given(events)
def test_every_event_comes_back_as_it_was_written(event: AnyEvent) -> None:
    line = encode(event)
    assert b"\n" not in line
    assert decode(line) == event


def _requests(fields: str) -> bytes:
    return b'{"type":"requests","t":1,"service":"shop",' + fields.encode() + b"}"


def _latency(buckets: str) -> bytes:
    return b'{"type":"latency","t":1,"service":"shop","buckets":' + buckets.encode() + b"}"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "it is not JSON"),
        (b"\xef\xbb\xbf" + GOOD, "it is not JSON"),
        (GOOD + GOOD, "it is not JSON"),
        (GOOD.replace(b"shop", b"sh\xffp"), "it is not valid UTF-8"),
        (GOOD.replace(b"shop", b"sh\\ud800p"), "it is not JSON"),
        (b"[" * 100_000, "expected `object`"),
        (b'{"x":' * 100_000, "nested too deeply"),
        (b"null", "expected `object`, got `null`"),
        (b'{"t":1,"service":"shop"}', "missing required field `type`"),
        (b'{"type":"request"}', "type: invalid value 'request' (an event's type is deployment, requests,"),
        (b'{"type":7}', "type: expected `str`"),
        (_requests('"total":1'), "missing required field `errors`"),
        (_requests('"total":1,"errors":0,"totl":2'), "unknown field `totl`"),
        (_requests('"total":"1","errors":0'), "total: expected `float`, got `str`"),
        (_requests('"total":NaN,"errors":0'), "it is not JSON"),
        (_requests('"total":Infinity,"errors":0'), "it is not JSON"),
        (_requests('"total":1e999,"errors":0'), "total: number out of range"),
        (_requests('"total":1e16,"errors":0'), "total: expected `float` <= "),
        (_requests('"total":1,"errors":-1'), "errors: expected `float` >= 0"),
        (_requests('"total":1,"errors":2'), "`errors` exceeds `total`"),
        (GOOD.replace(b"100.0", b"-1"), "`t` must be a moment in Unix seconds, -1.0 is not"),
        (GOOD.replace(b"100.0", b"1763898248250"), "`t` must be a moment in Unix seconds, 1763898248250.0 is not"),
        (GOOD.replace(b"100.0", b"true"), "t: expected `float`, got `bool`"),
        (GOOD.replace(b"100.0", b"1e999"), "t: number out of range"),
        (GOOD.replace(b'"shop"', b'""'), "service: expected `str` of length >= 1"),
        (GOOD.replace(b"shop", b"s" * 501), "service: expected `str` of length <= 500"),
        (GOOD.replace(b"true", b"1"), "up: expected `bool`, got `int`"),
        (_latency("{}"), '`buckets` must end with "+Inf"'),
        (_latency('{"0.1":1}'), '`buckets` must end with "+Inf"'),
        (_latency('{"1":1,"0.1":2,"+Inf":3}'), "rising order of their bounds, `0.1` is not"),
        (_latency('{"0.1":2,"1":1,"+Inf":3}'), "cumulative, but `1` holds fewer"),
        (_latency('{"fast":1,"+Inf":3}'), "`fast` is neither"),
        (_latency('{"NaN":1,"+Inf":3}'), "`NaN` is neither"),
        (_latency('{"Inf":3}'), "`Inf` is neither"),
        (_latency('{"1e999":3}'), "`1e999` is neither"),
        (_latency('{"1_0":1,"+Inf":3}'), "`1_0` is neither"),
        (_latency('{"1":null,"+Inf":3}'), "buckets[...]: expected `float`, got `null`"),
        (b'{"type":"deployment","t":1,"service":"shop","version":"","phase":"started"}', "version: expected `str`"),
        (b'{"type":"deployment","t":1,"service":"shop","version":"2","phase":"done"}', "phase: invalid enum value"),
        (b'{"type":"gauge","t":1,"service":"shop","name":"load","value":1e999}', "value: number out of range"),
    ],
)
def test_a_bad_line_says_file_line_and_fault(tmp_path: Path, line: bytes, fault: str) -> None:
    path = tmp_path / "day.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n" + GOOD)
    with pytest.raises(RecordingError) as caught:
        list(read(path))
    assert str(caught.value).startswith(f"{path}:3: ")
    assert fault in str(caught.value)


def test_what_comes_before_a_bad_line_is_read() -> None:
    events = parse([GOOD, b"nonsense"], "x")
    assert next(events) == decode(GOOD)
    with pytest.raises(RecordingError, match=r"^x:2: "):
        next(events)


def test_blank_lines_and_a_missing_last_newline_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.write_bytes(b"\n  \n" + GOOD + b"\r\n\n" + GOOD)
    assert len(list(read(path))) == 2


@pytest.mark.parametrize(
    "lines",
    [
        b"%s%s\n\n",
        b"%s %s\n\n",
        b"%s\r%s\n\n",
        b'%s{"type":"probe",\n"t":100.0,"service":"shop","up":true,"duration":0.1}\n',
    ],
    ids=["run together", "beside", "carriage return", "the second over two lines"],
)
def test_a_line_holds_one_event(tmp_path: Path, lines: bytes) -> None:
    """Also where there are as many events as lines."""
    path = tmp_path / "day.jsonl"
    path.write_bytes(lines % ((GOOD, GOOD) if lines.count(b"%s") == 2 else (GOOD,)))
    with pytest.raises(RecordingError, match=f"{path}:1: it is not JSON"):
        list(read(path))


def _many(lines: int) -> bytes:
    """Lines of all lengths, so that whatever is read at a time ends anywhere in one of them; every seventh is blank."""
    events = (Log(t=n, service="shop", level="info", message="x" * (n % 251)) for n in range(lines))
    return b"".join(b"\n" if event.t % 7 == 6 else encode(event) + b"\n" for event in events)


def test_a_long_recording_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.write_bytes(_many(5000))
    assert path.stat().st_size > 500_000
    assert [event.t for event in read(path)] == [float(n) for n in range(5000) if n % 7 != 6]


@pytest.mark.parametrize("number", [3, 1203, 4001])
def test_a_bad_line_deep_in_a_recording_has_its_number_and_all_before_it_is_read(tmp_path: Path, number: int) -> None:
    path = tmp_path / "day.jsonl"
    lines = _many(5000).split(b"\n")
    lines[number - 1] = b"nonsense"
    path.write_bytes(b"\n".join(lines))
    events = read(path)
    for n in range(number - 1):
        if n % 7 != 6:
            assert next(events).t == n
    with pytest.raises(RecordingError, match=f"{path}:{number}: it is not JSON"):
        next(events)


def test_a_step_back_in_time_deep_in_a_recording_has_its_number(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.write_bytes(_many(5000) + _alert_at(100.0))
    with pytest.raises(RecordingError, match=f"{path}:5001: t: 100.0 lies 4899 s behind an earlier line"):
        list(read(path))


def test_what_comes_through_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        events = read(path)
        for t in (1.0, 2.0):
            os.write(writer, _at(t) + b"\n")
            assert next(events).t == t
        events.close()  # type: ignore[attr-defined]  # it is a generator, and holds the pipe open
    finally:
        os.close(writer)


def test_the_longest_line_is_counted_with_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    empty = len(encode(Log(t=1, service="shop", level="error", message="")))
    line = encode(Log(t=1, service="shop", level="error", message="x" * (MAX_LINE_BYTES - empty)))
    path.write_bytes(GOOD.replace(b"100.0", b"1.0") + b"\n" + line)
    assert len(list(read(path))) == 2
    path.write_bytes(line + b"\n")
    with pytest.raises(RecordingError, match=f"{path}:1: the line is longer than"):
        list(read(path))


def _at(t: float) -> bytes:
    return GOOD.replace(b"100.0", repr(t).encode())


def _alert_at(t: float) -> bytes:
    return encode(Alert(t=t, service="shop", name="Down", status="firing", severity="page"))


def test_times_may_run_backwards_up_to_the_bound() -> None:
    lines = [_at(1000.0), _alert_at(1000.0 - MAX_BACKWARDS_S), _at(1000.0)]
    assert [event.t for event in parse(lines, "x")] == [1000.0, 400.0, 1000.0]


def test_signals_may_come_from_hours_ago_since_sources_can_read_the_past() -> None:
    now = 100_000.0
    lines = [_at(now), _at(now - MAX_BACKFILL_S), _at(now)]
    assert [event.t for event in parse(lines, "x")] == [now, now - MAX_BACKFILL_S, now]
    with pytest.raises(RecordingError, match=r"lies 21601 s behind an earlier line; at most 21600 s"):
        list(parse([_at(now), _at(now - MAX_BACKFILL_S - 1)], "x"))


def test_times_that_run_backwards_over_the_bound_are_refused() -> None:
    """The bound is counted from the newest line, so many small steps back do not add up either."""
    lines = [_at(1000.0), _alert_at(700.0), _alert_at(399.0)]
    with pytest.raises(RecordingError, match=r"x:3: t: 399\.0 lies 601 s behind an earlier line; at most 600 s"):
        list(parse(lines, "x"))


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_recording_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match="cannot be read: "):
        list(read(tmp_path / name))


def test_a_log_line_of_ten_megabytes_is_an_event(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    event = Log(t=1, service="shop", level="error", message="x" * 10_000_000)
    path.write_bytes(encode(event))
    assert list(read(path)) == [event]


def test_an_endless_line_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    with path.open("wb") as handle:
        handle.truncate(20 * MAX_LINE_BYTES)  # sparse: it takes no room on the disk
    tracemalloc.start()
    try:
        with pytest.raises(RecordingError, match=f"{path}:1: the line is longer than"):
            list(read(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_LINE_BYTES


# -- writing


def _probe(t: float) -> Probe:
    return Probe(t=t, service="shop", up=True, duration=0.1)


def test_a_recorder_goes_on_where_an_earlier_one_stopped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "day.jsonl"
    for t in (1.0, 2.0):
        recorder = Recorder(path)
        recorder.write(_probe(t))
        recorder.close()
        recorder.close()
    assert [event.t for event in read(path)] == [1.0, 2.0]


def test_a_new_recording_is_for_its_owner_alone_and_an_old_one_as_it_was(tmp_path: Path) -> None:
    """Log lines and alerts are in it as they came. Whoever opened an old one to others may have meant it."""
    fresh, shared = tmp_path / "fresh.jsonl", tmp_path / "shared.jsonl"
    shared.touch(mode=0o640)
    umask = os.umask(0o022)
    try:
        for path in (fresh, shared):
            recorder = Recorder(path)
            recorder.write(_probe(1.0))
            recorder.close()
    finally:
        os.umask(umask)
    assert [oct(path.stat().st_mode & 0o777) for path in (fresh, shared)] == ["0o600", "0o640"]


def test_what_is_written_can_be_read_at_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "day.jsonl")
    recorder.write(_probe(1.0))
    assert len(list(read(tmp_path / "day.jsonl"))) == 1
    recorder.close()


@pytest.mark.parametrize("torn", [b'{"type":"probe","t":1.', b"{", b'\xe2\x82{"t"', b"\0\0\0"])
def test_a_torn_last_line_is_taken_away(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "day.jsonl"
    path.write_bytes(encode(_probe(1.0)) + b"\n" + torn)
    recorder = Recorder(path)
    recorder.write(_probe(2.0))
    recorder.close()
    assert [event.t for event in read(path)] == [1.0, 2.0]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.write_bytes(encode(_probe(1.0)))
    recorder = Recorder(path)
    recorder.write(_probe(2.0))
    recorder.close()
    assert [event.t for event in read(path)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        (Probe(t=1, service="", up=True, duration=0.1), "service: expected `str` of length >= 1"),
        (Log(t=1, service="shop", level="error", message="\ud800"), "surrogates not allowed"),
        (Log(t=1, service="shop", level="error", message="x" * MAX_LINE_BYTES), "longer than"),
    ],
    ids=["no service", "no text", "too long"],
)
def test_an_event_that_could_not_be_read_back_is_not_written(tmp_path: Path, event: AnyEvent, fault: str) -> None:
    """One such line would make all that follow it unreadable."""
    path = tmp_path / "day.jsonl"
    recorder = Recorder(path)
    recorder.write(_probe(1.0))
    with pytest.raises(RecordingError, match=fault):
        recorder.write(event)
    recorder.write(_probe(2.0))
    recorder.close()
    assert [event.t for event in read(path)] == [1.0, 2.0]


def test_a_full_disk_is_temporary() -> None:
    recorder = Recorder(Path("/dev/full"))
    for _ in range(2):
        with pytest.raises(Temporary, match="recording /dev/full: No space left on device"):
            recorder.write(_probe(1.0))
    recorder.close()


def test_a_place_that_cannot_be_written_is_temporary(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Temporary, match=r"recording .*/file/day\.jsonl: "):
        Recorder(tmp_path / "file" / "day.jsonl").write(_probe(1.0))


_FILL = """
import resource, signal, sys
from pathlib import Path
from rollbackd.errors import Temporary
from rollbackd.model import Log
from rollbackd.recording import Recorder

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(Path(sys.argv[1]))
for t in range(40):
    if t in (10, 30):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if t == 10 else resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        recorder.write(Log(t=t, service="shop", level="info", message="x" * t))
        print(t)
    except Temporary:
        pass
"""


def test_a_disk_that_fills_up_and_is_emptied_leaves_whole_lines_only(tmp_path: Path) -> None:
    """Every event whose write succeeded is there, none whose write failed, and nothing between."""
    path = tmp_path / "day.jsonl"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    ran = subprocess.run(
        [sys.executable, "-c", _FILL, str(path)], capture_output=True, text=True, timeout=30, check=True
    )
    written = [float(line) for line in ran.stdout.split()]
    assert 0.0 in written
    assert 20.0 not in written
    assert 39.0 in written
    assert [event.t for event in read(path)] == written

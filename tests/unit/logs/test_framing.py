"""Syslog messages in a TCP stream, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.logs.framing import Frame, Frames, Unframed

BOUND = 10


def frames(*pieces: bytes, bound: int = BOUND) -> list[Frame]:
    cutter = Frames(bound)
    found = [frame for piece in pieces for frame in cutter.feed(piece)]
    return [*found, *cutter.flush()]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"<1>a\n<2>b\n", [Frame(b"<1>a"), Frame(b"<2>b")]),
        (b"\n<1>a\n\n<2>b", [Frame(b"<1>a"), Frame(b"<2>b")]),
        (b"4 <1>a4 <2>b", [Frame(b"<1>a"), Frame(b"<2>b")]),
        (b"5 <1>a\n4 <2>b", [Frame(b"<1>a\n"), Frame(b"<2>b")]),
        (b"4 <1>a\n4 <2>b\n", [Frame(b"<1>a"), Frame(b"<2>b")]),
        (b"6 <1>a\nb4 <2>c", [Frame(b"<1>a\nb"), Frame(b"<2>c")]),
        (b"<1>345678901\n<2>b\n", [Frame(b"<1>3456789", cut=True), Frame(b"<2>b")]),
        (b"<1>34567890\n", [Frame(b"<1>3456789", cut=True)]),
        (b"<1>3456789\n", [Frame(b"<1>3456789")]),
        (b"12 <1>3456789014 <2>b", [Frame(b"<1>3456789", cut=True), Frame(b"<2>b")]),
        (b"9 <1>a", []),
        (b"", []),
    ],
)
def test_messages_are_told_apart_wherever_the_pieces_end(sent: bytes, expected: list[Frame]) -> None:
    assert frames(sent) == expected
    assert frames(*(bytes([byte]) for byte in sent)) == expected


@given(st.lists(st.binary(min_size=1, max_size=15).filter(lambda one: not one[:1].isdigit()), max_size=8), st.data())
def test_what_is_counted_comes_out_as_it_went_in(messages: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(b"%d %s" % (len(one), one) for one in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert frames(*pieces) == [Frame(one[:BOUND], len(one) > BOUND) for one in messages]


@pytest.mark.parametrize("sent", [b"4 <1>ax", b"4 <1>a0 ", b"4 <1>a1234567890 ", b"12x", b"1234567890"])
def test_a_stream_that_lost_count_is_given_up(sent: bytes) -> None:
    with pytest.raises(Unframed):
        frames(sent)


@given(st.lists(st.binary(max_size=40)))
def test_hostile_bytes_are_cut_or_given_up_in_bounded_memory(pieces: list[bytes]) -> None:
    cutter = Frames(BOUND)
    try:
        for piece in pieces:
            assert all(len(frame.data) <= BOUND for frame in cutter.feed(piece))
            assert len(cutter._rest) <= BOUND + 10
    except Unframed:
        pass

"""A container's output, in whatever pieces it comes and whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.docker.output import MAX_PIECE, Frames, NotFramed, Piece, Terminal, nanoseconds


def framed(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


STAMP = b"2026-11-24T14:00:08.992716718Z "
AT = 1795528808992716718


@pytest.mark.parametrize("size", [1, 2, 7, 100000])
def test_frames_are_read_whatever_pieces_they_come_in(size: int) -> None:
    data = framed(1, STAMP + b"out\n") + framed(2, STAMP + b"err\r\n") + framed(1, b"") + framed(1, STAMP + b"half")
    frames, found = Frames(), list[Piece]()
    for at in range(0, len(data), size):
        found += frames.feed(data[at : at + size])
    assert found == [
        Piece("stdout", AT, b"out"),
        Piece("stderr", AT, b"err"),
        Piece("stdout", None, b"", ends=False),
        Piece("stdout", AT, b"half", ends=False),
    ]


@pytest.mark.parametrize("size", [1000, 70001])
def test_a_frame_beyond_all_bounds_is_cut_and_held_in_little_memory(size: int) -> None:
    frames, found = Frames(), list[Piece]()
    data = framed(1, STAMP + b"x" * 3_000_000) + framed(1, STAMP + b"next\n")
    for at in range(0, len(data), size):
        found += frames.feed(data[at : at + size])
        assert len(frames._rest) <= MAX_PIECE + size
    assert [(len(piece.text), piece.ends) for piece in found] == [(MAX_PIECE - len(STAMP), False), (4, True)]


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_hostile_output_raises_nothing_unforeseen(pieces: list[bytes], terminal: bool) -> None:
    reader = Terminal() if terminal else Frames()
    try:
        for data in pieces:
            for piece in reader.feed(data):
                assert piece.stamp is None or piece.stamp > -(10**20)
    except NotFramed:
        assert not terminal


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T14:00:08.992716718Z", AT),
        ("2026-11-24T16:00:08.992716718+02:00", AT),
        ("2026-11-24T14:00:08.9Z", AT // 10**9 * 10**9 + 900_000_000),
        ("2026-11-24T14:00:08Z", AT // 10**9 * 10**9),
        ("2026-11-24T14:00:08", None),
        ("2026-13-24T14:00:08Z", None),
        ("", None),
    ],
)
def test_moments_are_read_to_the_nanosecond(text: str, moment: int | None) -> None:
    assert nanoseconds(text) == moment


def test_the_stamps_within_a_terminals_long_line_are_no_part_of_it() -> None:
    line = STAMP + b"x" * 16384 + STAMP + b"y\r\n"
    assert Terminal().feed(line) == [Piece("stdout", AT, b"x" * 16384 + b"y")]

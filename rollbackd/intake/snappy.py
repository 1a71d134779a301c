"""Snappy's block format, in which Prometheus and Loki are pushed to: undone within bounds."""

from __future__ import annotations

import cramjam

from rollbackd.intake.base import Rejected

MAX_PREAMBLE = 5
"""The size stands in so many bytes at most (https://github.com/google/snappy/blob/main/format_description.txt)."""


def unsnappy(body: bytes, limit: int) -> bytes:
    """The body unpacked. Its size stands at its beginning, so what is too large is never unpacked.

    Raises Rejected: 413 beyond `limit` bytes, 400 for what is not in this format.
    """
    size = _size(body)
    if size is not None and size > limit:
        raise Rejected(f"the body has {size} bytes, and may have {limit}", status=413, code="too_large")
    try:
        if size is not None:
            return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        pass
    raise Rejected("the body is not in Snappy's block format, as it should be")


def _size(body: bytes) -> int | None:
    """The size that the preamble tells; None where there is no preamble."""
    size = 0
    for place, byte in enumerate(body[:MAX_PREAMBLE]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return size
    return None

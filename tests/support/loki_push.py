"""What is pushed to Loki, in protobuf, encoded by hand."""

from __future__ import annotations


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def part(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def number(at: int, value: int) -> bytes:
    return varint(at << 3) + varint(value & (1 << 64) - 1)


def entry(moment: int, line: str | bytes, **metadata: str) -> bytes:
    text = line.encode() if isinstance(line, str) else line
    when = number(1, moment // 10**9) + number(2, moment % 10**9)
    pairs = b"".join(part(3, part(1, key.encode()) + part(2, value.encode())) for key, value in metadata.items())
    return part(2, part(1, when) + part(2, text) + pairs)


def push(*streams: tuple[str, list[bytes]]) -> bytes:
    return b"".join(part(1, part(1, labels.encode()) + b"".join(entries)) for labels, entries in streams)

"""Syslog messages as programs send them, and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.logs.syslog import Message, parse

RFC_STAMP = 1_065_910_455.003


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        # RFC 5424, section 6.5
        (
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed on /dev/pts/8",
            Message(2, "'su root' failed on /dev/pts/8", "su", "mymachine.example.com", None, RFC_STAMP),
        ),
        (
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
            '[exampleSDID@32473 iut="3" eventSource="Application"][x@1 class="high"]',
            Message(
                5,
                "",
                "evntslog",
                "mymachine.example.com",
                None,
                RFC_STAMP,
                '[exampleSDID@32473 iut="3" eventSource="Application"][x@1 class="high"]',
            ),
        ),
        ("<0>1 - - - - - -", Message(0, "")),
        ("<14>1 - h shop 7 - - two  spaces ", Message(6, "two  spaces ", "shop", "h", "7")),
        ("<14>1 2003-10-11T22:14:15.003 h shop - - - no offset", Message(6, "no offset", "shop", "h")),
        ("<14>1 2003-99-11T22:14:15Z h shop - - - no date", Message(6, "no date", "shop", "h")),
        ("<14>1 - h shop - - [broken] text", Message(6, "text", "shop", "h", data="[broken]")),
        ("<14>1 - h shop - - [INFO: text", Message(6, "[INFO: text", "shop", "h")),
        # glibc's syslog(3), which names no host
        ("<11>Nov 24 12:00:00 shop[7]: it broke", Message(3, "it broke", "shop", None, "7")),
        ("<11>Nov  4 12:00:00 shop:   indented", Message(3, "  indented", "shop")),
        # logger --rfc3164 and nginx, which do
        ("<13>Nov 24 12:00:00 web-1 shop: hello", Message(5, "hello", "shop", "web-1")),
        ("<190>Nov 24 12:00:00 web-1 nginx: 127.0.0.1 - - GET", Message(6, "127.0.0.1 - - GET", "nginx", "web-1")),
        ("<13>Nov 24 12:00:00 fe80::1 shop: hello", Message(5, "hello", "shop", "fe80::1")),
        # HAProxy, with and without log-send-hostname
        (
            "<134>Nov 24 12:00:00 haproxy[12]: Server b/s is DOWN",
            Message(6, "Server b/s is DOWN", "haproxy", None, "12"),
        ),
        (
            "<134>Nov 24 12:00:00 lb haproxy[12]: Server b/s is DOWN",
            Message(6, "Server b/s is DOWN", "haproxy", "lb", "12"),
        ),
        # Docker's driver and rsyslog's RSYSLOG_ForwardFormat
        ("<27>2003-10-11T22:14:15.003Z node 3f2a[9]: oops", Message(3, "oops", "3f2a", "node", "9", RFC_STAMP)),
        ("<27>2003-10-11T22:14:15.003+00:00 node shop oops", Message(3, "shop oops", None, "node", None, RFC_STAMP)),
        # Cisco, and others that name the year
        ("<189>Nov 24 2026 12:00:00: %SYS-5-CONFIG: done", Message(5, "done", "%SYS-5-CONFIG")),
        ("<189>*Nov 24 12:00:00.123: %SYS-5-CONFIG: done", Message(5, "done", "%SYS-5-CONFIG")),
        # Python's SysLogHandler: no time, a tag if the formatter or `ident` gives one, and a NUL at the end
        ("<14>shop: hello\0", Message(6, "hello", "shop")),
        ("<14>hello there: you\0", Message(6, "hello there: you")),
        ("<14>http://x is gone", Message(6, "http://x is gone")),
        ("<14>", Message(6, "")),
        # what relays do to messages
        ("<14>shop: a#012\tat b#011c", Message(6, "a\n\tat b\tc", "shop")),
        ('<14>shop: @cee: {"level":"error"}\r\n', Message(6, '{"level":"error"}', "shop")),
        ("<14>Nov 24 12:00:00 - shop: x", Message(6, "x", "shop")),
    ],
)
def test_a_message_is_read_as_it_was_meant(sent: str, read: Message) -> None:
    assert parse(sent.encode()) == read


@pytest.mark.parametrize("sent", ["", "hello", "<>x", "<192>x", "<999>1 - - - - - -", "14>x", "<1 4>x", " <14>x"])
def test_what_has_no_priority_is_no_syslog(sent: str) -> None:
    assert parse(sent.encode()) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 'v2 "x" \\ ] \\n'),
        ("app@1.version", 'v2 "x" \\ ] \\n'),
        ("other.version", "9"),
        ("origin.ip", "1.2.3.4"),
        ("nothing", None),
    ],
)
def test_structured_data_is_looked_up_by_parameter_and_element(field: str, value: str | None) -> None:
    data = r'[app@1 version="v2 \"x\" \\ \] \n"][other version="9"][origin ip="1.2.3.4"]'
    message = parse(f"<14>1 - h shop - - {data} text [a b=]".encode())
    assert message is not None
    assert (message.value(field), message.text) == (value, "text [a b=]")


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    assert parse(b"<14>shop: \xff\xfe") == Message(6, "\ufffd\ufffd", "shop")


PIECES = [
    "<",
    "14",
    ">",
    "1 ",
    "- ",
    "[",
    "]",
    '"',
    "\\",
    "=",
    "a@1",
    " ",
    ":",
    "Nov 24 12:00:00 ",
    "\n",
    "2003-10-11T",
    "é",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40))
def test_hostile_text_is_read_or_refused(pieces: list[str]) -> None:
    message = parse(("<14>" + "".join(pieces)).encode())
    assert message is not None
    message.value("a")


@given(st.binary(max_size=200))
def test_hostile_bytes_are_read_or_refused(data: bytes) -> None:
    parse(data)


@pytest.mark.parametrize(
    "long", ["[" * 60_000, '[a b="' + "\\" * 60_000, "[a" + ' b="c"' * 10_000, '[a b="c"]' * 6_000 + "[", " " * 60_000]
)
def test_hostile_text_takes_no_longer_than_its_length(long: str) -> None:
    """The time limit of the tests would tell."""
    message = parse(b"<14>1 - h shop - - " + long.encode())
    assert message is not None
    message.value("nothing")
    parse(b"<14>Nov 24 12:00:00 " + long.encode())

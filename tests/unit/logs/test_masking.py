"""Secrets in log lines are masked, whatever they look like, and what is none is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.logs.masking import mask, masked
from rollbackd.model import Log

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75\nabc=\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("login failed, password=hunter2 user=joe", "login failed, password=*** user=joe"),
        ("db_password: hunter2", "db_password: ***"),
        ("password: hunter", "password: ***"),
        ('body {"user":"joe","password":"my long one","n":1}', 'body {"user":"joe","password":"***","n":1}'),
        ('body "{\\"api_key\\":\\"abc123\\"}"', 'body "{\\"api_key\\":\\"***\\"}"'),
        ("{'client_secret': 'abc'}", "{'client_secret': '***'}"),
        ("GET /?access_token=abc&x=1 failed", "GET /?access_token=***&x=1 failed"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "aws_secret_access_key = ***"),
        ("X-Api-Key: 12ab", "X-Api-Key: ***"),
        ("ran tool --db-password hunter2 --verbose", "ran tool --db-password *** --verbose"),
        ("Cookie: theme=dark; sid=abc", "Cookie: ***"),
        ('{"set-cookie":"sid=abc; Path=/","n":1}', '{"set-cookie":"***","n":1}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ('"authorization":"Basic am9lOmh1bnRlcjI="', '"authorization":"Basic ***"'),
        ("Authorization=secret", "Authorization=***"),
        ("sent Bearer abcdefgh12345678 upstream", "sent Bearer *** upstream"),
        ("cannot reach postgres://joe:hunter2@db:5432/shop", "cannot reach postgres://joe:***@db:5432/shop"),
        ("redis://:hunter2@cache", "redis://:***@cache"),
        (f"bad token {JWT}", "bad token ***"),
        (f"session-{JWT}", "session-***"),
        (f"loaded {KEY} from disk", "loaded *** from disk"),
        ("loaded -----BEGIN PRIVATE KEY-----\nMIIEvQ cut off", "loaded ***"),
        ("key id AKIAIOSFODNN7EXAMPLE is unknown", "key id *** is unknown"),
        ("push with ghp_abcdefghijklmnopqrstuvwxyz0123456789 refused", "push with *** refused"),
        ("xoxb-123456789012-abcdefghij", "***"),
        ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "***"),
        ("card 4111 1111 1111 1111 declined", "card *** declined"),
        ("card 5500-0000-0000-0004 declined", "card *** declined"),
        ("card 378282246310005.", "card ***."),
    ],
)
def test_a_secret_is_masked_and_the_rest_stays(text: str, expected: str) -> None:
    assert mask(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach db 10.0.0.1 from worker 7",
        "order 4111111111111112 not found",
        "took 1732455120123456 ns",
        "SyntaxError: Unexpected token: end of input",
        "SyntaxError: Unexpected token < in JSON",
        "max_tokens=100 exceeded",
        "Basic authentication failed",
        "the bearer of this ticket",
        "key error: 'socks'",
        "see https://example.com/a:b@c",
        "joe@example.com is unknown",
        'empty "password":"" refused',
        "trace 550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


def test_an_event_without_a_secret_is_handed_on_as_it_is() -> None:
    event = Log(t=1, service="shop", level="error", message="it broke")
    assert masked(event) is event
    assert masked(Log(t=1, service="shop", level="error", message="pwd=x", count=3)) == Log(
        t=1, service="shop", level="error", message="pwd=***", count=3
    )


@given(st.text(alphabet="pasword=: \"'\\-ey.J4321Bearer@/", max_size=300))
def test_masking_again_changes_nothing_that_was_masked(text: str) -> None:
    """No text breaks it."""
    mask(mask(text))


@pytest.mark.parametrize(
    "piece",
    ["password=", "4 ", "eyJ", "eyJ-", "eyJabcdefgh-", "://a:", "-----BEGIN PRIVATE KEY-----", '"token":"', "--a-"],
)
def test_a_line_made_to_be_slow_is_not(piece: str) -> None:
    began = time.process_time()
    mask(piece * (64 * 1024 // len(piece)))
    assert time.process_time() - began < 3

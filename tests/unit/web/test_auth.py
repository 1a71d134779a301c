"""Tokens: who is known by them, what each may do, how they rotate, and how guessing is slowed down."""

from __future__ import annotations

import base64

import pytest
from structlog.testing import capture_logs

from rollbackd.errors import ConfigError
from rollbackd.intake.base import Scope
from rollbackd.web.auth import Authenticator, Identity, Token
from rollbackd.web.errors import HttpError


class Hand:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def token(name: str, value: str, *scopes: Scope) -> Token:
    return Token(name, lambda: value, frozenset(scopes))


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


TOKENS = [token("ci", "ci-value", "deploy"), token("alice", "alice-value", "operate", "read")]


def refusal(auth: Authenticator, header: str | None, scope: Scope, peer: str = "192.0.2.1") -> HttpError:
    with pytest.raises(HttpError) as refused:
        auth.permit(auth.identify(header, peer), scope)
    return refused.value


@pytest.mark.parametrize(
    "header", ["Bearer ci-value", "bearer  ci-value ", basic("anybody:ci-value"), basic(":ci-value")]
)
def test_a_token_is_known_as_bearer_and_as_password(header: str) -> None:
    assert Authenticator(TOKENS).identify(header, "peer").name == "ci"


@pytest.mark.parametrize("scope", ["ingest", "deploy", "operate"])
def test_without_a_credential_nothing_but_reading_is_possible(scope: Scope) -> None:
    auth = Authenticator(TOKENS)
    auth.permit(auth.identify(None, "peer"), "read")
    refused = refusal(auth, None, scope)
    assert (refused.status, refused.code) == (401, "credential_needed")
    assert {name for name, _ in refused.headers} == {"WWW-Authenticate"}


def test_the_operator_says_what_needs_no_credential() -> None:
    open_to_all = Authenticator([], frozenset({"ingest"}))
    open_to_all.permit(open_to_all.identify(None, "peer"), "ingest")
    assert refusal(open_to_all, None, "read").status == 401


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong",
        "Bearer",
        "Bearer ",
        "",
        "ci-value",
        "Digest ci-value",
        "Basic !!!",
        "Basic \u00e9",
        "Basic \udcff",
        basic("no-colon"),
        basic("u:"),
    ],
)
def test_a_wrong_credential_is_refused_even_where_none_is_needed(header: str) -> None:
    assert refusal(Authenticator(TOKENS), header, "read").status == 401


def test_a_token_may_do_what_it_has_the_scopes_for_and_no_scope_implies_another() -> None:
    auth = Authenticator(TOKENS, anonymous=frozenset())
    auth.permit(auth.identify("Bearer alice-value", "peer"), "operate")
    refused = refusal(auth, "Bearer alice-value", "deploy")
    assert (refused.status, refused.code) == (403, "scope_missing")
    assert "`alice`" in str(refused)
    assert refusal(auth, "Bearer ci-value", "read").status == 403


def test_what_everybody_may_a_token_may_too() -> None:
    auth = Authenticator(TOKENS)
    assert auth.identify("Bearer ci-value", "peer") == Identity("ci", frozenset({"deploy", "read"}))


def test_a_rotated_secret_takes_effect_once_the_cache_is_old() -> None:
    now, values = Hand(), ["old"]
    auth = Authenticator([Token("ci", lambda: values[-1], frozenset())], monotonic=now, cache_s=5)
    assert auth.identify("Bearer old", "peer").name == "ci"
    values.append("new")
    now.at += 5
    assert auth.identify("Bearer new", "peer").name == "ci"
    assert refusal(auth, "Bearer old", "read").status == 401


def test_a_secret_is_not_read_at_every_request() -> None:
    reads: list[int] = []

    def secret() -> str:
        reads.append(1)
        return "value"

    auth = Authenticator([Token("ci", secret, frozenset())], monotonic=Hand())
    for _ in range(3):
        auth.identify("Bearer value", "peer")
    assert len(reads) == 1


@pytest.mark.parametrize("error", [ConfigError("file is gone"), OSError("file is gone"), ValueError("file is gone")])
def test_a_token_whose_secret_cannot_be_read_matches_nothing_and_is_reported_once(error: Exception) -> None:
    now = Hand()

    def secret() -> str:
        raise error

    auth = Authenticator([Token("broken", secret, frozenset()), *TOKENS], monotonic=now)
    with capture_logs() as logs:
        for _ in range(3):
            assert auth.identify("Bearer ci-value", "peer").name == "ci"
            now.at += 10
    assert [entry["token"] for entry in logs if entry["event"] == "token_unreadable"] == ["broken"]


def test_an_empty_secret_matches_nothing() -> None:
    assert refusal(Authenticator([token("empty", "", "read")]), basic("user:"), "read").status == 401


def test_another_configuration_takes_effect_at_once() -> None:
    auth = Authenticator(TOKENS)
    auth.identify("Bearer ci-value", "peer")
    auth.replace([token("new", "new-value", "deploy")], frozenset())
    assert auth.identify("Bearer new-value", "peer").name == "new"
    assert refusal(auth, "Bearer ci-value", "read").status == 401


class TestGuessing:
    """Many wrong tokens from one address are sent away for a while; right ones from there are let in."""

    PROXY = "192.0.2.66"

    def guess(self, auth: Authenticator, times: int = 10) -> None:
        for number in range(times):
            assert refusal(auth, f"Bearer guess-{number}", "read", self.PROXY).status == 401

    def test_further_wrong_ones_have_to_wait(self) -> None:
        auth = Authenticator(TOKENS, monotonic=Hand())
        self.guess(auth)
        with capture_logs() as logs:
            refused = refusal(auth, "Bearer guess-10", "deploy", self.PROXY)
        assert (refused.status, refused.code) == (429, "too_many_failures")
        assert dict(refused.headers)["Retry-After"] == "61"
        assert logs == [], "what comes in masses does not fill the log"

    def test_for_a_minute(self) -> None:
        now = Hand()
        auth = Authenticator(TOKENS, monotonic=now)
        self.guess(auth)
        now.at += 60
        self.guess(auth)
        assert refusal(auth, "Bearer guess-10", "read", self.PROXY).status == 429

    def test_right_ones_from_behind_the_same_proxy_are_heard_also_for_the_first_time(self) -> None:
        auth = Authenticator(TOKENS, monotonic=Hand())
        self.guess(auth)
        assert auth.identify("Bearer ci-value", self.PROXY).name == "ci"
        assert auth.identify(None, self.PROXY).anonymous

    def test_other_addresses_have_a_count_of_their_own(self) -> None:
        auth = Authenticator(TOKENS, monotonic=Hand())
        self.guess(auth)
        assert refusal(auth, "Bearer wrong", "read", "192.0.2.1").status == 401


def test_no_secret_shows_in_logs_errors_or_representations() -> None:
    auth = Authenticator(TOKENS)
    with capture_logs() as logs:
        refused = refusal(auth, "Bearer a-secret-mistyped", "read")
    assert "a-secret-mistyped" not in f"{logs}{refused}{refused.headers}"
    assert "ci-value" not in repr(TOKENS)

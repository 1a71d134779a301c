"""Secrets in log lines: found by how they look or by what stands before them, and taken out before anything keeps them.

Services log what they should not: a header, a connection string, a whole request. `mask` is called once for each line,
where lines of all sources come together, so that neither the recording, the ledger, the page nor a notification ever
holds more than `***`. Most lines hold nothing that could be a secret, and cost a few searches for words.

Masked are: passwords, tokens, keys, cookies and session ids by their names, in `name=value`, `name: value`, JSON and
`--name value`; Authorization headers, bearer and basic credentials; passwords in URLs; private keys; JSON Web Tokens;
AWS key ids; tokens of well-known services by their prefixes; numbers of payment cards (ISO/IEC 7812, with a valid check
digit). Names of people and mail addresses are not: they are no credentials, and often the clue.

Every expression is linear in the length of the text: none begins with a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from rollbackd.model import Log

MASK = "***"

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:.*?-----END [A-Z ]{0,30}PRIVATE KEY-----|.*)", re.DOTALL
)
_URL = re.compile(r"(://[^\s:/?#@\"']*:)[^\s/@\"']+(?=@)")
_AUTHORIZATION = re.compile(
    r"(?i)(authorization\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?(?:(?:bearer|basic|digest|token|negotiate)\s{1,3})?)[^\s\"',;]+"
)
_COOKIES = re.compile(r"(?i)(cookie\\?[\"']?\s{0,3}[:=]\s{0,3}\\?[\"']?)[^\n\"']+")
_SCHEME = re.compile(r"\b((?i:bearer|basic)\s{1,3})(?=\S*?(?:\d|=|[a-z][A-Z]))[\w.~+/=-]{8,}")
_NAMED = re.compile(
    r"(?i)(?P<key>password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key"
    r"|credentials?|session[_-]?id)(?P<between>\\?[\"']?\s{0,3}(?:=>?|:)\s{0,3})"
    r"(?:(?P<quote>\\?[\"'])(?P<quoted>.*?)(?:(?P=quote)|$)|(?P<bare>[^\s\"'&,;)}\]\\]+))",
    re.MULTILINE,
)
_OPTION = re.compile(r"(?i)((?: |^)--?(?:[a-z]{1,20}-){0,3}(?:password|passwd|passphrase|secret|token|key) )(?!-)\S+")
_PROSE = re.compile(r"[A-Za-z<(\[]+\Z")
_ALWAYS = ("pass", "pwd")
_WELL_KNOWN = re.compile(
    # JSON Web Token, RFC 7519; behind a hyphen, where another may have begun, only so far that the time stays linear
    r"(?:(?<![\w-])eyJ[\w-]{8,}+|\beyJ[\w-]{8,300}+)\.[\w-]{8,}(?:\.[\w-]*)?"
    r"|\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|npm_|hf_|dop_v1_)[\w-]{16,}"
    r"|\bxox[abeoprs]-[\w-]{10,}|\b[sr]k[-_](?:live_|test_|proj-|ant-)?[\w-]{16,}|\bAIza[\w-]{30,}"
    r"|\bSG\.[\w-]{16,}\.[\w-]{16,}"
)
_PREFIXES = (
    "eyj", "akia", "asia", "aroa", "aida", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox",
    "sk-", "sk_", "rk-", "rk_", "aiza", "npm_", "sg.", "hf_", "dop_v1",
)  # fmt: skip
_CARD = re.compile(r"[2-6](?<![\w.-].)(?:[ -]?\d){12,18}(?![\w-])")


def mask(text: str) -> str:
    """The text without its secrets."""
    lower = text.lower()
    for hints, expression, instead in _KINDS:
        for hint in hints:
            if hint in lower:
                text = expression.sub(instead, text)
                break
    return _CARD.sub(_card, text)


def masked(event: Log) -> Log:
    """The event with its message masked; itself where nothing was found."""
    message = mask(event.message)
    return (
        event
        if message is event.message or message == event.message
        else msgspec.structs.replace(event, message=message)
    )


def _named(found: re.Match[str]) -> str:
    head, quote, bare = found["key"] + found["between"], found["quote"], found["bare"]
    if quote is not None:
        return f"{head}{quote}{MASK}{quote}" if found["quoted"] else found[0]
    said = ":" in found["between"] and not found["key"].lower().startswith(_ALWAYS)
    return found[0] if said and _PROSE.match(bare) else head + MASK  # as in `unexpected token: end of input`


def _card(found: re.Match[str]) -> str:
    """Luhn's check digit tells a card from most other numbers."""
    digits = [int(one) for one in found[0] if one.isdigit()][::-1]
    total = sum(digits[::2]) + sum(2 * one - 9 * (one > 4) for one in digits[1::2])
    return MASK if total % 10 == 0 else found[0]


_KINDS: tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (("private key",), _PRIVATE_KEY, MASK),
    (("://",), _URL, rf"\1{MASK}"),
    (("authoriz",), _AUTHORIZATION, rf"\1{MASK}"),
    (("cookie",), _COOKIES, rf"\1{MASK}"),
    (("bearer", "basic"), _SCHEME, rf"\1{MASK}"),
    (_PREFIXES, _WELL_KNOWN, MASK),
    (("pass", "pwd", "secret", "token", "key", "credential", "session"), _NAMED, _named),
    (("-password ", "-passwd ", "-passphrase ", "-secret ", "-token ", "-key "), _OPTION, rf"\1{MASK}"),
)
"""Kinds of secrets: of which one of the hints, in lower case, is in each text that holds one; how they are found; and
what is put in their place."""

"""Asks a DNS server, or the resolvers of this machine, for a name."""

from __future__ import annotations

from collections.abc import Collection

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
from yarl import URL

from rollbackd.sources.http import Unreachable, masked, refusal


def fault(name: str, kind: str) -> str | None:
    """What is wrong with a question, in an operator's words."""
    try:
        dns.name.from_text(name)
    except dns.exception.DNSException:
        return f"`{name}` is no domain name"
    try:
        dns.rdatatype.from_text(kind)
    except (dns.exception.DNSException, ValueError):
        return f"`{kind}` is no type of DNS record: write A, AAAA, CNAME, MX, SRV or TXT"
    return None


async def check(url: URL, server: str | None, expected: Collection[str] | None) -> bool:
    """Whether the name has the records `expected`, or any where that is None.

    `server` is the numeric address of the one that is asked, and so of what is checked. Without one, the resolvers of
    this machine are asked. They are only a means: that they do not answer, or cannot find out, raises Unreachable, of
    our own fault. The time limit is the caller's.
    """
    name, kind = url.path.strip("/"), url.query.get("type", "A")
    if server is None:
        answers = await _by_resolvers(name, kind)
    else:
        answers = await _by_server(url, server, name, kind)
    if expected is None:
        return bool(answers)
    return answers == {_plain(one) for one in expected}


async def _by_server(url: URL, server: str, name: str, kind: str) -> set[str]:
    query = dns.message.make_query(name, kind)
    try:
        answer, _ = await dns.asyncquery.udp_with_fallback(query, server, port=url.port or 53, ignore_unexpected=True)
    except (dns.exception.DNSException, EOFError):
        return set()
    except OSError as error:
        raise refusal(masked(url), error) from None
    if answer.rcode() != dns.rcode.NOERROR:
        return set()
    return _texts([rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.from_text(kind)])


async def _by_resolvers(name: str, kind: str) -> set[str]:
    try:
        resolver = dns.asyncresolver.Resolver()
        answer = await resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.YXDOMAIN):
        return set()
    except (dns.exception.DNSException, OSError):
        raise Unreachable(f"dns:///{name}: no resolver of this machine could find out", own_fault=True) from None
    return _texts([answer.rrset] if answer.rrset is not None else [])


def _texts(rrsets: list[dns.rrset.RRset]) -> set[str]:
    return {_plain(record.to_text()) for rrset in rrsets for record in rrset}


def _plain(text: str) -> str:
    """Without what says the same in two ways: letter case, the root's dot, quotes around a TXT record."""
    return text.strip().lower().strip('"').rstrip(".")

"""What far sides answer, what files hold, and what a request goes through before an intake sees it, as parsers."""

from __future__ import annotations

import zlib
from asyncio import StreamReader, StreamWriter
from email.utils import formatdate
from typing import cast

import dns.exception
import dns.message
import dns.rrset
import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from yarl import URL

from rollbackd import recording, registry
from rollbackd.backtest import deployments
from rollbackd.cli import client
from rollbackd.cli.command import Unreachable as NoDaemon
from rollbackd.config import document, reading
from rollbackd.config.faults import ConfigFaults, Findings
from rollbackd.errors import Permanent, RecordingError
from rollbackd.model import AnyEvent, Log, Probe
from rollbackd.notify import webhook
from rollbackd.sources import probe_dns, probe_grpc
from rollbackd.sources.http import BadAnswer
from rollbackd.targets import command, git_history, manifest, output
from rollbackd.web import body
from rollbackd.web.errors import HttpError
from rollbackd.web.views import StatusView
from tests.fuzz.parser import Parser, Read, few, halves, keepable, pure, run
from tests.support.backend import NOW, FakeBackend
from tests.support.website import authenticator

MANY = 64 * 1024


class _Wire:
    """Both ends of a connection whose far side said all it will say."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    async def read(self, most: int) -> bytes:
        piece, self._said = self._said[:most], self._said[most:]
        return piece

    def write(self, _data: bytes) -> None:
        """It is lost."""


def grpc_answer(data: bytes) -> object:
    """The other side of a connection on which gRPC's health service was asked."""
    wire = _Wire(data)
    asked = probe_grpc._exchange(URL("grpc://127.0.0.1:1/"), cast("StreamReader", wire), cast("StreamWriter", wire))
    answer = run(asked)
    return answer.status, probe_grpc._serving(answer.body)


def _grpc_seed(message: bytes, status: str) -> bytes:
    """What a health service answers."""
    asking, answering = H2Connection(H2Configuration()), H2Connection(H2Configuration(client_side=False))
    asking.initiate_connection()
    asking.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")], True)
    answering.initiate_connection()
    answering.receive_data(asking.data_to_send())
    answering.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
    answering.send_data(1, message)
    answering.send_headers(1, [("grpc-status", status), ("grpc-message", "no")], end_stream=True)
    return answering.data_to_send()


def _dns_question() -> dns.message.QueryMessage:
    return dns.message.make_query("checkout.example.", "A", id=7)


def dns_answer(data: bytes) -> object:
    """A datagram of a DNS server, as `dns.asyncquery` takes it in and the probe reads it."""
    answer = dns.message.from_wire(data)
    _dns_question().is_response(answer)
    return answer.rcode(), few(probe_dns._texts(answer.answer))


def _dns_seed(*records: tuple[str, str]) -> bytes:
    response = dns.message.make_response(_dns_question())
    for kind, text in records:
        response.answer.append(dns.rrset.from_text("checkout.example.", 60, "IN", kind, text))
    return response.to_wire()


def inflated(encoding: str) -> Read:
    """A compressed body in two pieces, of which no more than asked for is unpacked."""

    def read(data: bytes) -> object:
        decoder, out = body._decoder(encoding, ()), b""
        for piece in halves(data):
            more = decoder.feed(piece, MANY - len(out))
            assert len(more) <= MANY - len(out) + 1
            out += more
            if len(out) > MANY:
                break
        return decoder.complete, len(out) > MANY, not out

    return read


def authorization() -> Read:
    """The header `Authorization`, as aiohttp gives it."""
    auth = authenticator()

    def read(data: bytes) -> object:
        auth._shutout._failures.clear()
        return auth.identify(data.decode("utf-8", "surrogateescape"), "peer").name

    return read


def status_answer(data: bytes) -> object:
    """What the command line is answered."""
    refusal = client.Client()._refusal(500, data)
    assert refusal
    return client.decode(data, StatusView).version == ""


def recorded(data: bytes) -> object:
    """A recording."""
    return keepable(recording.parse(data.split(b"\n"), "recording"))


def listed_deployments(data: bytes) -> object:
    """The file of deployments that a backtest reads."""
    reader = deployments._Reader("file", NOW)
    found = list(reader.read(data.decode("utf-8-sig", errors="replace")))
    return few(found), [fault.message[:8] for fault in reader.faults[:2]]


def yaml_document(data: bytes) -> object:
    """A file in YAML, as it is before anything is known of its keys."""
    findings = Findings()
    found = document.parse(data, findings)
    return type(found.data), [finding.message[:20] for finding in findings.all[:3]]


def configuration(data: bytes) -> object:
    """A whole configuration; no secret is looked up."""
    try:
        return few(reading.read(data, "file", registry).services)
    except ConfigFaults as faults:
        return [fault.message[:20] for fault in faults.faults[:3]]


def releases(data: bytes) -> object:
    """What the operator's script prints."""
    output.presentable(data, ["hunter2"])
    return few(command._releases("releases", data.decode("utf-8", errors="replace")))


def manifest_value(data: bytes) -> object:
    """A manifest in a repository that many may write to."""
    return len(manifest.value(data, "spec.containers[name=app].image", "tag"))


def branch_log(data: bytes) -> object:
    """What git says of a branch."""
    found = list(git_history.touches(data.decode(errors="replace")))
    stays = list(git_history.stays("0" * 40, found, {one.commit: "v1" for one in found}))
    return few(found), few(stays), [(bool(one.restores), one.blob is None) for one in found[:2]]


def retry_after(data: bytes) -> object:
    """The header `Retry-After`, as aiohttp gives it."""
    return webhook._retry_after(data.decode("utf-8", "surrogateescape"), NOW) is None


CONFIGURATION = b"""\
listen: 127.0.0.1:9797
auth: {tokens: [{name: ci, token: {env: CI_TOKEN}, scopes: [deploy, ingest]}]}
defaults: &x {mode: shadow}
services:
  checkout:
    target: {release_dir: {path: /srv/checkout, restart: "systemctl restart checkout"}}
    metrics: http://127.0.0.1:8080/metrics
    logs: {log_file: {path: /var/log/checkout.log, format: json}}
"""

EVENTS: list[AnyEvent] = [
    Probe(t=NOW, service="checkout", up=True, duration=0.1),
    Log(t=NOW + 1, service="checkout", version="v2", level="error", message="payment failed"),
]

GZIP = zlib.compressobj(wbits=31)
PACKED = GZIP.compress(b"payment failed " * 9) + GZIP.flush()

MANIFEST = b"""\
# the service
kind: Pod
spec:
  containers:
    - {name: proxy, image: "envoy:1.30"}
    - name: app
      image: registry:5000/checkout:v2@sha256:%s
---
{x: &x [1], y: *x}
""" % (b"0" * 64)

COMMIT = b"\0%s\x1f%s\x1f1700000000\x1f%s\n:100644 100644 1234567 89abcde M\tapp.yaml\n"
BRANCH = b"".join(COMMIT % (b"%040x" % number, b"%040x" % (number + 1), b"%040x" % 9) for number in range(3))

KEYS = [
    b": ",
    b"- ",
    b"&x ",
    b"*x",
    b"<<: *x",
    b"!!binary ",
    b"? ",
    b"{",
    b"[",
    b"|\n",
    b"\n  ",
    b"0x1f",
    b"1:30",
    b".inf",
]

PARSERS = [
    Parser("body:gzip", ["rollbackd.web.body"], pure(inflated("gzip")), [PACKED], (zlib.error,)),
    Parser(
        "body:deflate", ["rollbackd.web.body"], pure(inflated("deflate")), [zlib.compress(b"x" * 99)], (zlib.error,)
    ),
    Parser(
        "authorization",
        ["rollbackd.web.auth"],
        authorization,
        [b"Bearer read-secret", b"Basic YTpyZWFkLXNlY3JldA=="],
        (HttpError,),
    ),
    Parser(
        "retry-after",
        ["rollbackd.notify.webhook"],
        pure(retry_after),
        [b"120", formatdate(NOW, usegmt=True).encode()],
        words=[b" ", b",", b":", b"-", b"+0000", b"GMT", b"Tue", b"99999"],
    ),
    Parser(
        "cli.answer",
        ["rollbackd.cli.client"],
        pure(status_answer),
        [msgspec.json.encode(FakeBackend().status())],
        (NoDaemon,),
        "json",
    ),
    Parser(
        "recording",
        ["rollbackd.recording"],
        pure(recorded),
        [b"\n".join(map(recording.encode, EVENTS)), *map(recording.encode, EVENTS)],
        (RecordingError,),
        "json",
    ),
    Parser(
        "command.releases",
        ["rollbackd.targets.command", "rollbackd.targets.output"],
        pure(releases),
        [b'v1\n{"version": "v2", "created_at": 1700000000.0}\n'],
        (Permanent,),
    ),
    Parser(
        "backtest.deployments",
        ["rollbackd.backtest.deployments"],
        pure(listed_deployments),
        [b"deployed_at,service,version,previous\n2023-11-14T10:00:00Z,checkout,v2,v1\n1699000000,search,v3,\n"],
        words=[b'"', b",", b"\n", b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-12:00", b"nan", b"1e400"],
    ),
    Parser(
        "probe.grpc",
        ["rollbackd.sources.probe_grpc"],
        pure(grpc_answer),
        [_grpc_seed(b"\0\0\0\0\x02\x08\x01", "0"), _grpc_seed(b"", "12")],
        (BadAnswer, ProtocolError),
    ),
    Parser(
        "probe.dns",
        ["rollbackd.sources.probe_dns"],
        pure(dns_answer),
        [
            _dns_seed(("A", "192.0.2.1"), ("TXT", '"a;b"')),
            _dns_seed(("CNAME", "a.example."), ("SRV", "1 2 3 a."), ("MX", "1 a."), ("AAAA", "2001:db8::1")),
        ],
        (dns.exception.DNSException,),
        limit_s=1.0,  # of the library's own for 10,000 records, which only a server sends that the operator named
    ),
    # in a thread of its own, and in pure Python
    Parser(
        "manifest",
        ["rollbackd.targets.manifest", "rollbackd.targets.git_releases"],
        pure(manifest_value),
        [MANIFEST],
        (Permanent,),
        words=KEYS,
        limit_s=2.0,
    ),
    Parser(
        "git.log", ["rollbackd.targets.git_history"], pure(branch_log), [BRANCH], words=[b"\0", b"\x1f", b":", b"\n"]
    ),
    Parser("config.yaml", ["rollbackd.config.document"], pure(yaml_document), [CONFIGURATION], words=KEYS),
    Parser("config", ["rollbackd.config.reading"], pure(configuration), [CONFIGURATION], words=KEYS),
]

"""The intakes as parsers: every registered one, fed from the sample that the contract suite has of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import cramjam
from google.protobuf.json_format import MessageToJson

from rollbackd import registry
from rollbackd.errors import Temporary
from rollbackd.intake import sns
from rollbackd.intake.base import Decoder, Delivery, Rejected
from tests.contract.intakes import SAMPLES, intake_of
from tests.fuzz.parser import Parser, Read, Shape, keepable, pure, run
from tests.support import deploys, otlp
from tests.support.deliveries import NOW, deployment
from tests.support.loki_push import entry, push
from tests.support.payloads import payload
from tests.support.remote_write import request_v2, scrape
from tests.support.sns import certificate, new_key, pem
from tests.support.website import TOPIC

SERVICE = "checkout"
MAX_DECODED = 1024 * 1024


@dataclass(frozen=True)
class Form:
    """A delivery that differs in kind from an intake's sample; `pack` is what its sender does to the body at last."""

    intake: str
    what: str
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    pack: Callable[[bytes], bytes] = bytes


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


JSON = "application/json"
CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/checkout", "type": "io.rollbackd.alert.firing"}
LOKI_LINE = {"stream": {"service": SERVICE}, "values": [[str(int(NOW * 1e9)), "slow", {"level": "error"}]]}

PUSHED = push((f'{{a="b", service="{SERVICE}"}}', [entry(int(NOW * 1e9), "slow", level="warn")]))
RECORDS = otlp.logs(SERVICE, otlp.record(NOW - 5, "failed", exception__type="E"))
POINTS = otlp.metrics(SERVICE, otlp.duration(otlp.served(NOW - 5, (9, 2, 1, 0))))
BINARY = {f"ce-{name}": text for name, text in CLOUD_EVENT.items()}
TEXT = b"level=error msg=slow\n11:00 ERROR payment failed\n  at Main.java:1\n"
CONFIRMATION = payload("sns_confirmation") | {"TopicArn": TOPIC}

REMOTE_V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"

FORMS = [
    Form("cloudevents", "one", "application/cloudevents+json", _json({**CLOUD_EVENT, "data": {"name": "Slow"}})),
    Form("cloudevents", "binary", JSON, b'{"name": "Slow"}', BINARY),
    Form("cloudwatch", "confirmation", "text/plain", _json(CONFIRMATION)),
    Form("deployments", "one", JSON, _json(deployment(at="2023-11-14T22:13:10Z"))),
    Form("github", "created", JSON, _json(deploys.github_created(SERVICE)), {"x-github-event": "deployment"}),
    Form("github", "run", JSON, _json(deploys.github_run(SERVICE)), {"x-github-event": "workflow_run"}),
    Form("json_lines", "plain", "text/plain", TEXT),
    Form("loki_push", "json", JSON, _json({"streams": [LOKI_LINE]})),
    Form("loki_push", "packed", "application/x-protobuf", PUSHED, pack=_snappy),
    Form("otlp_logs", "json", JSON, MessageToJson(RECORDS).encode()),
    Form("otlp_metrics", "json", JSON, MessageToJson(POINTS).encode()),
    Form("remote_write", "v2", REMOTE_V2, request_v2(scrape(SERVICE, NOW, 1090, 13, 7))),
    Form("sentry", "event", JSON, _json(payload("sentry_event_alert")), {"sentry-hook-resource": "event_alert"}),
    Form("sentry", "issue", JSON, _json(payload("sentry_issue")), {"sentry-hook-resource": "issue"}),
]


def parsers() -> Iterator[Parser]:
    """A row for each registered intake, for each further form of it, and for each encoding of its own."""
    for name in registry.names("intake"):
        sample = SAMPLES[name]
        yield _row(name, Form(name, "", sample.content_type, sample.body(SERVICE)))
        for form in FORMS:
            if form.intake == name:
                yield _row(f"{name}:{form.what}", form)
        for encoding, decoder in intake_of(name).decoders.items():
            yield Parser(f"{name}:{encoding}", (), _unpacked(decoder), [_snappy(sample.body(SERVICE))], (Rejected,))


def _row(name: str, form: Form) -> Parser:
    before = [body(SERVICE) for _, body in SAMPLES[form.intake].before]
    module = type(intake_of(form.intake)).__module__
    return Parser(name, [module], lambda: _reader(form), [form.body, *before], (Rejected,), _shape(form))


def _shape(form: Form) -> Shape:
    return "protobuf" if "protobuf" in form.kind else "json" if form.body[:1] in b"[{" else "text"


def _unpacked(decoder: Decoder) -> Callable[[], Read]:
    return pure(lambda data: len(decoder(data, MAX_DECODED)) <= MAX_DECODED)


def _reader(form: Form) -> Read:
    intake, settles = intake_of(form.intake), SAMPLES[form.intake].settles
    headers = {**SAMPLES[form.intake].headers, "content-type": form.kind, **form.headers}
    params = dict.fromkeys(re.findall(r"{(\w+)}", intake.path), SERVICE)
    at = NOW

    def read(data: bytes) -> object:
        nonlocal at
        at += 0.1
        body = form.pack(data)
        delivery = Delivery(body=body, headers=headers, query={"service": SERVICE}, received_at=at, params=params)
        reading = intake.read(delivery)
        return (
            keepable(item.event for item in reading.accepted),
            keepable(reading.observed),
            keepable(intake.settled(at + settles).observed),
            sorted(reading.dropped),
        )

    return read


class _NoCertificate:
    """Answers for Amazon, with nothing of use."""

    async def get(self, url: str) -> bytes:
        return url.encode("utf-8", "surrogateescape")


def sns_signature(data: bytes) -> object:
    """A message that nobody vouches for yet."""
    believes = sns.SnsSignature("cloudwatch", frozenset({TOPIC}), _NoCertificate())
    return run(believes.verify(Delivery(body=data, headers={}, query={}, received_at=NOW)))


PARSERS = [
    *parsers(),
    Parser(
        "sns.signature",
        ["rollbackd.intake.sns"],
        pure(sns_signature),
        [SAMPLES["cloudwatch"].body(SERVICE)],
        (Rejected, Temporary),
        "json",
    ),
    Parser(
        "sns.certificate",
        ["rollbackd.intake.sns"],
        pure(sns._certificate),
        [pem(certificate(new_key(), "sns.amazonaws.com"))],
        (Rejected,),
    ),
]

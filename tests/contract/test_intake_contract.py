"""What every intake must do, whatever its protocol: read the same bytes the same way, let no bytes crash it, give
repeated facts the same keys; and, behind HTTP, be heard only by who may, and acknowledge only what is kept."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollbackd import registry
from rollbackd.errors import Permanent, Temporary
from rollbackd.intake.base import Delivery, Intake, Reading, Rejected, Scope
from rollbackd.model import MAX_BACKWARDS_S, AnyEvent
from rollbackd.web.views import IntakeView
from tests.contract.intakes import SAMPLES, headers_of, intake_of, path_of
from tests.support.backend import FakeBackend, service
from tests.support.deliveries import NOW
from tests.support.waiting import eventually
from tests.support.website import Site, served

NAMES = registry.names("intake")
every = pytest.mark.parametrize("name", NAMES)
fuzzed = settings(max_examples=150, deadline=None)


def delivery(name: str, body: bytes, received_at: float = NOW) -> Delivery:
    """What the intake is given: the path's variable parts are the service's name."""
    headers = {"content-type": SAMPLES[name].content_type, **SAMPLES[name].headers}
    params = dict.fromkeys(re.findall(r"{(\w+)}", intake_of(name).path), "checkout")
    return Delivery(body=body, headers=headers, query={}, received_at=received_at, params=params)


def sample(name: str, of: str = "checkout") -> bytes:
    return SAMPLES[name].body(of)


def taken(name: str, intake: Intake, of: str = "checkout", received_at: float = NOW) -> Reading:
    """What comes of the sample and of what goes before it, telemetry settled."""
    found: list[Reading] = []
    for earlier, body in SAMPLES[name].before:
        found.append(intake.read(delivery(name, body(of), received_at - earlier)))
    found.append(intake.read(delivery(name, sample(name, of), received_at)))
    found.append(intake.settled(received_at + SAMPLES[name].settles))
    dropped: Counter[str] = Counter()
    for reading in found:
        dropped.update(reading.dropped)
    return Reading(
        accepted=tuple(item for reading in found for item in reading.accepted),
        observed=[event for reading in found for event in reading.observed],
        dropped=dropped,
    )


def events_of(reading: Reading) -> list[AnyEvent]:
    return [*(item.event for item in reading.accepted), *reading.observed]


def check_reading(reading: Reading, received_at: float = NOW) -> None:
    """Every event can be written and strictly read again, lies within reach, and comes in order of time."""
    for kind in ([item.event for item in reading.accepted], reading.observed):
        last = received_at - MAX_BACKWARDS_S
        for event in kind:
            assert msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) == event
            assert last <= event.t <= received_at
            last = event.t
    for accepted in reading.accepted:
        assert 0 < len(accepted.key) <= 200
        assert accepted.key.isprintable()
    for reason, count in reading.dropped.items():
        assert reason.isidentifier(), "a reason is a short stable label"
        assert count > 0


def outcome(name: str, body: bytes) -> Reading | Rejected:
    try:
        return intake_of(name).read(delivery(name, body))
    except Rejected as rejected:
        return rejected


def read_anything(name: str, body: bytes) -> None:
    """Whatever the bytes are, they are either understood or rejected as the sender's fault."""
    found = outcome(name, body)
    if isinstance(found, Rejected):
        assert 400 <= found.status < 500
        assert found.code.isidentifier()
        assert len(str(found)) < 3000
    else:
        check_reading(found)


def test_every_registered_intake_has_a_sample() -> None:
    assert set(SAMPLES) == set(NAMES)


def test_no_two_intakes_share_a_path() -> None:
    paths = [intake_of(name).path for name in NAMES]
    assert len(paths) == len(set(paths))


@every
def test_it_says_where_and_for_whom_it_is_and_how_much_it_takes(name: str) -> None:
    intake = intake_of(name)
    assert intake.path.startswith("/")
    assert not intake.path.endswith("/")
    assert intake.scope in get_args(Scope)
    assert intake.scope != "read"
    assert len(sample(name)) <= intake.max_bytes <= 64 * 1024 * 1024
    assert SAMPLES[name].content_type in intake.content_types
    assert all(kind == kind.lower() and ";" not in kind for kind in intake.content_types)


@every
def test_the_same_bytes_are_read_the_same_way(name: str) -> None:
    first = taken(name, intake_of(name))
    assert len(events_of(first)) >= SAMPLES[name].least
    check_reading(first, NOW + SAMPLES[name].settles)
    assert taken(name, intake_of(name)) == first


@every
def test_different_facts_have_different_keys(name: str) -> None:
    accepted = taken(name, intake_of(name)).accepted
    assert len({item.key for item in accepted}) == len(accepted)


@every
def test_a_delivery_repeated_within_seconds_changes_nothing(name: str) -> None:
    """Facts have the same keys; telemetry is known already."""
    intake = intake_of(name)
    first = taken(name, intake)
    again = intake.read(delivery(name, sample(name), NOW + 3))
    assert {item.key for item in first.accepted} == {item.key for item in again.accepted}
    assert again.observed == ()
    assert intake.settled(NOW + 3 + SAMPLES[name].settles).observed == ()


@every
def test_no_event_comes_of_a_service_that_is_not_known(name: str) -> None:
    found = outcome(name, sample(name, "somebody-elses"))
    if isinstance(found, Rejected):
        assert found.code == "unknown_service"
    else:
        found = taken(name, intake_of(name), "somebody-elses")
        assert events_of(found) == []
        assert found.dropped["unknown_service"] >= SAMPLES[name].least


@every
def test_the_services_may_change_between_two_deliveries(name: str) -> None:
    backend = FakeBackend()
    intake = intake_of(name, backend)
    if intake.bulk:
        assert events_of(taken(name, intake, "newcomer")) == []
    backend.services = {"newcomer": service("newcomer")}
    assert {event.service for event in events_of(taken(name, intake, "newcomer"))} == {"newcomer"}


@every
@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\x00",
        b"null",
        b"[[[",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"version":"4","alerts":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"version":"4","alerts":[' + b'{"labels":' * 50_000,
        b"9" * 5000,
        b'{"at": NaN}',
        b'{"at": -Infinity}',
        b'"\\ud800"',
        "﻿{}".encode(),
        b"\xff\xfe{\x00}\x00",
        b"<html><body>502 Bad Gateway</body></html>",
    ],
    ids=lambda hostile: repr(hostile[:16]),
)
def test_hostile_bytes_are_rejected_as_the_senders_fault(name: str, hostile: bytes) -> None:
    """Nothing comes of them. In protobuf some of them are a message: one of no content, or of fields nobody knows."""
    found = outcome(name, hostile)
    if isinstance(found, Rejected):
        assert 400 <= found.status < 500
    else:
        assert "json" not in SAMPLES[name].content_type
        assert events_of(found) == []


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**64), 10**400, 1e308, -0.0, 5e-324])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["checkout", "firing", "2023-11-14T22:13:20Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@every
@fuzzed
@given(junk=st.binary(max_size=300) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_crash_it(name: str, junk: bytes) -> None:
    read_anything(name, junk)


@every
@fuzzed
@given(data=st.data())
def test_no_damage_to_a_valid_delivery_crashes_it(name: str, data: st.DataObject) -> None:
    body = bytearray(sample(name))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        length = data.draw(st.integers(0, 12))
        body[at : at + length] = data.draw(st.binary(max_size=6))
    read_anything(name, bytes(body))


@pytest.mark.parametrize("name", [name for name in NAMES if intake_of(name).body is not None])
@fuzzed
@given(data=st.data())
def test_no_other_value_in_a_valid_delivery_crashes_it(name: str, data: st.DataObject) -> None:
    value: object = json.loads(sample(name))
    for _ in range(data.draw(st.integers(1, 3))):
        value = replaced(value, data)
    read_anything(name, json.dumps(value).encode())


def replaced(value: object, data: st.DataObject) -> object:
    """The value with something drawn in the place of one of its parts."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(value)))
        if not data.draw(st.integers(0, 5)):
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: replaced(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 5)):
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], replaced(value[at], data), *value[at + 1 :]]
    return data.draw(JSON_VALUES)


# -- behind HTTP


async def post(site: Site, name: str, body: bytes | None = None, **changed: str) -> tuple[int, object]:
    headers = headers_of(name) | {key.replace("_", "-"): value for key, value in changed.items()}
    sent = sample(name) if body is None else body
    async with site.client.post(path_of(name), data=io.BytesIO(sent), headers=headers) as response:
        told = await response.read()
        return response.status, json.loads(told) if told and response.content_type == "application/json" else None


@asynccontextmanager
async def site_of(name: str, backend: FakeBackend | None = None) -> AsyncIterator[Site]:
    behind = backend or FakeBackend()
    async with served(behind, intakes={name: intake_of(name, behind)}) as site:
        yield site


facts = pytest.mark.parametrize("name", [name for name in NAMES if not intake_of(name).bulk])
telemetry = pytest.mark.parametrize("name", [name for name in NAMES if intake_of(name).bulk])


@facts
async def test_what_is_new_is_kept_and_what_is_known_changes_nothing(name: str) -> None:
    async with site_of(name) as site:
        assert (await post(site, name))[0] == intake_of(name).success
        kept = len(site.backend.delivered)
        assert kept >= SAMPLES[name].least
        assert (await post(site, name))[0] == intake_of(name).success
        assert len(site.backend.delivered) == kept
        assert set(site.backend.actors) == {f"the-{intake_of(name).scope}-token"}


@telemetry
async def test_a_sender_is_asked_to_come_again_while_there_is_no_room(name: str) -> None:
    """Nothing of it is taken in: the delivery that comes again counts in full."""
    async with site_of(name) as site:
        site.backend.flooded = True
        async with site.client.post(path_of(name), data=sample(name), headers=headers_of(name)) as response:
            assert response.status == intake_of(name).busy
            assert int(response.headers["Retry-After"]) >= 1
        assert site.backend.actors == []
        site.backend.flooded = False
        assert (await post(site, name))[0] == intake_of(name).success


@every
async def test_nothing_is_delivered_of_what_is_refused(name: str) -> None:
    scope = intake_of(name).scope
    other: Scope = "deploy" if scope == "ingest" else "ingest"
    async with site_of(name) as site:
        refusals = {
            "wrong": await post(site, name, Authorization="Bearer wrong"),
            "other scope": await post(site, name, Authorization=f"Bearer {other}-secret"),
            "large": await post(site, name, b" " * (intake_of(name).max_bytes + 1)),
            "typed": await post(site, name, Content_Type="image/png"),
            "encoded": await post(site, name, Content_Encoding="br"),
            "junk": await post(site, name, b"\x00junk"),
            "cut off": await post(site, name, sample(name)[: SAMPLES[name].torn]),
            "foreign page": await post(site, name, Origin="http://evil.example"),
        }
        async with site.client.post(path_of(name), data=sample(name)) as response:
            assert response.status == 401
        assert {reason: status for reason, (status, _) in refusals.items()} == {
            "wrong": 401,
            "other scope": 403,
            "large": 413,
            "typed": 415,
            "encoded": 415,
            "junk": 400,
            "cut off": 400,
            "foreign page": 403,
        }
        for _status, told in refusals.values():
            assert isinstance(told, dict)
            assert set(told) == {"error", "message"}
        assert site.backend.delivered == []
        assert site.backend.actors == []


@facts
@pytest.mark.parametrize(
    ("fault", "status"), [(Temporary("the disk is full"), 503), (Permanent("the ledger is of a newer version"), 500)]
)
async def test_what_cannot_be_kept_is_not_acknowledged(name: str, fault: Temporary | Permanent, status: int) -> None:
    """5xx: senders that try again only then must do so."""
    async with site_of(name) as site:
        site.backend.broken = fault
        assert (await post(site, name))[0] == status
        site.backend.broken = None
        assert (await post(site, name))[0] == intake_of(name).success
        assert site.backend.delivered


class Slow(FakeBackend):
    """Keeps nothing before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def deliver(self, intake: str, reading: Reading, received_at: float, actor: str) -> IntakeView:
        self.begun.set()
        await self.go.wait()
        return await super().deliver(intake, reading, received_at, actor)


@every
async def test_nothing_is_acknowledged_before_it_is_kept(name: str) -> None:
    backend = Slow()
    async with site_of(name, backend) as site:
        posting = asyncio.create_task(post(site, name))
        await backend.begun.wait()
        async with site.client.get("/healthz") as response:  # the answer would have overtaken this one
            assert response.status == 200
        assert not posting.done()
        backend.go.set()
        assert (await posting)[0] == intake_of(name).success
        assert backend.delivered or intake_of(name).bulk


@every
async def test_what_is_being_kept_is_kept_when_the_sender_hangs_up(name: str) -> None:
    backend = Slow()
    async with site_of(name, backend) as site:
        posting = asyncio.create_task(post(site, name))
        await backend.begun.wait()
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        backend.go.set()
        await eventually(lambda: backend.actors)

"""Deployments told by pipelines: which moment and which identity each gets, and what is refused."""

from __future__ import annotations

import pytest

from rollbackd.intake.base import Accepted, IntakeContext, Rejected
from rollbackd.intake.deployments import ADAPTER, Config, Deployments
from rollbackd.intake.reading import REACH_S
from rollbackd.model import DeploymentEvent
from tests.support.deliveries import NOW, NOW_TEXT, Known, delivery, deployment


def intake(**config: object) -> Deployments:
    return ADAPTER.build(Config.model_validate(config), IntakeContext(services=Known()))


def one(body: object, received_at: float = NOW, **headers: str) -> Accepted:
    (accepted,) = intake().read(delivery(body, received_at, **headers)).accepted
    return accepted


def key(body: object, received_at: float = NOW, **headers: str) -> str:
    return one(body, received_at, **headers).key


def test_the_least_that_can_be_told_is_a_finished_deployment_now() -> None:
    assert one({"service": "checkout", "version": "v2"}).event == DeploymentEvent(
        t=NOW, service="checkout", version="v2", previous=None, phase="finished"
    )


def test_everything_that_is_told_is_taken_over() -> None:
    event = one(deployment(previous="v1", phase="started", at=NOW - 30, id="run-7")).event
    assert event == DeploymentEvent(t=NOW - 30, service="checkout", version="v2", previous="v1", phase="started")


@pytest.mark.parametrize("at", [NOW, NOW_TEXT, "2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20.000000000Z"])
def test_a_moment_is_unix_seconds_or_rfc_3339(at: object) -> None:
    assert one(deployment(at=at), received_at=NOW + 5).event.t == NOW


def test_a_moment_slightly_ahead_counts_as_now() -> None:
    assert one(deployment(at=NOW + 20)).event.t == NOW


@pytest.mark.parametrize(
    "at", [NOW + 120, NOW - REACH_S - 1, 0, -5, "1999-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00"]
)
def test_a_moment_out_of_reach_is_refused_with_the_cure(at: object) -> None:
    with pytest.raises(Rejected, match="leave `at` out") as refused:
        one(deployment(at=at))
    assert (refused.value.status, refused.value.code) == (422, "bad_time")


def test_a_list_is_taken_in_order_of_time() -> None:
    told = [deployment(version="v3", at=NOW - 1), deployment(version="v2", at=NOW - 9), deployment(service="search")]
    accepted = intake().read(delivery(told)).accepted
    assert [(item.event.service, item.event.t) for item in accepted] == [
        ("checkout", NOW - 9),
        ("checkout", NOW - 1),
        ("search", NOW),
    ]


def test_one_bad_deployment_of_a_list_refuses_the_whole_and_says_which() -> None:
    with pytest.raises(Rejected, match=r"`\$\[1\]\.service`"):
        intake().read(delivery([deployment(), deployment(service="chekout")]))


def test_an_unknown_service_is_not_found_and_the_right_one_is_suggested() -> None:
    with pytest.raises(Rejected, match="did you mean `checkout`") as refused:
        one(deployment(service="chekout"))
    assert (refused.value.status, refused.value.code) == (404, "unknown_service")


def test_unknown_services_can_be_accepted() -> None:
    (accepted,) = intake(unknown_services="accept").read(delivery(deployment(service="other"))).accepted
    assert accepted.event.service == "other"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b'{"service": "checkout"', "not JSON"),
        (b'{"service": "\xff"}', "not JSON"),
        (b'"checkout"', "Expected `object`"),
        ({"service": "checkout"}, "missing required field `version`"),
        (deployment(version=2), r"at `\$.version`"),
        (deployment(version=""), r"at `\$.version`"),
        (deployment(version="v" * 501), r"at `\$.version`"),
        (deployment(phase="done"), r"at `\$.phase`; it is one of `started`, `finished`, `failed`"),
        (deployment(at="2023-11-14T22:13:20"), r"at `\$.at`"),
        (deployment(at=True), r"at `\$.at`"),
        (b'{"service": "checkout", "version": "v2", "at": NaN}', "not JSON"),
        (b'{"service": "checkout", "version": "v2", "at": 1e999}', "out of range"),
        (deployment(verison="v3"), "did you mean `version`"),
        (deployment(colour="red"), "known fields: at, id, phase, previous, service, version"),
        (deployment(version="v2\n"), "cannot be printed"),
        (deployment(id=""), r"at `\$.id`"),
        (b"[" * 100_000, "nested too deeply|does not fit|not JSON"),
        ([deployment(), {}], r"at `\$\[1\]`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(body: object, says: str) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        one(body)
    assert refused.value.status == 400


class TestTheKey:
    """Which deliveries are the same fact."""

    def test_an_id_makes_a_retry_the_same_fact_whenever_it_comes(self) -> None:
        assert key(deployment(id="run-7")) == key(deployment(id="run-7"), received_at=NOW + 3600)

    def test_an_idempotency_key_header_does_the_same(self) -> None:
        quoted = key(deployment(), idempotency_key='"run-7"')
        assert quoted == key(deployment(), received_at=NOW + 3600, idempotency_key="run-7")

    def test_an_idempotency_key_tells_the_items_of_a_list_apart(self) -> None:
        accepted = intake().read(delivery([deployment(), deployment()], idempotency_key="run-7")).accepted
        assert len({item.key for item in accepted}) == 2

    def test_an_idempotency_key_of_any_bytes_will_do(self) -> None:
        """Bytes that are no UTF-8 are surrogates in a header's text."""
        keys = {key(deployment(), idempotency_key=f"run-{byte}") for byte in ("\udcfc", "\udcfd")}
        assert len(keys) == 2

    def test_one_id_may_serve_both_phases_of_a_deployment(self) -> None:
        assert key(deployment(id="run-7", phase="started")) != key(deployment(id="run-7", phase="finished"))

    def test_one_id_never_hides_another_release(self) -> None:
        assert key(deployment(id="run-7")) != key(deployment(id="run-7", version="v3"))

    def test_a_retry_without_id_is_the_same_fact_within_the_window(self) -> None:
        assert key(deployment(), received_at=NOW) == key(deployment(), received_at=NOW + 9)

    def test_the_same_release_deployed_again_later_is_another_fact(self) -> None:
        assert key(deployment(), received_at=NOW) != key(deployment(), received_at=NOW + 10)

    def test_there_and_back_within_a_second_are_three_facts_if_the_previous_release_is_named(self) -> None:
        hops = [("v1", "v0"), ("v2", "v1"), ("v1", "v2")]
        assert len({key(deployment(version=version, previous=before)) for version, before in hops}) == 3

    def test_a_stated_moment_makes_a_retry_the_same_fact_whenever_it_comes(self) -> None:
        early, late = key(deployment(at=NOW + 20)), key(deployment(at=NOW + 20), received_at=NOW + 300)
        assert early == late

    def test_two_stated_moments_are_two_facts(self) -> None:
        assert key(deployment(at=NOW - 1)) != key(deployment(at=NOW - 2))

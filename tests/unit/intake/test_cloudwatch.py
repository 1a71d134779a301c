"""Alarms of CloudWatch through SNS: what they mean, and which messages are believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rollbackd.errors import Temporary
from rollbackd.intake.base import Delivery, IntakeContext, Reading, Rejected
from rollbackd.intake.cloudwatch import ADAPTER, CloudWatch, Config
from rollbackd.intake.sns import FETCHES_PER_MINUTE, HOST, KEPT, Caller, Certificates, HttpsCaller, signed_text
from rollbackd.model import Alert
from tests.support.deliveries import NOW, Known
from tests.support.payloads import altered, payload
from tests.support.sns import Key, LoopbackSns, certificate, new_key, pem
from tests.support.website import TOPIC, served


class Nobody:
    """Calls nobody, and remembers whom it should have called."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, url: str) -> bytes:
        self.asked.append(url)
        raise AssertionError("nobody may be called")


def intake(caller: Caller | None = None, **config: object) -> CloudWatch:
    settings = Config.model_validate({"topics": [TOPIC]} | config)
    return CloudWatch(settings, Known(), caller or Nobody())


def sent(message: Any, received_at: float = NOW) -> Delivery:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    headers = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification"}
    return Delivery(body=body, headers=headers, query={}, received_at=received_at)


def notification(told: object) -> dict[str, Any]:
    message: dict[str, Any] = payload("sns_notification")
    return message | {"Message": told if isinstance(told, str) else json.dumps(told)}


def read(told: object, **config: object) -> Reading:
    return intake(None, **config).read(sent(notification(told)))


def event(told: object, **config: object) -> Alert:
    (accepted,) = read(told, **config).accepted
    assert isinstance(accepted.event, Alert)
    return accepted.event


class TestAlarms:
    @pytest.mark.parametrize("shape", ["cloudwatch_alarm", "cloudwatch_event"])
    def test_both_documented_shapes_make_the_same_alert(self, shape: str) -> None:
        assert event(payload(shape)) == Alert(
            t=1699999940.236,
            service="checkout",
            name="checkout-5xx",
            status="firing",
            severity="critical",
            instance="arn:aws:cloudwatch:us-east-1:123456789012:alarm:checkout-5xx",
        )

    def test_they_are_one_fact_too(self) -> None:
        keys = {read(payload(shape)).accepted[0].key for shape in ("cloudwatch_alarm", "cloudwatch_event")}
        assert len(keys) == 1

    def test_ok_ends_it(self) -> None:
        found = event(altered(payload("cloudwatch_alarm"), "NewStateValue", "OK"))
        assert (found.status, found.t) == ("resolved", 1699999940.236)

    @pytest.mark.parametrize(
        ("shape", "path"), [("cloudwatch_alarm", "NewStateValue"), ("cloudwatch_event", "detail.state.value")]
    )
    def test_insufficient_data_is_no_verdict(self, shape: str, path: str) -> None:
        reading = read(altered(payload(shape), path, "INSUFFICIENT_DATA"))
        assert (reading.accepted, reading.dropped) == ((), {"no_data": 1})

    def test_an_alarm_that_went_off_long_ago_is_told_with_that_moment(self) -> None:
        found = event(altered(payload("cloudwatch_alarm"), "StateChangeTime", "2023-11-14T20:13:20.000+0000"))
        assert (found.t, found.since) == (NOW, NOW - 7200)

    def test_a_composite_alarm_has_no_dimensions_and_can_be_matched_by_its_name(self) -> None:
        told = {key: value for key, value in payload("cloudwatch_alarm").items() if key != "Trigger"}
        told |= {"AlarmRule": "ALARM(a)", "AlarmName": "search-all"}
        assert read(told).dropped == {"unknown_service": 1}
        assert event(told, match={"search": {"AlarmName": "search-all"}}).service == "search"

    def test_the_dimensions_of_metric_math_are_labels(self) -> None:
        metric = {"Dimensions": [{"name": "FunctionName", "value": "search"}], "MetricName": "Errors"}
        queries = [{"Id": "e1", "Expression": "m1/m2"}, {"Id": "m1", "MetricStat": {"Metric": metric, "Stat": "Sum"}}]
        assert event(altered(payload("cloudwatch_alarm"), "Trigger", {"Metrics": queries})).service == "search"

    @pytest.mark.parametrize("told", ["hello", "[1]", {"Records": []}, {"detail-type": "ECS Task State Change"}])
    def test_other_messages_of_the_topic_are_counted(self, told: object) -> None:
        assert read(told).dropped == {"other": 1}

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [("NewStateValue", "PANIC", "ALARM, OK or"), ("StateChangeTime", "soon", "`StateChangeTime` is no moment")],
    )
    def test_an_alarm_that_cannot_be_understood_is_refused(self, path: str, value: str, says: str) -> None:
        with pytest.raises(Rejected, match=says):
            read(altered(payload("cloudwatch_alarm"), path, value))

    def test_a_topic_that_is_not_listed_is_not_listened_to(self) -> None:
        other = notification(payload("cloudwatch_alarm")) | {"TopicArn": TOPIC + "-2"}
        with pytest.raises(Rejected, match="add it to `topics`"):
            intake().read(sent(other))

    @pytest.mark.parametrize("topics", [[], ["alarms"], ["arn:aws:sqs:us-east-1:123456789012:alarms"]])
    def test_topics_are_required_and_are_arns(self, topics: list[str]) -> None:
        with pytest.raises(ValidationError):
            intake(topics=topics)

    @pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
    def test_topics_may_be_of_any_partition(self, partition: str) -> None:
        assert intake(topics=[f"arn:{partition}:sns:cn-north-1:123456789012:a.fifo"]).signature is not None


@pytest.fixture(scope="module")
def key() -> Key:
    return new_key()


@pytest.fixture
async def sns(tmp_path: Path, key: Key) -> AsyncIterator[LoopbackSns]:
    async with LoopbackSns(tmp_path, key) as running:
        yield running


async def verified(sns: LoopbackSns, body: bytes, received_at: float = NOW) -> str:
    signature = intake(sns.caller()).signature
    assert signature is not None
    return await signature.verify(sent(body, received_at))


class TestSignature:
    """As the SNS guide, "Verifying the signatures of Amazon SNS messages", describes it."""

    @pytest.mark.parametrize("version", ["1", "2"])
    @pytest.mark.parametrize("changed", [{}, {"Subject": None}, {"Message": "two\nlines \N{SNOWMAN}"}])
    async def test_a_message_that_sns_signed_is_believed(
        self, sns: LoopbackSns, version: str, changed: dict[str, object]
    ) -> None:
        message = {name: value for name, value in (payload("sns_notification") | changed).items() if value is not None}
        del message["SigningCertURL"]
        assert await verified(sns, sns.signed(message, version)) == "cloudwatch"

    def test_what_is_signed_are_names_and_values_in_lines(self) -> None:
        assert signed_text(json.dumps(payload("sns_notification")).encode()).splitlines() == [
            b"Message",
            b"{}",
            b"MessageId",
            b"22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            b"Subject",
            b'ALARM: "checkout-5xx" in US East (N. Virginia)',
            b"Timestamp",
            b"2023-11-14T22:12:21.020Z",
            b"TopicArn",
            TOPIC.encode(),
            b"Type",
            b"Notification",
        ]

    @pytest.mark.parametrize("field", ["Message", "MessageId", "Subject", "Timestamp"])
    async def test_a_message_that_was_changed_is_not(self, sns: LoopbackSns, field: str) -> None:
        body = json.loads(sns.signed(_own("sns_notification")))
        body[field] = "2023-11-14T22:12:22.020Z" if field == "Timestamp" else "changed"
        await _refused(sns, json.dumps(body).encode(), "not that of this message")

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"Signature": "no base64!"}, "not that of this message"),
            ({"Signature": ""}, "not that of this message"),
            ({"SignatureVersion": "3"}, "SignatureVersion 1 and 2"),
            ({"SignatureVersion": "1"}, "not that of this message"),
            ({"TopicArn": TOPIC + "-2"}, "is expected"),
        ],
    )
    async def test_nor_is_one_that_is_signed_in_another_way(
        self, sns: LoopbackSns, changed: dict[str, str], says: str
    ) -> None:
        body = json.loads(sns.signed(_own("sns_notification"))) | changed
        await _refused(sns, json.dumps(body).encode(), says)

    async def test_nor_one_that_another_key_signed(self, sns: LoopbackSns) -> None:
        await _refused(sns, sns.signed(_own("sns_notification"), key=new_key()), "not that of this message")

    @pytest.mark.parametrize("late", [3901.0, -3901.0])
    async def test_nor_one_that_is_older_than_sns_tries(self, sns: LoopbackSns, late: float) -> None:
        await _refused(sns, sns.signed(_own("sns_notification")), "over an hour ago", received_at=NOW - 59 + late)
        assert sns.asked == []

    @pytest.mark.parametrize(
        "url",
        [
            "http://sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
            "https://bucket.s3.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com:8443/a.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/a.pem",
            "https://evil.example/sns.us-east-1.amazonaws.com/a.pem",
            "https://evil.example#sns.us-east-1.amazonaws.com",
            "https://sns.a.b.amazonaws.com/a.pem",
            "https://snsus-east-1.amazonaws.com/a.pem",
            "https://[::1]/a.pem",
            "https://[broken/a.pem",
            "file:///etc/passwd",
            "//sns.us-east-1.amazonaws.com/a.pem",
            "",
        ],
    )
    async def test_a_certificate_from_anywhere_else_is_not_even_fetched(self, url: str) -> None:
        with pytest.raises(Rejected, match="not one of Amazon SNS"):
            await Certificates(HttpsCaller()).key(url, NOW)

    @pytest.mark.parametrize("host", ["sns.us-east-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"])
    def test_the_hosts_of_sns(self, host: str) -> None:
        assert HOST.fullmatch(host)


class TestCertificates:
    async def test_one_is_fetched_once(self, sns: LoopbackSns) -> None:
        signature = intake(sns.caller()).signature
        assert signature is not None
        for _ in range(3):
            await signature.verify(sent(sns.signed(_own("sns_notification"))))
        assert sns.asked == ["/sns.pem"]

    async def test_one_that_comes_in_parts_is_awaited(self, sns: LoopbackSns) -> None:
        """SNS would not try again after the refusal of a message whose certificate was read by half."""
        sns.in_two = True
        assert await verified(sns, sns.signed(_own("sns_notification"))) == "cloudwatch"

    async def test_a_bounded_number_is_remembered(self, sns: LoopbackSns) -> None:
        certificates = Certificates(sns.caller())
        for number in range(KEPT + 1):
            await certificates.key(sns.url(f"/sns.pem?{number}"), NOW)
        await certificates.key(sns.url("/sns.pem?0"), NOW)
        assert len(sns.asked) == KEPT + 2

    async def test_messages_that_name_many_do_not_make_us_ask_as_often(self, sns: LoopbackSns) -> None:
        certificates = Certificates(sns.caller())
        for number in range(FETCHES_PER_MINUTE):
            with pytest.raises(Rejected):
                await certificates.key(sns.url(f"/guess-{number}.pem"), NOW)
        with pytest.raises(Temporary, match="SNS will try again"):
            await certificates.key(sns.url("/sns.pem"), NOW + 59)
        assert len(sns.asked) == FETCHES_PER_MINUTE
        await certificates.key(sns.url("/sns.pem"), NOW + 60)

    @pytest.mark.parametrize("off", [-2 * 86400.0, 2 * 86400.0])
    async def test_one_that_is_not_valid_now_is_not_believed(self, sns: LoopbackSns, off: float) -> None:
        with pytest.raises(Rejected, match="is not valid now"):
            await Certificates(sns.caller()).key(sns.url("/sns.pem"), NOW + off)

    @pytest.mark.parametrize("name", ["evil.example", "sns.amazonaws.com.evil.example", "s3.amazonaws.com"])
    async def test_one_that_is_made_out_to_somebody_else_is_not(self, sns: LoopbackSns, key: Key, name: str) -> None:
        sns.pages["/sns.pem"] = pem(certificate(key, name))
        with pytest.raises(Rejected, match="not made out to Amazon SNS"):
            await Certificates(sns.caller()).key(sns.url("/sns.pem"), NOW)

    @pytest.mark.parametrize(
        "name", ["sns.amazonaws.com", "sns-cn-north-1.amazonaws.com.cn", "sns-signing.eu-south-2.amazonaws.com"]
    )
    async def test_sns_has_several_names(self, sns: LoopbackSns, key: Key, name: str) -> None:
        sns.pages["/sns.pem"] = pem(certificate(key, name))
        found = await Certificates(sns.caller()).key(sns.url("/sns.pem"), NOW)
        assert found.public_numbers() == key.public_key().public_numbers()

    @pytest.mark.parametrize(
        "page", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    async def test_what_is_no_certificate_is_not(self, sns: LoopbackSns, page: bytes) -> None:
        sns.pages["/sns.pem"] = page
        with pytest.raises(Rejected, match="certificate is none"):
            await Certificates(sns.caller()).key(sns.url("/sns.pem"), NOW)

    async def test_sns_that_does_not_answer_well_is_nobodys_fault(self, sns: LoopbackSns) -> None:
        sns.status = 503
        with pytest.raises(Temporary, match="status 503"):
            await Certificates(sns.caller()).key(sns.url("/sns.pem"), NOW)

    async def test_a_connection_that_cannot_be_trusted_is_not_used(self, sns: LoopbackSns) -> None:
        """The caller trusts what the system trusts, and nobody vouches for this server."""
        with pytest.raises(Temporary, match="could not be called"):
            await Certificates(HttpsCaller(sns.caller()._hosts)).key(sns.url("/sns.pem"), NOW)

    async def test_an_address_that_is_not_known_is_the_senders_fault(self, sns: LoopbackSns) -> None:
        with pytest.raises(Rejected, match="status 404"):
            await Certificates(sns.caller()).key(sns.url("/other.pem"), NOW)


class TestSubscription:
    def message(self, sns: LoopbackSns, **changed: str) -> dict[str, Any]:
        told = _own("sns_confirmation")
        url = sns.url(f"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37")
        return told | {"SubscribeURL": url} | changed

    async def test_it_is_confirmed_and_nothing_else_comes_of_it(self, sns: LoopbackSns) -> None:
        body = sns.signed(self.message(sns))
        assert await verified(sns, body) == "cloudwatch"
        assert [asked.partition("&")[0] for asked in sns.asked] == ["/sns.pem", "/?Action=ConfirmSubscription"]
        assert intake().read(sent(body)) == Reading(dropped={"subscription": 1})

    async def test_not_for_a_topic_that_is_not_expected(self, sns: LoopbackSns) -> None:
        await _refused(sns, sns.signed(self.message(sns, TopicArn=TOPIC + "-2")), "is expected")
        assert sns.asked == []

    @pytest.mark.parametrize(
        "query", ["", f"?Action=DeleteTopic&TopicArn={TOPIC}", "?Action=ConfirmSubscription&TopicArn=arn:other"]
    )
    async def test_not_at_an_address_that_does_something_else(self, sns: LoopbackSns, query: str) -> None:
        await _refused(
            sns, sns.signed(self.message(sns, SubscribeURL=sns.url(f"/{query}"))), "subscription is confirmed"
        )
        assert sns.asked == ["/sns.pem"]

    async def test_not_at_somebody_elses(self, sns: LoopbackSns) -> None:
        url = f"https://evil.example/?Action=ConfirmSubscription&TopicArn={TOPIC}"
        await _refused(sns, sns.signed(self.message(sns, SubscribeURL=url)), "not one of Amazon SNS")

    async def test_without_a_signature_nobody_is_called(self, sns: LoopbackSns) -> None:
        body = json.loads(sns.signed(self.message(sns))) | {"Token": "other"}
        await _refused(sns, json.dumps(body).encode(), "not that of this message")
        assert sns.asked == ["/sns.pem"]


async def test_sns_is_heard_without_a_token_and_refused_with_a_wrong_signature(sns: LoopbackSns) -> None:
    good = sns.signed(_own("sns_notification") | {"Message": json.dumps(payload("cloudwatch_alarm"))})
    bad = good.replace(b"checkout-5xx", b"checkout-4xx")
    headers = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification"}
    async with served(intakes={"cloudwatch": intake(sns.caller())}) as site:
        statuses = []
        for body in (good, good, bad):
            async with site.client.post("/hooks/sns", data=body, headers=headers) as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 401]
        assert len(site.backend.delivered) == 1
        assert set(site.backend.actors) == {"cloudwatch"}
        sns.status = 500
        fresh = json.loads(good) | {"SigningCertURL": sns.url("/sns.pem?new")}
        async with site.client.post("/hooks/sns", data=json.dumps(fresh), headers=headers) as response:
            assert response.status == 503, "SNS tries again"


def test_the_intake_as_configured_calls_nobody_but_amazon() -> None:
    config = Config.model_validate({"topics": [TOPIC]})
    assert ADAPTER.build(config, IntakeContext(services=Known())).signature is not None


def _own(name: str) -> dict[str, Any]:
    """The message without the address of Amazon's certificate."""
    return {key: value for key, value in payload(name).items() if key != "SigningCertURL"}


async def _refused(sns: LoopbackSns, body: bytes, says: str, received_at: float = NOW) -> None:
    with pytest.raises(Rejected, match=says) as refused:
        await verified(sns, body, received_at)
    assert (refused.value.status, refused.value.code) == (401, "wrong_signature")

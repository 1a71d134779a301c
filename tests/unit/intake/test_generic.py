"""Mapped hooks: expressions find everything in whatever JSON is posted, and say so when they do not."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from rollbackd.intake import generic, generic_deployments
from rollbackd.intake.base import Delivery, Intake, IntakeContext, Reading, Rejected
from rollbackd.intake.mapping import MAX_ITEMS
from rollbackd.model import Alert, DeploymentEvent
from tests.support.deliveries import NOW, Known
from tests.support.website import bearer, build_intake, served

DOCS = Path(__file__).parents[3] / "docs/webhooks"
HOOK: dict[str, object] = {"service": "host", "name": "what", "status": "state", "began": "since", "severity": "level"}
ITEM: dict[str, object] = {
    "host": "checkout",
    "what": "TooManyErrors",
    "state": "alerting",
    "since": NOW - 60,
    "level": "page",
}


def alerts(**hook: object) -> Intake:
    adapter = generic.ADAPTER
    config = adapter.config.model_validate({"hooks": {"a": HOOK | hook}})
    return adapter.build(config, IntakeContext(services=Known()))


def deployments(**hook: object) -> Intake:
    adapter = generic_deployments.ADAPTER
    config = adapter.config.model_validate({"hooks": {"a": {"service": "app", "version": "tag"} | hook}})
    return adapter.build(config, IntakeContext(services=Known()))


def sent(body: Any, hook: str = "a", received_at: float = NOW, **headers: str) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(body=raw, headers=headers, query={}, received_at=received_at, params={"hook": hook})


def event(reading: Reading) -> Alert:
    (accepted,) = reading.accepted
    assert isinstance(accepted.event, Alert)
    return accepted.event


class TestAlerts:
    def test_everything_is_where_the_expressions_say(self) -> None:
        assert event(alerts().read(sent(ITEM))) == Alert(
            t=NOW - 60, service="checkout", name="TooManyErrors", status="firing", severity="page"
        )

    @pytest.mark.parametrize(
        "since", [NOW - 60, (NOW - 60) * 1000, str(NOW - 60), str(int(NOW - 60) * 1000), "2023-11-14T23:12:20+01:00"]
    )
    def test_moments_are_written_in_many_ways(self, since: object) -> None:
        assert event(alerts().read(sent(ITEM | {"since": since}))).t == NOW - 60

    @pytest.mark.parametrize("since", [True, [], {}, "soon", "2023-11-14T22:12:20", -1, 1e18, "1e999", "12-12-12"])
    def test_what_is_no_moment_is_refused(self, since: object) -> None:
        with pytest.raises(Rejected, match="`began` is no moment"):
            alerts().read(sent(ITEM | {"since": since}))

    @pytest.mark.parametrize(
        ("word", "status"), [("PROBLEM", "firing"), ("firing", "firing"), ("OK", "resolved"), (1, "resolved")]
    )
    def test_statuses_are_words_of_many_senders(self, word: object, status: str) -> None:
        assert event(alerts(statuses={"1": "resolved"}).read(sent(ITEM | {"state": word}))).status == status

    @pytest.mark.parametrize("number", [10**400, -(10**4000)])
    def test_a_number_too_large_for_anything_is_refused(self, number: int) -> None:
        with pytest.raises(Rejected, match="finds a number that is too large"):
            alerts().read(sent(ITEM | {"what": number}))

    def test_a_status_that_is_no_verdict_is_counted(self) -> None:
        chosen = alerts(statuses={"Acknowledged": "ignored"})
        assert chosen.read(sent(ITEM | {"state": "unknown"})).dropped == {"no_data": 1}
        assert chosen.read(sent(ITEM | {"state": "acknowledged"})).dropped == {"ignored": 1}

    def test_a_status_that_nobody_explained_is_refused_with_the_cure(self) -> None:
        with pytest.raises(Rejected, match="add it to `statuses`"):
            alerts().read(sent(ITEM | {"state": "weird"}))

    def test_items_are_a_list_of_which_one_that_is_broken_spoils_no_other(self) -> None:
        reading = alerts(items="data.all").read(sent({"data": {"all": [ITEM, {}, ITEM | {"host": "other"}]}}))
        assert len(reading.accepted) == 1
        assert reading.dropped == {"malformed": 1, "unknown_service": 1}

    def test_items_beyond_a_bound_are_counted(self) -> None:
        reading = alerts(items="@").read(sent([ITEM] * (MAX_ITEMS + 3)))
        assert (len(reading.accepted), reading.dropped) == (MAX_ITEMS, {"truncated": 3})

    def test_names_of_the_senders_are_translated(self) -> None:
        chosen = alerts(services={"Web shop": "search"})
        assert event(chosen.read(sent(ITEM | {"host": "Web shop"}))).service == "search"
        assert event(chosen.read(sent(ITEM))).service == "checkout"

    def test_what_is_left_out_has_stated_defaults(self) -> None:
        adapter = generic.ADAPTER
        least = adapter.config.model_validate({"hooks": {"a": {"service": "host", "name": "what"}}})
        found = event(adapter.build(least, IntakeContext(services=Known())).read(sent(ITEM)))
        assert (found.status, found.severity, found.t) == ("firing", "warning", NOW)

    def test_without_a_moment_a_repeat_within_seconds_is_the_same_fact(self) -> None:
        def key(at: float) -> str:
            (accepted,) = alerts(began="nothing").read(sent(ITEM, received_at=at)).accepted
            return accepted.key

        assert key(NOW) == key(NOW + 5)
        assert key(NOW) != key(NOW + 60)

    def test_an_identity_tells_alerts_of_one_name_apart(self) -> None:
        def key(**changed: object) -> str:
            (accepted,) = alerts(identity="id").read(sent(ITEM | changed)).accepted
            return accepted.key

        assert key(id=1) == key(id=1)
        assert key(id=1) != key(id=2)

    def test_an_unknown_hook_is_not_found(self) -> None:
        with pytest.raises(Rejected) as refused:
            alerts().read(sent(ITEM, hook="b"))
        assert (refused.value.status, refused.value.code) == (404, "unknown_hook")


class TestExpressions:
    @pytest.mark.parametrize(
        ("expression", "says"),
        [
            ("a..b", "no JMESPath expression"),
            ("[", "no JMESPath expression"),
            ("lenght(a)", "did you mean `length`"),
            ("a | foo(@)", "no function `foo`"),
            ("", "at least 1 character"),
        ],
    )
    def test_one_that_is_none_is_a_fault_of_the_configuration(self, expression: str, says: str) -> None:
        with pytest.raises(ValidationError, match=says):
            alerts(name=expression)

    @pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 65, "é"])
    def test_a_hooks_name_must_fit_into_a_path(self, name: str) -> None:
        with pytest.raises(ValidationError, match="part of a path"):
            generic.ADAPTER.config.model_validate({"hooks": {name: HOOK}})

    def test_one_that_finds_nothing_is_named_with_the_keys_that_are_there(self) -> None:
        with pytest.raises(
            Rejected, match=r"`service: labels.svc` finds nothing in an item with the keys 'host', 'what'"
        ):
            alerts(service="labels.svc").read(sent(ITEM))

    def test_no_value_of_a_payload_is_told_since_it_may_be_secret(self) -> None:
        with pytest.raises(Rejected) as refused:
            alerts(service="labels.svc").read(sent(ITEM | {"token": "hunter2"}))
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize("found", [[], {}, True])
    def test_one_that_finds_no_text_says_what_it_found(self, found: object) -> None:
        with pytest.raises(Rejected, match=r"`service: host` finds a .* where text"):
            alerts().read(sent(ITEM | {"host": found}))

    def test_one_that_cannot_be_applied_is_named(self) -> None:
        with pytest.raises(Rejected, match=r"`service: join\('-', parts\)` cannot be applied"):
            alerts(service="join('-', parts)").read(sent(ITEM | {"parts": 5}))

    def test_items_that_are_no_list_are_told(self) -> None:
        with pytest.raises(Rejected, match="`items` finds no list"):
            alerts(items="data").read(sent({"data": {"a": 1}}))

    @pytest.mark.parametrize(
        "hostile",
        [
            b'{"host": "checkout", "what": 1e308, "n": [1e308, 1e308]}',
            b'{"host": ' + b'{"a":' * 400 + b"1" + b"}" * 401,
            b'{"host": "' + b"9" * 5000 + b'"}',
        ],
    )
    @pytest.mark.parametrize("expression", ["to_number(host)", "to_string(@)", "sum(n)", "sort_by(n, &@)[0]", "max(n)"])
    def test_hostile_payloads_are_refused_or_nobodys(self, hostile: bytes, expression: str) -> None:
        try:
            reading = alerts(service=expression).read(sent(hostile))
        except Rejected:
            return
        assert (reading.accepted, reading.dropped) == ((), {"unknown_service": 1})

    def test_the_largest_payload_is_read_in_bounded_time(self) -> None:
        """A second would be far too long; on any machine it takes a fraction of it."""
        rows = [{"host": "checkout", "what": f"a{n}", "state": "ok", "since": n, "level": "x"} for n in range(3500)]
        body = json.dumps({"rows": rows}).encode()
        assert len(body) > 200_000
        chosen = alerts(items="sort_by(rows[?contains(what, 'a')], &since)[::-1]")
        began = time.process_time()
        assert len(chosen.read(sent(body)).accepted) == MAX_ITEMS
        assert time.process_time() - began < 2.0


class TestCredentials:
    def config(self, tmp_path: Path) -> dict[str, object]:
        for name in ("one", "two"):
            (tmp_path / name).write_text(f"secret {name}")
        signed = {"secret": {"file": str(tmp_path / "one")}, "header": "X-Sign", "prefix": "sha256="}
        plain = {"secret": {"file": str(tmp_path / "two")}, "header": "X-Secret"}
        return {"hooks": {"signed": HOOK | {"hmac": signed}, "plain": HOOK | {"secret_header": plain}, "open": HOOK}}

    async def test_each_hook_lets_in_who_has_its_own(self, tmp_path: Path) -> None:
        adapter = generic.ADAPTER
        body = json.dumps(ITEM).encode()
        sign = "sha256=" + hmac.new(b"secret one", body, hashlib.sha256).hexdigest()
        intake = adapter.build(adapter.config.model_validate(self.config(tmp_path)), IntakeContext(services=Known()))
        asked = {
            ("signed", "X-Sign", sign): 200,
            ("signed", "X-Sign", "sha256=00"): 401,
            ("signed", "X-Secret", "secret two"): 401,
            ("plain", "X-Secret", "secret two"): 200,
            ("plain", "X-Sign", sign): 401,
            ("open", "X-Secret", "secret two"): 401,
            ("signed", "X-Other", "x"): 401,
        }
        async with served(intakes={"generic": intake}) as site:
            found = {}
            for hook, header, value in asked:
                headers = {"Content-Type": "application/json", header: value}
                async with site.client.post(f"/hooks/generic/{hook}", data=body, headers=headers) as response:
                    found[hook, header, value] = response.status
            assert found == asked
            headers = {"Content-Type": "application/json", **bearer("ingest")}
            async with site.client.post("/hooks/generic/signed", data=body, headers=headers) as response:
                assert response.status == 200
            assert set(site.backend.actors) == {"generic/signed", "generic/plain", "the-ingest-token"}

    def test_a_hook_has_one_of_them(self, tmp_path: Path) -> None:
        secret = {"secret": {"env": "A"}, "header": "X-A"}
        with pytest.raises(ValidationError, match="one of `hmac` and `secret_header`"):
            alerts(hmac=secret, secret_header=secret)

    def test_without_any_there_is_only_the_token(self) -> None:
        assert alerts().signature is None


class TestDeployments:
    def test_the_least_is_a_finished_deployment_now(self) -> None:
        (accepted,) = deployments().read(sent({"app": "checkout", "tag": "v2"})).accepted
        assert accepted.event == DeploymentEvent(t=NOW, service="checkout", version="v2", phase="finished")

    @pytest.mark.parametrize(
        ("word", "phase"), [("RUNNING", "started"), ("success", "finished"), ("Cancelled", "failed")]
    )
    def test_phases_are_words_of_many_senders(self, word: str, phase: str) -> None:
        (accepted,) = deployments(phase="r").read(sent({"app": "checkout", "tag": 2, "r": word})).accepted
        assert isinstance(accepted.event, DeploymentEvent)
        assert (accepted.event.phase, accepted.event.version) == (phase, "2")

    def test_a_phase_may_be_ignored_and_one_that_nobody_explained_is_refused(self) -> None:
        chosen = deployments(phase="r", phases={"queued": "ignored"})
        assert chosen.read(sent({"app": "checkout", "tag": "v2", "r": "queued"})).dropped == {"ignored": 1}
        with pytest.raises(Rejected, match="add it to `phases`"):
            chosen.read(sent({"app": "checkout", "tag": "v2", "r": "weird"}))

    def test_an_unknown_service_is_counted(self) -> None:
        assert deployments().read(sent({"app": "other", "tag": "v2"})).dropped == {"unknown_service": 1}

    def test_the_same_id_is_the_same_fact_whenever_it_comes(self) -> None:
        def key(at: float, run: int) -> str:
            chosen = deployments(id="run")
            (accepted,) = chosen.read(sent({"app": "checkout", "tag": "v2", "run": run}, received_at=at)).accepted
            return accepted.key

        assert key(NOW, 7) == key(NOW + 500, 7)
        assert key(NOW, 7) != key(NOW, 8)

    def test_one_that_comes_too_late_is_refused(self) -> None:
        with pytest.raises(Rejected) as refused:
            deployments(at="at").read(sent({"app": "checkout", "tag": "v2", "at": NOW - 3600}))
        assert refused.value.code == "bad_time"


@pytest.mark.parametrize("page", ["generic", "generic_deployments"])
def test_the_example_of_the_page_reads_the_payload_of_the_page(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    sample = json.loads(re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])
    settings = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])["intake"][page]
    intake = build_intake(page, Known(), settings)
    (hook,) = settings["hooks"]
    assert len(intake.read(sent(sample, hook)).accepted) == 1

"""Names of deployments, decisions and rollbacks."""

from __future__ import annotations

import re
from urllib.parse import quote

import msgspec
import pytest

from rollbackd.model import Decision, decision_id, deployment_id, rollback_key

AT = 1_763_898_248.25


def test_a_deployment_is_named_readably() -> None:
    assert re.fullmatch(r"checkout-2\.4\.1-20251123T114408-[0-9a-f]{8}", deployment_id("checkout", "2.4.1", AT))


@pytest.mark.parametrize("version", ["sha256:ab/cd", "ünï cødé", "../..", "-", "v" * 500, "a?b#c", "\ud800"])
def test_any_version_gives_a_name_that_is_safe_in_a_url(version: str) -> None:
    name = deployment_id("checkout", version, AT)
    assert quote(name, safe="") == name
    assert len(name) <= 120


def test_deployments_that_look_alike_get_different_names() -> None:
    alike = [("a", "1/2", AT), ("a", "1:2", AT), ("a", "1-2", AT), ("a-1", "2", AT), ("a", "1/2", AT + 0.5)]
    assert len({deployment_id(*one) for one in alike}) == len(alike)


def test_the_same_deployment_keeps_its_name_through_json() -> None:
    assert deployment_id("a", "1", msgspec.json.decode(msgspec.json.encode(AT))) == deployment_id("a", "1", AT)
    assert deployment_id("a", "1", 1) == deployment_id("a", "1", 1.0)


def test_a_moment_beyond_the_calendar_still_has_a_name() -> None:
    assert "99991231T235959" in deployment_id("a", "1", 1e300)


def test_decisions_about_one_deployment_get_different_names() -> None:
    first = Decision(
        t=AT + 9, service="a", version="2", action="rollback", to="1", rule="probe", reason="", deployed_at=AT
    )
    others = [
        msgspec.structs.replace(first, t=AT + 10),
        msgspec.structs.replace(first, action="hold"),
        msgspec.structs.replace(first, rule="alert"),
        msgspec.structs.replace(first, deployed_at=AT + 1),
    ]
    names = {decision_id(one) for one in (first, *others)}
    assert len(names) == 5
    assert decision_id(first).startswith("a-2-rollback-20251123T114417-")


def test_a_deployment_has_one_rollback() -> None:
    assert rollback_key("a", "2", AT) == f"rollback-{deployment_id('a', '2', AT)}"

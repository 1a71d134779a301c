"""Senders with a credential of their own form: let in by it alone, whatever wrong ones come beside it."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from rollbackd.fields import Secret
from rollbackd.intake.base import Intake
from tests.support.deliveries import Known
from tests.support.deploys import github_status
from tests.support.website import Site, bearer, build_intake, served

BODY = json.dumps(github_status()).encode().replace(b"2023-11-14T22:13:00Z", b"2023-11-14T22:13:10Z")
RIGHT = "sha256=" + hmac.new(b"k3y", BODY, hashlib.sha256).hexdigest()
EVENT = {"X-GitHub-Event": "deployment_status", "Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "k3y")


def github(**settings: object) -> dict[str, Intake]:
    return {"github": build_intake("github", Known(), {"secret": Secret(env="HOOK_SECRET"), **settings})}


async def post(site: Site, body: bytes = BODY, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.client.post("/hooks/github", data=body, headers=EVENT | named) as response:
        told = await response.json()
        assert "k3y" not in str(told)
        return response.status


async def test_a_right_signature_needs_no_token_and_is_named_in_the_trail() -> None:
    async with served(intakes=github()) as site:
        assert await post(site, X_Hub_Signature_256=RIGHT) == 200
        assert site.backend.actors == ["github"]


async def test_a_wrong_one_is_refused_and_nothing_of_it_is_read() -> None:
    async with served(intakes=github()) as site:
        assert await post(site, X_Hub_Signature_256=RIGHT[:-1] + "0") == 401
        assert await post(site, BODY + b" ", X_Hub_Signature_256=RIGHT) == 401
        assert await post(site) == 401, "no credential at all"
        assert site.backend.actors == []


async def test_a_token_is_as_good_and_a_wrong_one_is_not_saved_by_a_signature() -> None:
    async with served(intakes=github()) as site:
        assert await post(site, BODY, **bearer("deploy")) == 200
        assert await post(site, BODY, **bearer("ingest")) == 403
        assert await post(site, Authorization="Bearer wrong", X_Hub_Signature_256=RIGHT) == 401


async def test_without_a_secret_a_signature_opens_nothing() -> None:
    async with served(intakes={"github": build_intake("github", Known())}) as site:
        assert await post(site, X_Hub_Signature_256=RIGHT) == 401


async def test_wrong_ones_are_shut_out_and_a_right_one_from_the_same_address_is_not() -> None:
    async with served(intakes=github()) as site:
        answers = [await post(site, X_Hub_Signature_256="sha256=00") for _ in range(11)]
        assert answers == [401] * 10 + [429]
        assert await post(site, X_Hub_Signature_256=RIGHT) == 200


async def test_the_document_tells_of_the_header() -> None:
    async with served(intakes=github()) as site, site.client.get("/api/v1/openapi.json") as response:
        document = await response.json()
    assert {"header-x-hub-signature-256": []} in document["paths"]["/hooks/github"]["post"]["security"]
    scheme = document["components"]["securitySchemes"]["header-x-hub-signature-256"]
    assert scheme.pop("description")
    assert scheme == {"type": "apiKey", "in": "header", "name": "x-hub-signature-256"}

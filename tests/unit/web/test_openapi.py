"""The API's document is true: it has every route and no other, and real answers fit it."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import ClientResponse
from prometheus_client import CollectorRegistry

from rollbackd import registry
from rollbackd.errors import Temporary
from rollbackd.intake.desk import Desk
from rollbackd.web.app import build_app
from tests.contract.intakes import SAMPLES, headers_of, intake_of, path_of
from tests.support.backend import NOW, FakeBackend, decision, rollback, service, source
from tests.support.clock import ManualClock
from tests.support.deliveries import alert, deployment, notification
from tests.support.json_schema import faults
from tests.support.website import Site, authenticator, bearer, build_intake, served


async def fetch(site: Site) -> dict[str, Any]:
    async with site.client.get("/api/v1/openapi.json") as response:
        assert response.status == 200
        found: dict[str, Any] = await response.json()
        return found


async def test_it_has_every_route_of_the_application_and_no_other() -> None:
    backend = FakeBackend()
    intakes = {name: build_intake(name, backend) for name in registry.names("intake")}
    app = build_app(backend, Desk(intakes), authenticator(), CollectorRegistry(), clock=ManualClock())
    routed = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    async with served() as site:
        document = await fetch(site)
    told = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert told == routed


async def test_every_reference_leads_somewhere_and_every_operation_has_its_own_name() -> None:
    async with served() as site:
        document = await fetch(site)
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))

    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for inner in part.values() for found in references(inner)]
        return [found for inner in part for found in references(inner)] if isinstance(part, list) else []

    assert references(document)
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


async def test_it_tells_which_scope_each_operation_needs() -> None:
    async with served(auth=authenticator(frozenset({"read", "ingest"}))) as site:
        paths = (await fetch(site))["paths"]
    assert paths["/api/v1/pause"]["post"]["security"] == [{"bearer": ["operate"]}, {"basic": ["operate"]}]
    assert {} in paths["/hooks/alertmanager"]["post"]["security"]
    assert {} in paths["/api/v1/status"]["get"]["security"]
    assert "security" not in paths["/healthz"]["get"]


async def test_it_tells_of_headers_and_of_what_a_body_holds_by_its_media_type() -> None:
    async with served() as site:
        paths = (await fetch(site))["paths"]
    pause = paths["/api/v1/pause"]["post"]["responses"]
    assert set(pause["429"]["headers"]) == set(pause["503"]["headers"]) == {"Retry-After"}
    assert set(pause["401"]["headers"]) == {"WWW-Authenticate"}
    assert "headers" not in paths["/readyz"]["get"]["responses"]["503"], (
        "it tells what hinders it, and not for how long"
    )
    assert "content" not in paths["/loki/api/v1/push"]["post"]["responses"]["204"]
    needed = paths["/hooks/github"]["post"]["parameters"]
    assert [(one["name"], one["in"], one["required"]) for one in needed] == [("X-GitHub-Event", "header", True)]
    lines = {kind: one["schema"] for kind, one in paths["/api/v1/lines"]["post"]["requestBody"]["content"].items()}
    assert lines["application/json"] == {"$ref": "#/components/schemas/Entry"}
    assert lines["application/x-ndjson"] == lines["text/plain"] == {"type": "string"}
    pushed = paths["/v1/logs"]["post"]["requestBody"]["content"]
    assert pushed["application/x-protobuf"]["schema"] == {"type": "string", "format": "binary"}
    assert pushed["application/json"]["schema"] == {"type": "object"}


READS = [
    ("/", "/"),
    ("/metrics", "/metrics"),
    ("/healthz", "/healthz"),
    ("/readyz", "/readyz"),
    ("/api/v1/openapi.json", "/api/v1/openapi.json"),
    ("/api/v1/status", "/api/v1/status"),
    ("/api/v1/services", "/api/v1/services"),
    ("/api/v1/services/{service}", "/api/v1/services/checkout"),
    ("/api/v1/services/{service}", "/api/v1/services/other"),
    ("/api/v1/deployments", "/api/v1/deployments?limit=3"),
    ("/api/v1/deployments", "/api/v1/deployments?limit=0"),
    ("/api/v1/decisions", "/api/v1/decisions"),
    ("/api/v1/decisions/{id}", "/api/v1/decisions/dec-1"),
    ("/api/v1/decisions/{id}", "/api/v1/decisions/other"),
    ("/api/v1/rollbacks", "/api/v1/rollbacks"),
    ("/api/v1/rollbacks/{id}", "/api/v1/rollbacks/rb-1"),
    ("/api/v1/rollbacks/{id}", "/api/v1/rollbacks/other"),
    ("/api/v1/audit", "/api/v1/audit"),
]

WRITES: list[tuple[str, str, object, dict[str, str]]] = [
    ("/api/v1/deployments", "/api/v1/deployments", deployment(), bearer("deploy")),
    ("/api/v1/deployments", "/api/v1/deployments", [deployment(at=NOW, id="7", previous="v1")], bearer("deploy")),
    ("/api/v1/deployments", "/api/v1/deployments", deployment(service="other"), bearer("deploy")),
    ("/api/v1/deployments", "/api/v1/deployments", deployment(at=1), bearer("deploy")),
    ("/hooks/alertmanager", "/hooks/alertmanager", notification(alert()), bearer("ingest")),
    ("/hooks/alertmanager", "/hooks/alertmanager", {}, bearer("ingest")),
    ("/api/v1/services/{service}/rollback", "/api/v1/services/checkout/rollback", {"to": "v1"}, bearer("operate")),
    ("/api/v1/services/{service}/rollback", "/api/v1/services/checkout/rollback", {}, bearer("read")),
    ("/api/v1/pause", "/api/v1/pause", {"reason": "r"}, bearer("operate")),
    ("/api/v1/pause", "/api/v1/pause", {"reason": "r", "service": "other"}, bearer("operate")),
    ("/api/v1/resume", "/api/v1/resume", {}, bearer("operate")),
    ("/api/v1/resume", "/api/v1/resume", {}, {}),
]


class Document:
    """The document, with a check of one exchange against it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.paths = document["paths"]
        self.schemas = document["components"]["schemas"]
        self.seen: set[tuple[str, str]] = set()

    def check_answer(self, method: str, path: str, answer: ClientResponse, body: object) -> None:
        status, kind = answer.status, answer.content_type
        responses = self.paths[path][method]["responses"]
        assert str(status) in responses, f"{method} {path} answers {status}, of which the document knows nothing"
        self.seen.add((method, path))
        told = responses[str(status)].get("headers", {})
        missing = [name for name, header in told.items() if header["required"] and name not in answer.headers]
        assert not missing, f"{method} {path} {status}: {missing} are missing"
        content = responses[str(status)].get("content", {})
        if not content and not body:
            return
        assert kind in content, f"{method} {path} answers {kind}"
        found = faults(body, content[kind]["schema"], self.schemas)
        assert not found, f"{method} {path} {status}: {found}"

    def check_body(self, path: str, body: object, fits: bool) -> None:
        told = self.paths[path]["post"]["requestBody"]
        assert told["required"]
        schema = told["content"]["application/json"]["schema"]
        found = faults(body, schema, self.schemas)
        assert not (fits and found), f"{path} took what the document forbids: {found}"


async def exchange_all(site: Site, document: Document) -> None:
    for template, path in READS:
        async with site.client.get(path) as response:
            is_json = response.content_type == "application/json"
            body = await response.json() if is_json else await response.text()
            document.check_answer("get", template, response, body)
    for template, path, posted, headers in WRITES:
        async with site.client.post(path, json=posted, headers=headers) as response:
            body = await response.json()
            document.check_answer("post", template, response, body)
            if posted is not None and path != "/hooks/alertmanager":  # unknown fields are welcome there
                document.check_body(template, posted, fits=response.status < 300)


async def deliver_all(site: Site, document: Document) -> None:
    for name, sample in SAMPLES.items():
        sent, intake = sample.body("checkout"), intake_of(name)
        for method in intake.methods:
            async with site.client.request(method, path_of(name), data=sent, headers=headers_of(name)) as response:
                told = await response.read()
                body = json.loads(told) if response.content_type == "application/json" and told else told.decode()
                document.check_answer(method.lower(), intake.path, response, body)


async def test_real_answers_fit_it_in_good_times_and_bad() -> None:
    backend = FakeBackend(
        [service(), service("search", watch=None, target=None, mode="shadow", sources=(source(up=False),))]
    )
    intakes = {name: intake_of(name, backend) for name in SAMPLES}
    async with served(backend, intakes=intakes) as site:
        document = Document(await fetch(site))
        await exchange_all(site, document)
        await deliver_all(site, document)
        every = {(method, path) for path, operations in document.paths.items() for method in operations}
        assert document.seen == every, "a route is not exercised here"

        backend.decision_list, backend.rollback_list = [decision()], [rollback()]
        backend.not_ready = ("the ledger is full",)
        backend.broken = Temporary("the ledger is full")
        await exchange_all(site, document)
        await deliver_all(site, document)

"""The status page: it shows what matters, escapes what others wrote, and needs nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import msgspec
import pytest

from rollbackd.errors import Temporary
from rollbackd.ledger.base import Pause
from rollbackd.web.page_words import span
from tests.support.backend import NOW, FakeBackend, decision, rollback, service, source, watch
from tests.support.website import served


class Reader(HTMLParser):
    """Reads a page as a browser would: its texts, its elements, and whether they are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


async def page(backend: FakeBackend) -> tuple[str, str]:
    """The page, and the policy it came with."""
    async with served(backend) as site, site.client.get("/") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        return await response.text(), response.headers["Content-Security-Policy"]


async def text(backend: FakeBackend) -> str:
    return Reader((await page(backend))[0]).text


async def test_it_shows_services_with_versions_verdicts_watches_and_sources() -> None:
    found = await text(FakeBackend([service(sources=(source(), source("access log", up=False)))]))
    for part in (
        "checkout healthy",
        "running v2 last known good v1 target release_dir",
        "Watching the deployment of v2 (after v1)",
        "5 min ago",
        "8% baked, 55 min left",
        "error_ratio 4.1% of requests fail, 0.2% did before",
        "metrics up",
        "access log down: connection refused",
    ):
        assert part in found


async def test_it_shows_the_last_decisions_and_rollbacks() -> None:
    found = await text(FakeBackend())
    assert "2 min ago checkout rollback v2 → v1 errors rose from 0.2% to 4.1% error_ratio" in found
    assert "1 min ago checkout verified v2 → v1 errors rose from 0.2% to 4.1% engine" in found


async def test_a_decision_that_names_no_release_to_go_back_to_is_shown() -> None:
    backend = FakeBackend()
    view = decision()
    held = msgspec.structs.replace(view.decision, action="hold", to=None)
    backend.decision_list = [msgspec.structs.replace(view, decision=held, mode="shadow")]
    assert "checkout hold shadow v2 errors rose" in await text(backend)


async def test_what_stands_in_the_way_is_said_first() -> None:
    backend = FakeBackend([service(problems=("the restart command is missing",))])
    backend.paused = Pause(service=None, actor="alice", reason="database migration", at=NOW - 60)
    backend.not_ready = ("the ledger cannot be written",)
    backend.config_problem = "rollbackd.yaml:3: `bake` has no unit"
    found = await text(backend)
    assert "Paused: nothing is acted on. By alice, 1 min ago: database migration" in found
    assert "Not ready: the ledger cannot be written" in found
    assert "New configuration refused: rollbackd.yaml:3" in found
    assert "Could not be reverted now: the restart command is missing" in found


async def test_a_release_that_warms_up_is_not_yet_judged() -> None:
    early = msgspec.structs.replace(watch(), verdict="insufficient", judged_from=NOW + 40)
    found = await text(FakeBackend([service(verdict="insufficient", watch=early)]))
    assert "not yet judged" in found
    assert "It warms up, and is judged in 40 s." in found
    assert "not enough data" not in await text(FakeBackend([service(verdict="degraded", watch=early)]))


async def test_an_announcement_that_the_target_contradicts_is_told() -> None:
    found = await text(FakeBackend([service(contradiction="v9 was announced, and the target has v2 in place")]))
    assert "Contradiction: v9 was announced" in found


async def test_a_paused_service_and_one_in_shadow_mode_are_marked() -> None:
    pause = Pause(service="checkout", actor="bob", reason="load test", at=NOW - 7200)
    found = await text(FakeBackend([service(paused=pause, mode="shadow", verdict="insufficient", rollback_id="rb-1")]))
    assert "not enough data rolling back paused shadow" in found
    assert "Paused by bob, 2 h ago: load test" in found


async def test_what_needs_attention_comes_first() -> None:
    services = [
        service("a-idle", watch=None),
        service("b-watched"),
        service("c-blind", watch=None, sources=(source(up=False),)),
        service("d-degraded", verdict="degraded", watch=watch(strength=3.2)),
        service("e-reverting", rollback_id="rb-1"),
    ]
    found = await text(FakeBackend(services))
    order = sorted(("a-idle", "b-watched", "c-blind", "d-degraded", "e-reverting"), key=found.index)
    assert order == ["e-reverting", "d-degraded", "b-watched", "c-blind", "a-idle"]
    assert "(1 degraded) rollbackd" in found


async def test_a_fleet_is_cut_off_with_a_word_where_the_rest_is() -> None:
    found = await text(FakeBackend([service(f"s{number:04}", watch=None) for number in range(230)]))
    assert "And 30 more, see /api/v1/services" in found


async def test_it_still_shows_how_things_stand_when_the_ledger_cannot_be_read() -> None:
    backend = FakeBackend()
    backend.broken = Temporary("the ledger is locked")
    found = await text(backend)
    assert "History cannot be read: the ledger is locked" in found
    assert "checkout healthy" in found


async def test_a_daemon_that_has_nothing_yet_says_so() -> None:
    backend = FakeBackend()
    backend.services, backend.decision_list, backend.rollback_list = {}, [], []
    found = await text(backend)
    for part in ("No service is configured", "Nothing had to be decided", "Nothing had to be rolled back"):
        assert part in found


HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"


async def test_nothing_that_others_wrote_becomes_markup() -> None:
    plain = Reader((await page(FakeBackend()))[0])
    evil_watch = msgspec.structs.replace(
        watch(),
        version=HOSTILE,
        previous=HOSTILE,
        evidence=tuple(msgspec.structs.replace(item, rule=HOSTILE, summary=HOSTILE) for item in watch().evidence),
    )
    evil_source = msgspec.structs.replace(source(), name=HOSTILE, kind=HOSTILE, reason=HOSTILE, state="down")
    pause = Pause(service=None, actor=HOSTILE, reason=HOSTILE, at=NOW)
    backend = FakeBackend(
        [
            service(
                HOSTILE,
                current=HOSTILE,
                last_known_good=HOSTILE,
                target=HOSTILE,
                watch=evil_watch,
                sources=(evil_source,),
                problems=(HOSTILE,),
                paused=pause,
                rollback_id=HOSTILE,
            )
        ]
    )
    backend.paused, backend.not_ready, backend.config_problem = pause, (HOSTILE,), HOSTILE
    view = decision(HOSTILE, HOSTILE)
    conclusion = msgspec.structs.replace(view.decision, service=HOSTILE, version=HOSTILE, to=HOSTILE, rule=HOSTILE)
    backend.decision_list = [msgspec.structs.replace(view, decision=conclusion)]
    undone = msgspec.structs.replace(
        rollback(HOSTILE, HOSTILE, HOSTILE), service=HOSTILE, version=HOSTILE, reason=HOSTILE
    )
    backend.rollback_list = [undone]

    hostile = Reader((await page(backend))[0])
    assert hostile.text.count("<script>alert(1)</script>") >= 20
    assert {tag for tag, _ in hostile.elements} - {tag for tag, _ in plain.elements} <= {"p", "ul", "li"}
    assert not [attributes for _, attributes in hostile.elements if "onerror" in attributes]


async def test_it_needs_nothing_from_elsewhere_and_the_policy_allows_nothing() -> None:
    html, policy = await page(FakeBackend())
    elements = Reader(html).elements
    assert {tag for tag, _ in elements}.isdisjoint({"script", "img", "iframe", "form", "object"})
    for _tag, attributes in elements:
        assert "style" not in attributes, "the policy forbids style attributes"
        target = attributes.get("href") or attributes.get("src") or ""
        assert target.startswith(("/", "data:image/svg+xml,")) or not target
    found = re.search("<style>(.*?)</style>", html, re.DOTALL)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "url(" not in found[1]
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3600, "1 h"),
        (3900, "1 h 5 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_spans_are_put_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


async def test_moments_out_of_any_calendar_do_no_harm() -> None:
    view = decision()
    backend = FakeBackend()
    backend.decision_list = [
        msgspec.structs.replace(view, decision=msgspec.structs.replace(view.decision, t=t)) for t in (0.0, 1e300)
    ]
    assert "Last decisions" in await text(backend)

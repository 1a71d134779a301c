"""The status page: one self-contained HTML document, with no script and nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from urllib.parse import quote

from rollbackd.ledger.base import Pause
from rollbackd.web.html import Markup, element, join, verbatim
from rollbackd.web.page_explain import decision_details
from rollbackd.web.page_service import service_card
from rollbackd.web.page_words import ago, badge, moment
from rollbackd.web.views import DecisionView, RollbackView, ServiceView, StatusView

REFRESH_S = 10
MOST_SERVICES = 200

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M4 6h6a3.5 3.5 0 0 "
    "1 0 7H6M7 2.5 3.5 6 7 9.5' fill='none' stroke='%233b82f6' stroke-width='2' stroke-linecap='round' "
    "stroke-linejoin='round'/%3E%3C/svg%3E"
)


class Page:
    """Renders the page; `policy` is the Content-Security-Policy that goes with it."""

    def __init__(self) -> None:
        self._style = files("rollbackd.web").joinpath("page.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self.policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def render(
        self,
        status: StatusView,
        decisions: Sequence[DecisionView],
        rollbacks: Sequence[RollbackView],
        unreadable: str | None = None,
    ) -> str:
        """The document. `unreadable` says why decisions and rollbacks could not be read, where they could not."""
        now = status.now
        body = element(
            "body",
            _header(status),
            element(
                "main",
                *_banners(status, unreadable),
                _services(status, now),
                _decisions(decisions, now) if unreadable is None else None,
                _rollbacks(rollbacks, now) if unreadable is None else None,
            ),
            _footer(status),
        )
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", http_equiv="refresh", content=str(REFRESH_S)),
            element("title", _title(status)),
            element("link", rel="icon", href=_ICON),
            element("style", verbatim(self._style)),
        )
        return "<!doctype html>\n" + element("html", head, body, lang="en")


def _title(status: StatusView) -> str:
    degraded = sum(service.verdict == "degraded" for service in status.services)
    return f"({degraded} degraded) rollbackd" if degraded else "rollbackd"


def _header(status: StatusView) -> Markup:
    watched = sum(service.watch is not None for service in status.services)
    degraded = sum(service.verdict == "degraded" for service in status.services)
    reverting = sum(service.rollback_id is not None for service in status.services)
    counts = [
        _count(len(status.services), "service", "services"),
        _count(watched, "watched deployment", "watched deployments"),
        _count(degraded, "degraded", "degraded", "bad" if degraded else None),
        _count(reverting, "rolling back", "rolling back", "warn" if reverting else None),
    ]
    return element(
        "header",
        element("h1", "rollbackd", element("small", f"{status.version}")),
        element("ul", *counts, class_="counts"),
    )


def _count(number: int, one: str, many: str, tone: str | None = None) -> Markup:
    return element("li", element("b", str(number)), f" {one if number == 1 else many}", class_=tone)


def _banners(status: StatusView, unreadable: str | None) -> list[Markup]:
    found: list[Markup] = []
    if status.paused is not None:
        found.append(_banner("warn", "Paused", f"nothing is acted on. {_paused_words(status.paused, status.now)}"))
    found += [_banner("bad", "Not ready", problem) for problem in status.problems]
    if status.config_problem is not None:
        found.append(_banner("bad", "New configuration refused", status.config_problem))
    if unreadable is not None:
        found.append(_banner("bad", "History cannot be read", unreadable))
    return found


def _paused_words(pause: Pause, now: float) -> str:
    """Who paused, when and why."""
    return f"By {pause.actor}, {ago(pause.at, now)}: {pause.reason}"


def _banner(tone: str, title: str, text: str) -> Markup:
    return element("p", element("b", f"{title}:"), " ", text, class_=f"banner {tone}", role="status")


def _urgency(service: ServiceView) -> tuple[int, str]:
    if service.rollback_id is not None:
        return 0, service.name
    if service.verdict == "degraded":
        return 1, service.name
    trouble = service.problems or any(source.state == "down" for source in service.sources)
    return (2 if service.watch is not None else 3 if trouble else 4), service.name


def _services(status: StatusView, now: float) -> Markup:
    if not status.services:
        return element("p", "No service is configured.", class_="empty")
    ranked = sorted(status.services, key=_urgency)
    cards = [service_card(service, now) for service in ranked[:MOST_SERVICES]]
    more = len(ranked) - len(cards)
    rest = (
        element(
            "p", f"And {more} more, see ", element("a", "/api/v1/services", href="/api/v1/services"), class_="empty"
        )
        if more > 0
        else None
    )
    return element("section", element("div", *cards, class_="cards"), rest, aria_label="Services")


def _table(title: str, columns: Sequence[str], rows: Sequence[Markup], empty: str) -> Markup:
    if not rows:
        return element("section", element("h2", title), element("p", empty, class_="empty"))
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in columns)))
    table = element("table", head, element("tbody", *rows))
    return element("section", element("h2", title), element("div", table, class_="scroll"))


def _decisions(decisions: Sequence[DecisionView], now: float) -> Markup:
    rows = [_decision(view, now, unfolded=number == 0) for number, view in enumerate(decisions)]
    columns = ("When", "Service", "Decision", "Release", "Why")
    return _table("Last decisions", columns, rows, "Nothing had to be decided yet.")


def _decision(view: DecisionView, now: float, *, unfolded: bool) -> Markup:
    decision = view.decision
    tone = {"rollback": "bad", "hold": "warn", "escalate": "warn"}[decision.action]
    shadow = badge("shadow", "plain") if view.mode == "shadow" else None
    return element(
        "tr",
        element("td", _linked(f"/api/v1/decisions/{quote(view.id, safe='')}", decision.t, now)),
        element("td", decision.service),
        element("td", badge(decision.action, tone), shadow),
        element("td", _change(decision.version, decision.to)),
        element(
            "td",
            decision.reason,
            " ",
            element("small", decision.rule),
            decision_details(decision, unfolded=unfolded),
        ),
    )


def _rollbacks(rollbacks: Sequence[RollbackView], now: float) -> Markup:
    rows = [_rollback(view, now) for view in rollbacks]
    columns = ("When", "Service", "State", "Release", "Why")
    return _table("Last rollbacks", columns, rows, "Nothing had to be rolled back yet.")


def _rollback(view: RollbackView, now: float) -> Markup:
    tone = {"verified": "good", "failed": "bad", "escalated": "bad"}.get(view.state, "warn")
    return element(
        "tr",
        element("td", _linked(f"/api/v1/rollbacks/{quote(view.id, safe='')}", view.created_at, now)),
        element("td", view.service),
        element("td", badge(view.state, tone)),
        element("td", _change(view.version, view.to)),
        element("td", view.reason, " ", element("small", view.requested_by)),
    )


def _change(version: str, to: str | None) -> Markup:
    if to is None:
        return element("code", version)
    return join((element("code", version), " → ", element("code", to)))


def _linked(path: str, at: float, now: float) -> Markup:
    return element("a", moment(at, now), href=path)


def _footer(status: StatusView) -> Markup:
    made = datetime.fromtimestamp(status.now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    commit = f", commit {status.config.commit[:10]}" if status.config.commit else ""
    return element(
        "footer",
        f"As of {made}, running since {ago(status.started_at, status.now)}. Refreshes every {REFRESH_S} s. "
        f"Configuration {status.config.sha256[:10]}{commit}. ",
        element("a", "API", href="/api/v1/openapi.json"),
        " · ",
        element("a", "metrics", href="/metrics"),
        " · ",
        element("a", "audit trail", href="/api/v1/audit"),
    )

"""One service on the status page: what runs, how it stands, what the evidence is, and what can be seen of it."""

from __future__ import annotations

from rollbackd.model import Evidence, Verdict
from rollbackd.web.html import Markup, element, join
from rollbackd.web.page_explain import what_happened
from rollbackd.web.page_words import ago, badge, moment, span
from rollbackd.web.views import ServiceView, SourceView, WatchView

VERDICTS: dict[Verdict, tuple[str, str]] = {
    "healthy": ("healthy", "good"),
    "degraded": ("degraded", "bad"),
    "insufficient": ("not enough data", "none"),
}
"""The words and the tone of each verdict."""
NOT_YET = "not yet judged"
"""The same of a release that warms up."""


def service_card(service: ServiceView, now: float) -> Markup:
    """The card of a service."""
    word, tone = VERDICTS[service.verdict]
    if service.watch is not None and service.watch.warms_up(now):
        word = NOT_YET
    badges = [
        badge(word, tone),
        badge("rolling back", "warn") if service.rollback_id is not None else None,
        badge("paused", "warn") if service.paused is not None else None,
        badge("shadow", "plain") if service.mode == "shadow" else None,
    ]
    return element(
        "article",
        element("h3", element("span", service.name), element("span", *badges, class_="badges")),
        _facts(service),
        _watch(service.watch, now) if service.watch is not None else None,
        _sources(service, now),
        _notes(service, now),
        class_=f"card {tone}",
    )


def _facts(service: ServiceView) -> Markup:
    facts = [
        ("running", service.current or "unknown"),
        ("last known good", service.last_known_good or "none yet"),
        ("target", service.target or "none"),
    ]
    return element("dl", *(join((element("dt", name), element("dd", element("code", value)))) for name, value in facts))


def _watch(watch: WatchView, now: float) -> Markup:
    length = max(watch.ends_at - watch.deployed_at, 1e-9)
    done = min(max((now - watch.deployed_at) / length, 0.0), 1.0)
    came = f" (after {watch.previous})" if watch.previous is not None else ""
    what = "rollback to" if watch.is_rollback else "deployment of"
    left, warm = watch.ends_at - now, (watch.judged_from or now) - now
    worst = _worst(watch)
    return element(
        "div",
        element(
            "p",
            f"Watching the {what} ",
            element("code", watch.version),
            came,
            ", begun ",
            moment(watch.deployed_at, now),
        ),
        element("progress", value=f"{done:.3f}", max="1", aria_label="share of the bake that is over"),
        element("p", f"{done:.0%} baked, {span(left)} left" if left > 0 else "the bake is over", class_="quiet"),
        element("p", f"It warms up, and is judged in {span(warm)}.", class_="quiet") if watch.warms_up(now) else None,
        element("p", f"Not held against the release: {watch.excuse}.") if watch.excuse is not None else None,
        element("ul", *(_evidence(item) for item in watch.evidence), class_="evidence") if watch.evidence else None,
        what_happened(worst, watch.deployed_at) if worst is not None else None,
        class_="watch",
    )


def _worst(watch: WatchView) -> Evidence | None:
    """Of the rules that convict the one that is surest beyond what it needs; None while all is well."""
    degraded = [one for one in watch.evidence if one.verdict == "degraded" and one.threshold > 0]
    return max(degraded, key=lambda one: one.strength / one.threshold, default=None)


def _evidence(item: Evidence) -> Markup:
    word, tone = VERDICTS[item.verdict]
    meter = None
    if item.threshold > 0:
        share = min(max(item.strength / item.threshold, 0.0), 1.0)
        meter = element(
            "meter",
            value=f"{share:.3f}",
            min="0",
            max="1",
            title=f"evidence {item.strength:.1f} of {item.threshold:.1f}",
        )
    return element(
        "li", element("span", class_=f"dot {tone}", title=word), element("b", item.rule), " ", item.summary, meter
    )


def _sources(service: ServiceView, now: float) -> Markup | None:
    if not service.sources:
        return element("p", "No source is configured.", class_="quiet")
    return element("ul", *(_source(source, now) for source in service.sources), class_="sources")


def _source(source: SourceView, now: float) -> Markup:
    tone = {"up": "good", "down": "bad", "starting": "none"}[source.state]
    dropped = sum(source.dropped.values())
    details = f"{source.events} events" + (f", {dropped} dropped" if dropped else "")
    why = f": {source.reason}" if source.state == "down" and source.reason else ""
    return element(
        "li",
        element("span", class_=f"dot {tone}"),
        f"{source.name} ",
        element("span", f"{source.state}{why}", class_="state"),
        title=f"{source.kind}, {source.state} since {ago(source.since, now)}, {details}",
        class_=tone,
    )


def _notes(service: ServiceView, now: float) -> Markup | None:
    notes = [f"Could not be reverted now: {problem}" for problem in service.problems]
    if service.contradiction is not None:
        notes.append(f"Contradiction: {service.contradiction}")
    if service.paused is not None:
        notes.append(f"Paused by {service.paused.actor}, {ago(service.paused.at, now)}: {service.paused.reason}")
    return element("ul", *(element("li", note) for note in notes), class_="notes") if notes else None

"""Draws docs/pictures/*.svg: the detectors at work on simulated services.

What is drawn is what the package's own code says, so a picture cannot part from it: tests/unit/tools/test_pictures.py
compares. Every number comes from a seed.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from rollbackd.detect.histogram import Histogram, logit
from rollbackd.detect.latency import LatencyRule
from rollbackd.detect.persistence import ERRORS, LATENCY, Scale, Spells, Stretch
from rollbackd.detect.share_test import ShareTest, weight_of
from rollbackd.model import Decision, Requests
from tools.streams import BOUNDS, EVERY, START, counts, deployed, judged, samples, timed
from tools.svg import Panel, Picture, Point, Tone, linear, through

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
WIDTH = 760


def ratio_of(event: Requests) -> Point:
    """When, and what share failed."""
    return event.t - START, event.errors / event.total


def minutes(*values: int) -> list[tuple[float, str]]:
    return [(60.0 * value, str(value)) for value in values]


def percents(*values: float) -> list[tuple[float, str]]:
    return [(value / 100, f"{value:g} %") for value in values]


# -- evidence


def evidence() -> Picture:
    """A release that fails three times as often as usual."""
    rate, usual, bad = 60.0, 0.004, 0.012
    engine = judged()
    engine.feed(deployed("shop", "v1", -3700))
    for sample in samples("shop", -3700, 0, rate, usual):
        engine.feed(sample)
    engine.feed(deployed("shop", "v2", 0))
    ratio: list[Point] = [ratio_of(e) for e in samples("shop", -600, 0, rate, usual)]
    strength: list[Point] = []
    null = threshold = convicted = 0.0
    for event in samples("shop", 0, 600, rate, bad):
        outcomes = engine.feed(event)
        ratio.append(ratio_of(event))
        decision = next((one for one in outcomes if isinstance(one, Decision)), None)
        shown = decision.evidence if decision is not None else engine.peek("shop").evidence
        (found,) = (one for one in shown if one.rule == "error_ratio")
        strength.append((event.t - START, found.strength))
        null, threshold = found.worse or null, found.threshold
        if decision is not None:
            convicted = event.t - START
            break
    ratio += [ratio_of(e) for e in samples("shop", convicted, 600, rate, usual)]

    told = next(t for t, decades in strength if decades >= threshold)
    picture = Picture(
        WIDTH,
        450,
        "Evidence of a bad release",
        f"Above, the share of failed requests of each sample: {usual:.1%} before a deployment, {bad:.1%} after it. "
        f"Below, the evidence in decades: nothing until the warm-up ends, at its threshold {told:.0f} s after the "
        f"deployment, and a conviction {convicted:.0f} s after it, when the trouble has lasted long enough.",
    )
    x = linear(-600, 600)
    above = Panel(picture, 60, 40, 680, 150, x, linear(0, 0.03))
    above.axes("Requests that fail, a sample every 10 s", minutes(), percents(0, 1, 2, 3))
    above.span(0, 60)
    above.dots(ratio, "blue", 1.8)
    above.level(null, "gold")
    picture.text((740, 30), f"- - null: up to {null:.2%} is no worse", "gold", "end")
    above.moment(0, "ink", "v2 deployed", anchor="end")
    above.moment(60, "soft", "warm-up over")
    above.moment(convicted, "red", "v1 put back")
    below = Panel(picture, 60, 250, 680, 150, x, linear(0, 8))
    below.axes("Evidence, in decades", minutes(-10, -5, 0, 5, 10), [(v, f"{v}") for v in (0, 2, 4, 6, 8)], "minutes")
    below.span(0, 60)
    below.line([(-600, 0), (0, 0), *strength], "blue", 2)
    below.level(
        threshold, "red", f"threshold {threshold:.2f}: a good release gets here at most once in {10**threshold:,.0f}"
    )
    below.moment(told, "soft", "enough evidence", anchor="end")
    below.moment(convicted, "red", "has lasted: convicted")
    return picture


# -- peeking


def peeking() -> Picture:
    """How many good releases were ever alarmed, by a z-test and by the package's own test."""
    runs, looks, alpha, usual, rate = 400, 360, 0.05, 0.01, 20.0
    total, bake = rate * EVERY, looks * EVERY
    enough = math.log10(1 / alpha)
    failing = counts(total * usual, "peeking")
    first = {"z": [0] * (looks + 1), "e": [0] * (looks + 1)}
    for _ in range(runs):
        test = ShareTest(usual, 0.0, usual)
        failed, alarmed = 0, dict.fromkeys(first, False)
        for look in range(1, looks + 1):
            errors = next(failing)
            failed += errors
            start, end = (look - 1) * EVERY, look * EVERY
            weight = weight_of(start, end, 0.0, 60.0, bake)
            test.take(start, end, errors, total, told=True, weight=weight, pause=bake)
            spread = math.sqrt(look * total * usual * (1 - usual))
            over = {"z": failed - look * total * usual > 1.645 * spread, "e": False}
            over["e"] = test.began is not None and test.strength() >= enough
            for name, is_over in over.items():
                if is_over and not alarmed[name]:
                    alarmed[name] = True
                    first[name][look] += 1
    ever = {name: [n / runs for n in itertools.accumulate(found)] for name, found in first.items()}

    z, e = ever["z"][-1], ever["e"][-1]
    picture = Picture(
        WIDTH,
        330,
        "Why peeking breaks ordinary tests",
        f"Of {runs} simulated good releases, looked at every 10 s for an hour, a z-test at 5 % has alarmed {z:.1%} "
        f"in the end, and rising; the sequential test at the same 5 % has alarmed {e:.1%}.",
    )
    panel = Panel(picture, 60, 40, 680, 230, linear(0, bake), linear(0, 0.5))
    panel.axes(
        f"Good releases ever alarmed, of {runs}",
        minutes(0, 10, 20, 30, 40, 50, 60),
        percents(0, 10, 20, 30, 40, 50),
        "minutes since the deployment, a look every 10 s",
    )
    panel.line(_steps(ever["z"]), "red", 2)
    panel.line(_steps(ever["e"]), "blue", 2)
    panel.level(alpha, "gold")
    picture.text(panel.at(bake - 30, alpha + 0.012), "5 %: what both promise", "gold", "end")
    picture.text(panel.at(bake - 30, z + 0.025), f"z-test at 5 %, looked at every time: {z:.1%}", "red", "end")
    picture.text(panel.at(bake - 30, e + 0.012), f"sequential test at 5 %: {e:.1%}", "blue", "end")
    return picture


def _steps(shares: Sequence[float]) -> list[Point]:
    """The corners of a line that goes up in steps."""
    found: list[Point] = [(0.0, shares[0])]
    for look, share in enumerate(shares):
        if share != found[-1][1]:
            found += [(look * EVERY, found[-1][1]), (look * EVERY, share)]
    return [*found, ((len(shares) - 1) * EVERY, shares[-1])]


# -- persistence


def persistence() -> Picture:
    """How long trouble has to last."""
    picture = Picture(
        WIDTH,
        370,
        "How long trouble must last",
        "Minutes that trouble must last before it convicts, against how many times the usual it is, for a warm-up of a "
        "minute. Errors from sixfold on a minute, a doubling six; latency from 1.75-fold on little more than a minute, "
        "1.35-fold almost five. Trouble that began later than two warm-ups after the deployment must last longer.",
    )
    history = Spells((Stretch(420.0, 4.0),), 1)
    _law(picture, 60, "Errors: times the usual share", ERRORS, (1.2, 2, 3, 4, 6, 10, 20), history)
    _law(picture, 430, "Latency: times as long", LATENCY, (1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5), None)
    row = 350.0
    keys: tuple[tuple[float, str, Tone, str], ...] = (
        (60, "began with the deployment", "red", ""),
        (280, "began later", "blue", ""),
        (410, "if the hour before had a fourfold spell of 7 min", "gold", "5 4"),
    )
    for left, words, tone, dash in keys:
        picture.line([(left, row - 4), (left + 24, row - 4)], tone, 2, dash)
        picture.text((left + 30, row), words)
    return picture


def _law(
    picture: Picture, left: float, name: str, scale: Scale, ticks: Sequence[float], history: Spells | None
) -> None:
    panel = Panel(picture, left, 40, 310, 240, through(math.log, ticks[0], ticks[-1]), linear(0, 12))
    panel.axes(
        "Minutes it must last, for a warm-up of 1 min",
        [(one, f"{one:g}") for one in ticks],
        [(v, f"{v}") for v in (0, 2, 4, 6, 8, 10, 12)],
        name,
    )
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    sizes = [math.exp(low + (high - low) * step / 200) for step in range(201)]
    panel.line([(size, scale.warmups(size, late=False)) for size in sizes], "red", 2.2)
    panel.line([(size, scale.warmups(size, late=True)) for size in sizes], "blue", 2.2)
    if history is not None:
        panel.line([(size, history.outlast(size, 60.0) / 60) for size in sizes], "gold", 1.8, "5 4")


# -- blame


def blame() -> Picture:
    """The same trouble, with and without a neighbour in it."""
    picture = Picture(
        WIDTH,
        470,
        "What a neighbour excuses",
        "Two services, of which checkout was deployed. On the left both begin to fail four minutes later: the "
        "deployment is excused. On the right only checkout fails: it is rolled back.",
    )
    for left, heading, shared in ((60.0, "A shared incident", True), (430.0, "A fault of its own", False)):
        seen, decided, said = _incident(shared=shared)
        picture.text((left, 30), heading, bold=True)
        for top, service in ((75.0, "checkout"), (245.0, "search")):
            panel = Panel(picture, left, top, 310, 110, linear(-300, 900), linear(0, 0.12))
            panel.axes(f"{service}: requests that fail", minutes(-5, 0, 5, 10, 15), percents(0, 4, 8, 12))
            panel.dots(seen[service], "blue", 1.6)
            if service == "checkout":
                panel.moment(0, "ink", "deployed", anchor="end")
                panel.moment(decided, "green" if shared else "red", "excused" if shared else "rolled back")
        picture.text((left, 410), "The engine says:", "soft")
        for row, words in enumerate(_wrapped(said, 50)):
            picture.text((left, 428 + 16 * row), words)
    return picture


def _incident(*, shared: bool) -> tuple[dict[str, list[Point]], float, str]:
    """Ratios by service, when the engine came to its end, and its words."""
    engine = judged()
    seen: dict[str, list[Point]] = {"checkout": [], "search": []}
    streams: dict[str, list[Requests]] = {}
    for service in seen:
        fails = service == "checkout" or shared
        streams[service] = [
            *samples(service, -3700, 0, 40.0, 0.005),
            *samples(service, 0, 240, 40.0, 0.005),
            *samples(service, 240, 900, 40.0, 0.06 if fails else 0.005),
        ]
        engine.feed(deployed(service, "v1", -3700))
    decided, said = 0.0, ""
    is_new = False
    for pair in zip(*streams.values(), strict=True):
        if not is_new and pair[0].t > START:
            engine.feed(deployed("checkout", "v2", 0))
            is_new = True
        for event in pair:
            seen[event.service].append(ratio_of(event))
            outcomes = engine.feed(event)
            found = next((one.reason for one in outcomes if isinstance(one, Decision)), None)
            watch = engine.peek("checkout").watch
            words = found if found is not None else watch.excuse if watch is not None and is_new and not said else None
            if words is not None and not said:
                decided, said = event.t - START, words
    return {name: [p for p in points if p[0] > -300] for name, points in seen.items()}, decided, said


def _wrapped(words: str, width: int) -> list[str]:
    rows = [""]
    for word in words.split():
        if rows[-1] and len(rows[-1]) + 1 + len(word) > width:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    return rows


# -- latency


def latency() -> Picture:
    """A distribution that grew slower by a third, and where it is tested."""
    engine = judged()
    chance = random.Random("latency")
    engine.feed(deployed("shop", "v1", -3700))
    for step in range(-370, 0):
        engine.feed(timed(step * EVERY + EVERY, 1.0, chance, 60))
    engine.feed(deployed("shop", "v2", 0))
    after = Histogram((*BOUNDS, math.inf), (0.0,) * 10)
    for step in range(24):
        event = timed(step * EVERY + EVERY, 1.35, chance, 200)
        after = Histogram(after.bounds, tuple(a + b for a, b in zip(after.counts, event.buckets.values(), strict=True)))
        engine.feed(event)
    watch = engine.peek("shop").watch
    assert watch is not None
    rule = watch.rules["latency"]
    assert isinstance(rule, LatencyRule)

    picture = Picture(
        WIDTH,
        400,
        "Latency as exceedances",
        "The share of requests that take longer than a time, log odds against log time, before a release and after "
        "it made every request take 1.35 times as long. At each of "
        f"{len(rule.tests)} bucket bounds the share after is tested against the most that is no worse.",
    )
    low, high = 0.00007, 0.9995
    shares = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
    panel = Panel(picture, 60, 40, 680, 310, through(math.log, 0.005, 1.0), through(logit, low, high))
    panel.axes(
        "Requests slower than a time",
        [(b, f"{b * 1000:g}") for b in BOUNDS[:-1]],
        [(s, f"{100 * s:g} %") for s in shares],
        "milliseconds, at bucket bounds",
    )
    times = [0.005 * 200 ** (step / 120) for step in range(121)]
    distributions: tuple[tuple[Histogram, Tone], ...] = ((rule.before, "soft"), (after, "blue"))
    for histogram, tone in distributions:
        reach = [one for one in times if 0.0003 < histogram.slower(one) < high]
        panel.line([(one, histogram.slower(one)) for one in reach], tone, 1.8)
        panel.dots([(b, histogram.slower(b)) for b in BOUNDS if 0.0003 < histogram.slower(b) < high], tone, 3.5)
    for one in rule.tests:
        x, y = panel.at(one.bound, one.test.null)
        picture.line([(x - 16, y), (x + 16, y)], "gold", 2.5)
        decades = one.test.strength()
        is_enough = decades >= rule.limit
        bottom = panel.at(one.bound, low)[1]
        picture.line([(x, y), (x, bottom - 22)], "gold", 1, "2 3")
        picture.text((x, bottom - 8), f"{decades:.1f}", "red" if is_enough else "soft", "middle", bold=is_enough)
    picture.text((70, 342), f"decades at each bound tested ({rule.limit:.1f} convict)", "soft")
    keys: tuple[tuple[str, Tone], ...] = (
        ("before", "soft"),
        ("after: 1.35 times as long", "blue"),
        ("the most that is no worse", "gold"),
    )
    for row, (words, tone) in enumerate(keys):
        y = 60.0 + 18 * row
        picture.line([(520, y - 4), (544, y - 4)], tone, 2.5)
        picture.text((552, y), words)
    return picture


DRAWN: dict[str, Callable[[], Picture]] = {
    "evidence": evidence,
    "peeking": peeking,
    "persistence": persistence,
    "blame": blame,
    "latency": latency,
}

if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, draw in DRAWN.items():
        (PICTURES / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")

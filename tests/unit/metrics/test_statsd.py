"""StatsD lines, and what they add up to."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollbackd.metrics import statsd_tally
from rollbackd.metrics.statsd import GAUGES, PRESETS, Belonging, Malformed, Meaning, Selection, named, parts
from rollbackd.metrics.statsd_tally import BOUND_NAMES, BOUNDS, FORGET_AFTER_S, MAX_VERSIONS, Tally
from rollbackd.model import AnyEvent, Gauge, Latency, Requests

NOW = 1_700_000_000.0
OWN = Meaning(
    "metrics",
    Selection.of("requests"),
    Selection.of("requests", {"status": "5.."}),
    Selection.of("took"),
)


def tally(*meanings: Meaning, belonging: Belonging | None = None, gauges: dict[str, Selection] | None = None) -> Tally:
    return Tally(belonging or Belonging("shop"), meanings or (OWN,), gauges or {}, ("version",))


def send(to: Tally, *lines: str, now: float = NOW) -> None:
    for line in lines:
        taken = parts(line.encode())
        if taken is None:
            continue
        role = to.role(*named(taken.name, taken.tags))
        if role is not None:
            to.take(role, taken, now)


def requests(events: list[AnyEvent]) -> dict[str | None, tuple[float, float]]:
    return {event.version: (event.total, event.errors) for event in events if isinstance(event, Requests)}


def reached(events: list[AnyEvent]) -> dict[str, float]:
    """The growth of the buckets, those that grew."""
    [event] = [event for event in events if isinstance(event, Latency)]
    counts = [0.0, *event.buckets.values()]
    return {
        name: after - before
        for name, before, after in zip(event.buckets, counts, counts[1:], strict=False)
        if after > before
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("shop.requests:1|c", (1, 0)),
        ("shop.requests:3|c|@0.1", (30, 0)),
        ("shop.requests:1:2:3|c|#status:200", (6, 0)),
        ("shop.requests:1.5|c|#status:503,env:prod", (1.5, 1.5)),
        ("requests:2|c|#service:shop,status:500", (2, 2)),
        ("requests:2|c|@0.5|#service:shop|c:ci-0123|T1700000000", (4, 0)),
        ("shop.requests,status=500,host=a:2|c", (2, 2)),
        ("shop.requests;status=500:2|c", (2, 2)),
        ("shop.requests#status=500:2|c", (2, 2)),
        ("shop.requests:12:15|ms|@0.5", (4, 0)),
    ],
)
def test_requests_are_counted(line: str, expected: tuple[float, float]) -> None:
    counted = tally()
    send(counted, line)
    assert requests(counted.events(NOW)) == {None: expected}
    assert counted.events(NOW) == []
    assert not counted.dropped


@pytest.mark.parametrize(
    "line", ["other.requests:1|c", "requests:1|c", "requests:1|c|#service:cart", "shopping.requests:1|c"]
)
def test_what_is_anothers_is_nobodys_business(line: str) -> None:
    counted = tally()
    send(counted, line)
    assert counted.events(NOW) == []


@pytest.mark.parametrize(
    ("belonging", "ours"),
    [
        (Belonging("shop", prefix="a.b"), "a.b.requests:1|c"),
        (Belonging("shop", prefix="a.b."), "a.b.requests:1|c"),
        (Belonging("shop", prefix=""), "requests:1|c"),
        (Belonging("shop", match={"app": "x"}), "requests:1|c|#app:x"),
        (Belonging("shop", prefix="a", match={"app": "x"}), "a.requests:1|c|#app:x"),
    ],
)
def test_a_service_is_told_by_prefix_and_tags(belonging: Belonging, ours: str) -> None:
    counted = tally(belonging=belonging)
    send(counted, ours, "shop.requests:9|c", "a.requests:9|c|#service:shop", "c.requests:9|c|#app:y")
    assert requests(counted.events(NOW)) == {None: (1, 0)}


@pytest.mark.parametrize(
    ("lines", "preset", "total", "failed", "times"),
    [
        (
            [
                "shop.gunicorn.requests:1|c|@1.0",
                "shop.gunicorn.request.status.503:1|c|@1.0",
                "shop.gunicorn.request.duration:12.5|ms",
            ],
            "gunicorn",
            1,
            1,
            1,
        ),
        (
            ["shop.response.200:1|c", "shop.response.500:1|c", "shop.response.auth.500:1|c", "shop.view.GET:9|ms"],
            "django-statsd",
            2,
            1,
            1,
        ),
        (
            [
                "node.express.router.response_code.404:1|c|#service:shop",
                "node.express.router.response_code.500:1|c|#service:shop",
                "node.express.router.response_code.all:1|c|#service:shop",
                "node.express.router.response_code.all:1|c|#service:shop",
                "node.express.router.response_time:12|h|#service:shop",
            ],
            "connect-datadog",
            2,
            1,
            1,
        ),
        (
            ["shop.upstream_rq_completed:5|c", "shop.upstream_rq_5xx:2|c", "shop.upstream_rq_time:12|ms"],
            "envoy",
            5,
            2,
            1,
        ),
        (
            [
                "envoy.cluster.upstream_rq_xx:5|c|#service:shop,envoy.response_code_class:2",
                "envoy.cluster.upstream_rq_xx:2|c|#service:shop,envoy.response_code_class:5",
                "envoy.cluster.upstream_rq_time:12|ms|#service:shop",
            ],
            "envoy",
            7,
            2,
            1,
        ),
        (["shop.request.count:2|c", "shop.status.502:1|c", "shop.latency:3|ms"], "kong", 2, 1, 1),
        (
            [
                "traefik.service.request.total:1|c|#service:shop,code:502",
                "traefik.service.request.duration:0.012|h|#service:shop,code:502",
            ],
            "traefik",
            1,
            1,
            1,
        ),
    ],
)
def test_a_preset_knows_its_senders_names(
    lines: list[str], preset: str, total: float, failed: float, times: float
) -> None:
    for meanings in (PRESETS, [row for row in PRESETS if row.preset == preset]):
        counted = tally(*meanings)
        send(counted, *lines)
        events = counted.events(NOW)
        assert requests(events) == {None: (total, failed)}
        assert sum(reached(events).values()) == times
        assert all(0.003 <= float(bound) <= 0.015 for bound in reached(events))


def test_a_release_that_brings_other_names_is_followed() -> None:
    counted = tally(*PRESETS)
    send(counted, "shop.gunicorn.requests:1|c", "shop.response.200:5|c")
    assert requests(counted.events(NOW)) == {None: (1, 0)}
    send(counted, "shop.response.200:5|c")
    assert requests(counted.events(NOW)) == {None: (5, 0)}


def test_times_are_put_between_bounds_in_seconds() -> None:
    counted = tally()
    send(counted, "shop.took:0.2:1:1.1:1500|ms|@0.5", "shop.took:80000|h", "shop.took:2|d", "shop.took:7|c")
    events = counted.events(NOW)
    assert reached(events) == {"0.001": 4, "0.0015": 2, "0.002": 1, "1.5": 2, "+Inf": 1}
    assert len(BOUND_NAMES) == len(BOUNDS) + 1


def test_versions_are_told_apart() -> None:
    counted = tally()
    send(
        counted,
        "shop.requests:1|c|#version:v1",
        "shop.requests:2|c|#version:v2,status:500",
        "shop.requests:4|c|#version:unknown",
    )
    assert requests(counted.events(NOW)) == {None: (4, 0), "v1": (1, 0), "v2": (2, 2)}


def test_more_failures_than_requests_are_as_many_requests() -> None:
    counted = tally(Meaning("m", Selection.of("all"), Selection.of("bad")))
    send(counted, "shop.all:1|c", "shop.bad:3|c")
    assert requests(counted.events(NOW)) == {None: (3, 3)}


def test_a_counter_that_is_silent_while_its_sender_speaks_counts_nothing_and_otherwise_says_nothing() -> None:
    counted = tally()
    send(counted, "shop.workers:4|g|#version:v1")
    assert counted.events(NOW) == [], "it was never counted"
    send(counted, "shop.requests:5|c|#version:v1")
    counted.events(NOW)
    send(counted, "shop.workers:4|g|#version:v1")
    assert requests(counted.events(NOW)) == {"v1": (0, 0)}
    send(counted, "shop.workers:4|g|#version:v2")
    assert counted.events(NOW) == [], "another version spoke"
    assert counted.events(NOW) == [], "nobody spoke"
    send(counted, "shop.workers:4|g|#version:v1", now=NOW + FORGET_AFTER_S + 1)
    assert counted.events(NOW + FORGET_AFTER_S + 1) == [], "it is long gone"


def test_gauges_are_set_moved_and_never_repeated() -> None:
    counted = tally(gauges={"queue": Selection.of("jobs.*")})
    send(counted, "shop.jobs.mail:5|g", "shop.jobs.mail:+3|g", "shop.jobs.mail:-1|g", "shop.jobs.print:2|g")
    [event] = counted.events(NOW)
    assert event == Gauge(t=NOW, service="shop", name="queue", value=7)
    assert counted.events(NOW) == []
    send(counted, "shop.jobs.mail:-4|g", "shop.jobs.mail:+0:-1|g")
    [event] = counted.events(NOW)
    assert event == Gauge(t=NOW, service="shop", name="queue", value=2)
    send(counted, "shop.jobs.fresh:+1|g")
    assert counted.events(NOW) == []
    assert counted.dropped == {"gauge_without_base": 1}


def test_usual_gauges_are_known() -> None:
    counted = tally(gauges=dict(GAUGES))
    send(counted, "runtime.python.mem.rss:5000|g|#service:shop,version:v2", "jvm.heap_memory:70|g|#service:shop")
    assert counted.events(NOW) == [
        Gauge(t=NOW, service="shop", name="heap_bytes", value=70),
        Gauge(t=NOW, service="shop", version="v2", name="memory_bytes", value=5000),
    ]


def test_what_cannot_be_used_is_counted() -> None:
    counted = tally()
    send(
        counted,
        "shop.users:7|s",
        "shop.requests:-1|c",
        "shop.requests:1|c|T1600000000",
        "_e{5,4}:title|text|#service:shop",
        "_sc|shop.can|0|#service:shop",
    )
    assert counted.dropped == {"set": 1, "negative": 1, "too_old": 1}
    send(counted, "shop.requests:1e300|c")
    assert counted.events(NOW) == []
    assert counted.dropped["not_a_number"] == 1


@pytest.mark.parametrize(
    "line",
    [
        *("", "shop", "shop:1", ":1|c", "shop.requests:1|x", "shop.requests:|c", "shop.requests:a|c"),
        *("shop.requests:nan|c", "shop.requests:inf|c", "shop.requests:1_0|c", "shop.requests:1::2|c"),
        *(
            "shop.requests:1|c|@0",
            "shop.requests:0|c|@1e-320",
            "shop.requests:1|c|@2",
            "shop.requests:1|c|@x",
            "shop.requests:1|c|Tx",
        ),
    ],
)
def test_what_is_no_statsd_is_refused(line: str) -> None:
    with pytest.raises(Malformed):
        send(tally(), line)


def test_sums_beyond_all_numbers_are_no_events() -> None:
    counted = tally(gauges={"queue": Selection.of("queue")})
    send(counted, "shop.queue:1e308|g", "shop.queue:+1e308|g", "shop.queue:+1|g")
    send(counted, "shop.requests:1e308:1e308|c|@1e-9", "shop.requests:0|c|@1e-9", "shop.took:1e308|ms|@1e-9")
    assert [type(event) for event in counted.events(NOW)] == [Latency]
    assert counted.dropped == {"not_a_number": 2, "gauge_without_base": 1}


def test_versions_and_series_are_bounded() -> None:
    counted = tally(gauges={"queue": Selection.of("queue")})
    send(counted, *(f"shop.requests:1|c|#version:v{number}" for number in range(MAX_VERSIONS + 7)))
    send(counted, *(f"shop.queue:1|g|#host:{number}" for number in range(statsd_tally.MAX_LEVELS + 3)))
    assert len(requests(counted.events(NOW))) == MAX_VERSIONS
    assert counted.dropped == {"too_many_versions": 7, "too_many_series": 3}


@given(
    st.lists(
        st.sampled_from([*"shop.reqts:|#,;=@cmgTd+-.", "shop.requests:", "1", "|c", "|ms", "|#version:"]), max_size=20
    )
)
def test_hostile_text_is_counted_or_refused(pieces: list[str]) -> None:
    counted = tally(gauges={"queue": Selection.of("*")})
    with contextlib.suppress(Malformed):
        send(counted, "".join(pieces), "shop." + "".join(pieces))
    counted.events(NOW)

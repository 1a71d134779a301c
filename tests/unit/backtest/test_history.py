"""Samples to events: what the live source would have said."""

from __future__ import annotations

from rollbackd.backtest.history import SignalHistory
from rollbackd.metrics.presets import PRESETS
from rollbackd.metrics.samples import Row
from rollbackd.model import AnyEvent, Latency, Probe, Requests

T = 1_700_000_040.0
MEANINGS = [meaning for row in PRESETS for meaning in row.meanings()]


def history(step: float = 15.0) -> SignalHistory:
    return SignalHistory("shop", MEANINGS, {}, step)


def row(name: str, *samples: tuple[float, float | str], instance: str = "a", **labels: str) -> Row:
    values = [(T + t, str(value)) for t, value in samples]
    return Row({"__name__": name, "job": "shop", "instance": instance, **labels}, values)


def hits(*samples: tuple[float, float | str], code: str = "200", instance: str = "a", **labels: str) -> Row:
    return row("http_requests_total", *samples, instance=instance, code=code, **labels)


def counts(events: list[AnyEvent]) -> list[tuple[float, str | None, float, float]]:
    return [(event.t - T, event.version, event.total, event.errors) for event in events if isinstance(event, Requests)]


def test_counters_grow_from_the_second_look_on_and_failures_are_told_apart() -> None:
    events = history().take([hits((0, 100), (15, 130), (30, 150)), hits((0, 5), (15, 6), (30, 9), code="503")])
    assert counts(events) == [(15, None, 31, 1), (30, None, 23, 3)]


def test_pages_go_on_where_the_one_before_ended() -> None:
    past = history()
    assert counts(past.take([hits((0, 100), (15, 130))])) == [(15, None, 30, 0)]
    assert counts(past.take([hits((30, 150), (45, 160))])) == [(30, None, 20, 0), (45, None, 10, 0)]


def test_a_counter_that_fell_began_again_at_zero() -> None:
    assert counts(history().take([hits((0, 100), (15, 130), (30, 7))])) == [(15, None, 30, 0), (30, None, 7, 0)]


def test_a_release_that_appears_counts_from_its_first_request() -> None:
    events = history().take([hits((0, 10), (15, 20), version="v1"), hits((15, 4), (30, 9), version="v2")])
    assert counts(events) == [(15, "v1", 10, 0), (15, "v2", 4, 0), (30, "v2", 5, 0)]


def test_a_restart_of_one_instance_is_none_of_another_and_their_counts_add_up() -> None:
    events = history().take(
        [
            hits((0, 100), (15, 110), (30, 120)),
            hits((1, 900), (16, 910), (31, 3), instance="b"),
            row("process_start_time_seconds", (0, 50), (15, 50), (30, 50)),
            row("process_start_time_seconds", (1, 60), (16, 60), (31, T + 20), instance="b"),
        ]
    )
    assert counts(events) == [(16, None, 20, 0), (31, None, 13, 0)]


def test_samples_closer_than_the_step_are_one_look_and_lose_nothing() -> None:
    events = history(step=60).take([hits(*((5 * n, 10 * n) for n in range(1, 49)))])
    assert [(t, total) for t, _, total, _ in counts(events)] == [(115, 120), (175, 120), (235, 120), (240, 10)]


def test_looks_are_no_closer_than_the_scrapes() -> None:
    """Else of three instances scraped every minute each look would hold another one."""
    rows = [hits(*((60 * n + shift, 10 * n) for n in range(6)), instance=f"i{shift}") for shift in (0, 17, 34)]
    assert [total for _, _, total, _ in counts(history(step=15).take(rows))] == [30] * 5


def test_a_gap_gives_nothing_and_what_follows_carries_its_counts() -> None:
    events = history().take([hits((0, 100), (15, 110), (30, 120), (300, 500))])
    assert counts(events)[-1] == (300, None, 380, 0)
    assert len(counts(events)) == 3


def test_no_samples_give_no_events_and_that_is_known() -> None:
    past = history()
    assert past.take([]) == []
    assert past.take([row("process_start_time_seconds", (0, 50), (15, 50))]) == []
    assert not past.found
    past.take([hits((0, 1))])
    assert past.found


def test_histograms_are_in_seconds_and_added_up_at_shared_bounds() -> None:
    def buckets(instance: str, bounds: tuple[str, ...]) -> list[Row]:
        name = "http_request_duration_seconds_bucket"
        return [row(name, (0, 0), (15, 10 + n), instance=instance, le=bound) for n, bound in enumerate(bounds)]

    rows = [hits((0, 0), (15, 12)), hits((0, 0), (15, 12), instance="b")]
    events = history().take([*rows, *buckets("a", ("0.1", "0.5", "+Inf")), *buckets("b", ("0.1", "+Inf"))])
    assert [event.buckets for event in events if isinstance(event, Latency)] == [{"0.1": 20.0, "+Inf": 23.0}]


def test_probes_of_the_blackbox_exporter_are_checks() -> None:
    events = history().take(
        [
            row("probe_success", (0, 1), (15, 0), (30, "NaN")),
            row("probe_duration_seconds", (0, 0.25), (15, 5)),
        ]
    )
    assert events == [
        Probe(t=T, service="shop", up=True, duration=0.25),
        Probe(t=T + 15, service="shop", up=False, duration=5.0),
    ]

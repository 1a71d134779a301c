"""Pushed samples of many services: what they grew by, told once, whole and at the right moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from rollbackd.metrics.inflow import MIN_ABSENT, Inflow
from rollbackd.metrics.presets import GaugeRow, Meaning
from rollbackd.metrics.pushed import Slot
from rollbackd.metrics.settings import Metrics, meanings
from rollbackd.model import MAX_BACKWARDS_S, AnyEvent, Gauge, Latency, Requests

START = 1_700_000_000.0


class Finder:
    """Knows services by the label `job` and versions by `version`."""

    def __init__(self, *names: str) -> None:
        self.generation = frozenset(names)

    def service(self, labels: Mapping[str, str]) -> str | None:
        job = labels.get("job", "")
        return job if job in self.generation else None

    def version(self, labels: Mapping[str, str]) -> str | None:
        return labels.get("version")


class Pushing:
    """An Inflow, and whoever pushes to it; time goes on as asked."""

    def __init__(
        self,
        found: Sequence[Meaning] | None = None,
        gauges: Sequence[GaugeRow] | None = None,
        max_series: int = 1000,
        shared: Sequence[str] = (),
    ) -> None:
        self.finder, self.now = Finder("shop", "cart"), START
        self.inflow = Inflow(
            self.finder,
            meanings("auto", Metrics(), None) if found is None else found,
            Metrics().gauge_rows() if gauges is None else gauges,
            max_series=max_series,
            shared=shared,
        )
        self.dropped: dict[str, int] = {}

    def slot(self, name: str, labels: Mapping[str, str]) -> Slot:
        found = self.inflow.slot({"__name__": name, "job": "shop", "instance": "a:80", **labels})
        assert isinstance(found, Slot), found
        return found

    def send(self, *samples: tuple[str, Mapping[str, str], float], t: float | None = None, start: float = 0.0) -> None:
        """Samples of one moment, now unless told."""
        self.inflow.begin(self.now)
        for name, labels, value in samples:
            self.slot(name, labels).take(self.now if t is None else t, value, start)

    def requests(self, ok: float, failed: float | None = None, t: float | None = None, **labels: str) -> None:
        samples = [("http_requests_total", {"code": "200", **labels}, ok)]
        if failed is not None:
            samples.append(("http_requests_total", {"code": "500", **labels}, failed))
        self.send(*samples, t=t)

    def later(self, seconds: float) -> list[AnyEvent]:
        """What is told while so many seconds go by, one tick each."""
        events: list[AnyEvent] = []
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 1, end)
            events += self.inflow.settled(self.now)
        for reason, count in self.inflow.take_dropped().items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        return events


def counted(events: Sequence[AnyEvent]) -> list[tuple[str | None, float, float]]:
    return [(event.version, event.total, event.errors) for event in events if isinstance(event, Requests)]


def levels(events: Sequence[AnyEvent]) -> list[tuple[str, float]]:
    return [(event.name, event.value) for event in events if isinstance(event, Gauge)]


def histograms(events: Sequence[AnyEvent]) -> list[dict[str, float]]:
    return [dict(event.buckets) for event in events if isinstance(event, Latency)]


def buckets(*counts: float, **labels: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for bound, count in zip(("0.1", "1", "+Inf"), counts, strict=True):
        yield "http_request_duration_seconds_bucket", {"le": bound, **labels}, count


def test_the_first_samples_are_a_baseline_and_the_next_ones_count_what_was_new() -> None:
    push = Pushing()
    push.requests(1000, 10)
    assert push.later(15) == []
    push.requests(1090, 13)
    (event,) = push.later(15)
    assert event == Requests(t=START + 15, service="shop", total=93, errors=3)


def test_the_newest_moment_of_a_delivery_is_told() -> None:
    push = Pushing()
    push.requests(1, t=START - 40)
    assert push.inflow.newest == START - 40
    push.requests(1, t=START - 40)
    assert push.inflow.newest is None


def test_one_scrape_counts_once_however_many_requests_it_came_in() -> None:
    push = Pushing()
    push.requests(0, 0)
    push.later(15)
    scraped = push.now
    push.requests(90, t=scraped)
    assert push.later(5) == []
    push.send(("http_requests_total", {"code": "500"}, 3), t=scraped)
    assert counted(push.later(10)) == [(None, 93, 3)]


def test_no_request_is_an_observation_too() -> None:
    push = Pushing()
    push.requests(5, 0)
    push.later(15)
    push.requests(5, 0)
    assert counted(push.later(15)) == [(None, 0, 0)]


def test_a_counter_that_fell_began_again_at_zero() -> None:
    push = Pushing()
    push.requests(1000, 10)
    push.later(15)
    push.requests(7, 2)
    assert counted(push.later(15)) == [(None, 9, 2)]


def test_what_is_delivered_again_changes_nothing() -> None:
    push = Pushing()
    push.requests(0, 0)
    push.later(15)
    push.requests(10, 1)
    push.requests(10, 1)
    push.later(3)
    push.requests(10, 1, t=push.now - 3)
    assert counted(push.later(15)) == [(None, 11, 1)]
    assert push.dropped == {}


def test_a_sample_older_than_the_newest_is_dropped() -> None:
    push = Pushing()
    push.requests(10)
    push.later(15)
    push.requests(20)
    push.requests(15, t=push.now - 5)
    assert counted(push.later(10)) == [(None, 10, 0)]
    assert push.dropped == {"out_of_order": 1}


def test_the_first_error_of_a_known_process_counts() -> None:
    """Libraries make a series when the first failure happens: it began at 0, unlike one that we had not listened to."""
    push = Pushing()
    for ok in (100, 200, 300):
        push.requests(ok)
        push.later(15)
    push.requests(400, 4)
    assert counted(push.later(10)) == [(None, 104, 4)]


@pytest.mark.parametrize(("every", "looks"), [(15, 1), (60, 1), (4, 4)])
def test_a_series_that_only_came_later_than_its_siblings_is_a_baseline(every: int, looks: int) -> None:
    """After a restart of ours, the other requests of a scrape may come seconds, or one scrape, later."""
    push = Pushing()
    events: list[AnyEvent] = []
    for n in range(looks):
        push.requests(100 * n)
        events += push.later(every)
    push.requests(100 * looks, 900_000)
    events += push.later(10)
    assert sum(total for _, total, _ in counted(events)) == 100 * looks


def test_another_process_of_a_known_service_is_a_baseline() -> None:
    push = Pushing()
    for ok in (100, 200, 300, 400):
        push.requests(ok)
        push.later(15)
    push.requests(500)
    push.requests(70_000, instance="b:80")
    assert counted(push.later(10)) == [(None, 100, 0)]


def test_a_process_that_says_when_it_began_counts_from_its_first_request() -> None:
    push = Pushing()
    push.requests(100)
    push.later(60)
    new = {"code": "500", "instance": "b:80", "version": "v2"}
    push.send(("http_requests_total", new, 40), start=push.now - 10)
    assert counted(push.later(10)) == [("v2", 40, 40)]


def test_one_that_began_before_we_listened_does_not() -> None:
    push = Pushing()
    push.send(("http_requests_total", {"code": "500"}, 40), start=START - 10)
    assert push.later(10) == []


def test_a_newer_start_is_a_restart_even_if_the_counter_overtook_its_old_value() -> None:
    push = Pushing()
    push.send(("http_requests_total", {"code": "200"}, 10), start=START - 100)
    push.later(15)
    push.send(("http_requests_total", {"code": "200"}, 30), start=push.now - 10)
    assert counted(push.later(10)) == [(None, 30, 0)]


def test_versions_count_apart() -> None:
    push = Pushing()
    for n in (0, 1, 2):
        push.requests(100 * n, 0, version="v1")
        push.requests(10 * n, 5 * n, version="v2", instance="b:80")
        push.later(15)
    push.later(1)
    push.requests(300, 0, version="v1")
    push.requests(30, 20, version="v2", instance="b:80")
    events = push.later(10)
    assert counted(events) == [("v1", 100, 0), ("v2", 20, 10)]


def test_a_backlog_is_told_by_its_own_moments_and_what_is_too_old_is_not_told() -> None:
    """But it moves the counters on: what follows counts from there."""
    push = Pushing()
    push.requests(0)
    push.later(2000)
    for n in range(20):
        push.requests(100 * (n + 1), t=START + 15 + 100 * n)
    events = push.later(10)
    assert all(event.t >= push.now - MAX_BACKWARDS_S for event in events)
    assert [event.t for event in events] == [START + 15 + 100 * n for n in range(15, 20)]
    assert [total for _, total, _ in counted(events)] == [100] * 5
    assert push.dropped == {"too_old": 15}


def test_a_moment_ahead_of_ours_counts_as_of_now() -> None:
    push = Pushing()
    push.requests(0, t=START + 100)
    push.later(15)
    push.requests(7, t=START + 115)
    (event,) = push.later(10)
    assert START + 15 <= event.t <= push.now


def test_a_sender_that_lags_behind_is_heard_out_before_its_moment_is_told() -> None:
    push = Pushing()
    push.requests(0, 0, t=push.now - 60)
    push.later(15)
    scraped = push.now - 60
    push.requests(90, t=scraped)
    push.later(2)
    push.send(("http_requests_total", {"code": "500"}, 3), t=scraped)
    assert counted(push.later(10)) == [(None, 93, 3)]


def test_a_sender_whose_clock_is_a_little_ahead_is_heard_out_too() -> None:
    push = Pushing()
    push.requests(0, 0, t=push.now + 5)
    push.later(15)
    scraped = push.now + 5
    push.requests(90, t=scraped)
    push.later(4)
    push.send(("http_requests_total", {"code": "500"}, 3), t=scraped)
    (event,) = push.later(10)
    assert event == Requests(t=scraped, service="shop", total=93, errors=3)


def test_a_clock_of_ours_that_is_set_back_keeps_nothing_back() -> None:
    push = Pushing()
    push.requests(0)
    push.later(15)
    push.requests(7)
    push.now -= 200
    (event,) = push.later(5)
    assert event == Requests(t=START + 15 - 200 + 1, service="shop", total=7, errors=0)


def test_failures_that_outnumber_requests_are_requests() -> None:
    """As they can where the two are counted apart."""
    own = Metrics.model_validate({"requests": "calls", "errors": "failures"})
    push = Pushing(meanings("auto", own, None))
    for failures in (0, 5):
        push.send(("calls", {}, 10), ("failures", {}, failures))
        push.later(4)
    assert counted(push.later(10)) == [(None, 5, 5)]


def test_an_event_is_never_told_before_one_that_was_told() -> None:
    """Where a second sender lags by some seconds."""
    push = Pushing()
    events: list[AnyEvent] = []
    for n in range(6):
        push.requests(100 * n)
        events += push.later(13)
        push.requests(10 * n, t=push.now - 20, instance="b:80")
        events += push.later(2)
    events += push.later(10)
    assert [event.t for event in events] == sorted(event.t for event in events)
    assert sum(total for _, total, _ in counted(events)) == 550


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_value_that_is_no_count_is_dropped_and_the_next_carries_what_was_missed(value: float) -> None:
    push = Pushing()
    events: list[AnyEvent] = []
    for each in (0, value, 20):
        push.requests(each)
        events = push.later(15)
    assert counted(events) == [(None, 20, 0)]
    assert push.dropped == {"not_a_number": 1}


def test_a_stale_marker_is_nothing() -> None:
    push = Pushing()
    push.requests(5)
    push.later(15)
    push.slot("http_requests_total", {"code": "200"}).stale(push.now)
    assert push.later(15) == []
    push.requests(9)
    assert counted(push.later(15)) == [(None, 4, 0)]
    assert push.dropped == {}


def test_of_several_metrics_that_count_requests_the_first_known_one_is_used() -> None:
    push = Pushing()
    events: list[AnyEvent] = []
    for n in (0, 1):
        push.send(
            ("http_request_duration_seconds_count", {"code": "200"}, 50 * n),
            ("http_requests_total", {"code": "200"}, 60 * n),
        )
        events = push.later(15)
    assert counted(events) == [(None, 60, 0)]


def test_a_release_that_brings_other_names_is_followed() -> None:
    push = Pushing()
    for n in (0, 1):
        push.requests(60 * n)
        push.later(15)
    push.slot("http_requests_total", {"code": "200"}).stale(push.now)
    events: list[AnyEvent] = []
    for n in range(8):
        push.send(("grpc_server_handled_total", {"grpc_code": "OK"}, 7 * n))
        events = push.later(15)
    assert counted(events) == [(None, 7, 0)]


def test_series_of_nobody_and_of_no_use_are_told_apart() -> None:
    push = Pushing()
    push.inflow.begin(START)
    assert push.inflow.slot({"__name__": "http_requests_total", "code": "200", "job": "other"}) == "unknown_service"
    assert push.inflow.slot({"__name__": "http_requests_total", "job": "shop"}) == "unwanted"
    assert push.inflow.slot({"__name__": "node_load1", "job": "shop"}) == "unwanted"
    assert push.inflow.slot({}) == "unwanted"
    assert "node_load1" not in push.inflow.wanted


def test_the_two_servers_of_a_pair_count_once() -> None:
    push = Pushing()
    events: list[AnyEvent] = []
    for n in range(4):
        push.requests(100 * n, prometheus_replica="a")
        push.later(5)
        push.requests(100 * n + 30, prometheus_replica="b")
        events = push.later(10)
    assert sum(total for _, total, _ in counted(events)) == 100


def test_buckets_count_when_all_of_one_moment_have_come() -> None:
    push = Pushing()
    push.requests(0)
    push.send(*buckets(1, 2, 3))
    push.later(15)
    scraped = push.now
    first, second, last = buckets(11, 22, 33)
    push.send(first, t=scraped)
    push.later(4)
    push.send(second, last, t=scraped)
    (event,) = [one for one in push.later(6) if isinstance(one, Latency)]
    assert event == Latency(t=scraped, service="shop", buckets={"0.1": 10, "1": 20, "+Inf": 30})


def test_which_buckets_there_are_is_known_when_the_first_look_has_come_whole() -> None:
    push = Pushing()
    push.requests(0)
    for n in (1, 2):
        scraped = push.now
        first, second, last = buckets(10 * n, 20 * n, 30 * n)
        push.send(first, last, t=scraped)
        push.later(3)
        push.send(second, t=scraped)
        push.later(2)
    assert histograms(push.later(10)) == [{"0.1": 10, "1": 20, "+Inf": 30}]


def test_a_moment_without_all_buckets_is_left_out_and_the_next_carries_it() -> None:
    push = Pushing()
    push.requests(0)
    push.send(*buckets(0, 0, 0))
    push.later(15)
    push.send(*list(buckets(1, 1, 1))[:2])
    assert histograms(push.later(15)) == []
    push.send(*buckets(2, 3, 4))
    assert histograms(push.later(15)) == [{"0.1": 2, "1": 3, "+Inf": 4}]
    assert push.dropped == {"incomplete_histogram": 1}


def test_a_bucket_that_is_no_more_does_not_hold_up_the_others() -> None:
    push = Pushing()
    push.requests(0)
    events: list[AnyEvent] = []
    for n in range(10):
        found = list(buckets(n, 2 * n, 3 * n))
        push.send(*(found if n < 3 else found[1:]))
        events = push.later(15)
    assert histograms(events) == [{"1": 2, "+Inf": 3}]


def test_all_buckets_restart_together() -> None:
    push = Pushing()
    push.requests(0)
    events: list[AnyEvent] = []
    for counts in ((5, 10, 20), (5, 10, 30), (4, 9, 11)):
        push.send(*buckets(*counts))
        events = push.later(15)
    assert histograms(events) == [{"0.1": 4, "1": 9, "+Inf": 11}]


def test_histograms_of_one_version_are_added_up() -> None:
    push = Pushing()
    push.requests(0)
    events: list[AnyEvent] = []
    for n in (0, 1):
        push.send(*buckets(n, 2 * n, 3 * n, path="/a"), *buckets(n, n, n, path="/b"))
        events = push.later(15)
    assert histograms(events) == [{"0.1": 2, "1": 3, "+Inf": 4}]


def test_a_whole_histogram_counts_latency_and_requests() -> None:
    push = Pushing()
    events: list[AnyEvent] = []
    for n in (0, 1):
        push.inflow.begin(push.now)
        for code, count in (("200", 10.0 * n), ("503", 2.0 * n)):
            slot = push.slot("http_server_request_duration_seconds", {"http_response_status_code": code})
            slot.take_histogram(push.now, {"0.5": count / 2, "+Inf": count})
        events = push.later(15)
    assert counted(events) == [(None, 12, 2)]
    assert histograms(events) == [{"0.5": 6, "+Inf": 12}]


def test_a_histogram_where_a_number_is_expected_is_dropped() -> None:
    push = Pushing()
    push.inflow.begin(push.now)
    push.slot("http_requests_total", {"code": "200"}).take_histogram(push.now, {"+Inf": 1})
    push.later(1)
    assert push.dropped == {"unexpected_type": 1}


def test_a_level_is_the_sum_over_all_processes_once_all_were_heard() -> None:
    push = Pushing()
    events: list[AnyEvent] = []
    for n in range(4):
        for instance in ("a:80", "b:80", "c:80"):
            push.send(("process_open_fds", {"instance": instance}, 10 + n))
            events += push.later(5)
    events += push.later(10)
    assert levels(events) == [("open_fds", 30 + 3 * n) for n in range(4)]


def test_a_process_that_ended_is_no_part_of_the_level() -> None:
    push = Pushing()
    for _ in range(3):
        push.send(*(("process_open_fds", {"instance": instance}, 10) for instance in ("a:80", "b:80")))
        push.later(15)
    push.slot("process_open_fds", {"instance": "b:80"}).stale(push.now)
    push.send(("process_open_fds", {}, 10))
    assert levels(push.later(15)) == [("open_fds", 10)]


def test_a_counter_can_be_a_level_by_its_growth_per_second() -> None:
    push = Pushing()
    events: list[AnyEvent] = []
    for seconds in (0, 7.5, 15, 1.5):
        push.send(("process_cpu_seconds_total", {}, seconds))
        events += push.later(15)
    assert levels(events) == [("cpu_cores", 0.5), ("cpu_cores", 0.5), ("cpu_cores", 0.1)]


def test_metrics_that_speak_of_many_services_are_used_where_the_operator_matched_them() -> None:
    labels = {"container": "shop", "job": "shop"}
    for shared, found in (((), []), (("shop",), [("memory_bytes", 5)])):
        push = Pushing(shared=shared)
        events: list[AnyEvent] = []
        for _ in range(2):
            push.inflow.begin(push.now)
            slot = push.inflow.slot({"__name__": "container_memory_working_set_bytes", **labels})
            if isinstance(slot, Slot):
                slot.take(push.now, 5)
            events += push.later(15)
        assert levels(events)[:1] == found


def test_no_more_series_are_followed_than_allowed() -> None:
    """And one that finds room later is no new one: it counts from its first sample on."""
    push = Pushing(max_series=2)
    for n in range(1, 6):
        push.requests(100 * n, 10 * n)
        push.later(15)
    refused = {"__name__": "http_requests_total", "job": "shop", "instance": "a:80", "code": "503"}
    push.inflow.begin(push.now)
    assert push.inflow.slot(refused) == "too_many_series"


def test_a_series_that_was_refused_is_a_baseline_once_there_is_room_for_it() -> None:
    """It is no new one, though its process is known."""
    push = Pushing(max_series=2)
    events: list[AnyEvent] = []
    push.requests(0, instance="b:80")
    for n in range(70):
        push.requests(10 * n)
        if n < 30:
            failures = {"__name__": "http_requests_total", "code": "500", "job": "shop", "instance": "a:80"}
            assert push.inflow.slot(failures) == "too_many_series"
        elif n > 62:
            push.send(("http_requests_total", {"code": "500"}, 5000 + n))
        events += push.later(60)
    assert counted(events)[-1] == (None, 11, 1)
    assert max(errors for _, _, errors in counted(events)) == 1


def test_series_that_come_and_go_leave_nothing() -> None:
    push = Pushing(max_series=500)
    for n in range(0, 300 * 60, 60):
        push.requests(n, 0, version=f"v{n}", instance=f"pod-{n}")
        push.send(*buckets(1, 2, 3, instance=f"pod-{n}", version=f"v{n}"))
        push.send(("process_open_fds", {"instance": f"pod-{n}", "version": f"v{n}"}, 1))
        push.later(60)
    inflow = push.inflow
    kept = (inflow._slots, inflow._targets, inflow._parts, inflow._levels, inflow._services["shop"].accounts)
    assert all(len(one) <= 62 * 6 for one in kept), [len(one) for one in kept]
    assert inflow.epoch > 10
    push.later(4000)
    assert not any((inflow._slots, inflow._targets, inflow._parts, inflow._levels, inflow._services))


def test_labels_that_come_and_go_leave_no_hours_worth_of_series() -> None:
    push = Pushing(max_series=1_000_000)
    push.requests(0)
    for n in range(60):
        push.later(60)
        push.requests(60 * n)
        push.send(*(("http_requests_total", {"code": "200", "session": f"{n}/{m}"}, 1.0) for m in range(100)))
    push.later(60)
    assert len(push.inflow._slots) < MIN_ABSENT + 1000
    push.requests(60 * 60)
    assert counted(push.later(10)) == [(None, 60, 0)]


def test_an_outage_of_everything_forgets_nothing() -> None:
    push = Pushing(max_series=1_000_000)
    for n in range(2):
        push.send(*(("http_requests_total", {"code": "200", "path": str(m)}, 10.0 * n) for m in range(3000)))
        push.later(100)
    push.later(1500)
    push.send(*(("http_requests_total", {"code": "200", "path": str(m)}, 11.0) for m in range(3000)))
    assert counted(push.later(10)) == [(None, 3000, 0)]


def test_the_series_of_a_sender_far_behind_are_not_forgotten() -> None:
    push = Pushing(max_series=1_000_000)
    events: list[AnyEvent] = []
    for n in range(10):
        ago = push.now - 420
        push.send(*(("http_requests_total", {"code": "200", "path": str(m)}, 10.0 * n) for m in range(2000)), t=ago)
        events += push.later(60)
    assert [total for _, total, _ in counted(events)] == [20_000] * 9


def test_services_that_are_gone_are_forgotten_and_the_others_go_on() -> None:
    push = Pushing()
    push.requests(10)
    push.requests(10, job="cart")
    push.later(15)
    slot = push.slot("http_requests_total", {"code": "200", "job": "cart"})
    push.finder.generation = frozenset({"shop"})
    push.requests(15)
    assert push.inflow.services == {"shop"}
    assert slot.gone
    labels = {"__name__": "http_requests_total", "code": "200", "job": "cart", "instance": "a:80"}
    assert push.inflow.slot(labels) == "unknown_service"
    assert counted(push.later(15)) == [(None, 5, 0)]

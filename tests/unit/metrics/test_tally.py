"""From successive expositions to events: growth, resets, gaps, versions, presets and gauges."""

from __future__ import annotations

import pytest
import structlog.testing

from rollbackd.metrics.exposition import Exposition
from rollbackd.metrics.growth import FORGET_AFTER_S, MIN_ABSENT
from rollbackd.metrics.presets import GAUGES, PRESETS
from rollbackd.metrics.tally import Tally, bound_text
from rollbackd.model import AnyEvent, Gauge, Latency, Requests
from rollbackd.sources.scrape import ScrapeConfig

START = 1_700_000_000.0


class Endpoint:
    """A tally fed by hand, ten seconds a scrape."""

    def __init__(self, **settings: object) -> None:
        self.config = ScrapeConfig.model_validate({"url": "http://x/metrics", **settings})
        self.tally = Tally("shop", self.config.meanings(), GAUGES, self.config.match, self.config.max_series)
        self.elapsed = 0.0

    def shows(self, *lines: str, after: float = 10.0) -> list[AnyEvent]:
        exposition = Exposition(self.tally.reader)
        exposition.feed("\n".join([*lines, ""]).encode())
        exposition.end()
        self.elapsed += after
        return self.tally.take(exposition, START + self.elapsed, self.elapsed)

    def counts(self, *lines: str, after: float = 10.0) -> list[tuple[str | None, float, float]]:
        return counts(self.shows(*lines, after=after))


def counts(events: list[AnyEvent]) -> list[tuple[str | None, float, float]]:
    return [(event.version, event.total, event.errors) for event in events if isinstance(event, Requests)]


def buckets(events: list[AnyEvent]) -> list[tuple[str | None, dict[str, float]]]:
    return [(event.version, event.buckets) for event in events if isinstance(event, Latency)]


def gauges(events: list[AnyEvent]) -> dict[tuple[str, str | None], float]:
    return {(event.name, event.version): event.value for event in events if isinstance(event, Gauge)}


OK = 'http_requests_total{code="200"}'
BAD = 'http_requests_total{code="500"}'


def histogram(*values: float, labels: str = "", name: str = "http_request_duration_seconds") -> list[str]:
    bounds = ("0.1", "1.0", "+Inf")
    return [f'{name}_bucket{{{labels}le="{bound}"}} {value}' for bound, value in zip(bounds, values, strict=True)]


def test_the_first_scrape_is_a_baseline_and_the_next_counts_what_was_added() -> None:
    endpoint = Endpoint()
    assert endpoint.counts(f"{OK} 1000", f"{BAD} 10") == []
    assert endpoint.counts(f"{OK} 1090", f"{BAD} 11") == [(None, 91.0, 1.0)]


def test_a_quiet_service_is_reported_as_quiet() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 5")
    assert endpoint.counts(f"{OK} 5") == [(None, 0.0, 0.0)]


@pytest.mark.parametrize("values", [("2e15", "9"), ("1e300", "1e300"), ("1.6e308", "1.6e308")])
def test_counts_too_large_to_be_true_are_dropped(values: tuple[str, str]) -> None:
    """Each may be finite and their sum not: one such event would spoil the baseline and the recording."""
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 1", f"{BAD} 1", *histogram(0, 0, 0))
    large = [f"{OK} {values[0]}", f"{BAD} {values[1]}", *histogram(0, float(values[0]), float(values[0]))]
    assert endpoint.shows(*large) == []
    assert endpoint.tally.dropped == {"not_a_number": 2}
    assert endpoint.counts(f"{OK} 7", f"{BAD} 3") == [(None, 10.0, 3.0)]


def test_levels_whose_sum_is_infinite_are_dropped() -> None:
    endpoint = Endpoint()
    levels = gauges(endpoint.shows('process_open_fds{of="a"} 1.6e308', 'process_open_fds{of="b"} 1.6e308'))
    assert (levels, endpoint.tally.dropped) == ({}, {"not_a_number": 1})


def test_a_reset_counter_is_not_negative() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 1000", f"{BAD} 10")
    assert endpoint.counts(f"{OK} 7", f"{BAD} 12") == [(None, 9.0, 2.0)]


def test_a_restart_that_overtook_its_past_is_seen_by_the_start_time() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 100", f"process_start_time_seconds {START - 900}")
    assert endpoint.counts(f"{OK} 130", f"process_start_time_seconds {START + 15}") == [(None, 130.0, 0.0)]


def test_a_restart_that_overtook_its_past_is_seen_by_the_creation_time() -> None:
    endpoint = Endpoint()
    created = 'http_requests_created{code="200"}'
    endpoint.shows(f"{OK} 100", f"{created} 1000")
    assert endpoint.counts(f"{OK} 130", f"{created} 2000") == [(None, 130.0, 0.0)]
    assert endpoint.counts(f"{OK} 140", f"{created} 2000") == [(None, 10.0, 0.0)]


def test_answers_of_several_processes_are_never_taken_for_growth() -> None:
    """Replicas behind one address: their differences would be invented requests."""
    endpoint = Endpoint()
    one = (f"{OK} 100", f"process_start_time_seconds {START - 9000}")
    other = (f"{OK} 90000", f"process_start_time_seconds {START - 8000}")
    endpoint.shows(*one)
    assert endpoint.shows(*other) == []
    assert endpoint.shows(*one) == []
    assert endpoint.tally.dropped == {"several_processes": 2}
    assert endpoint.counts(f"{OK} 103", one[1]) == [(None, 3.0, 0.0)]


def test_a_series_that_appears_later_began_at_zero() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 1000")
    assert endpoint.counts(f"{OK} 1000", f"{BAD} 4") == [(None, 4.0, 4.0)]


def test_a_new_version_counts_from_its_beginning() -> None:
    endpoint = Endpoint()
    old, new = 'http_requests_total{code="200",version="v1"}', 'http_requests_total{code="200",version="v2"}'
    endpoint.shows(f"{old} 1000")
    assert endpoint.counts(f"{old} 1010", f"{new} 3") == [("v1", 10.0, 0.0), ("v2", 3.0, 0.0)]


def test_requests_counted_before_a_service_had_any_begin_at_zero() -> None:
    endpoint = Endpoint()
    assert endpoint.shows("# TYPE http_requests_total counter") == []
    assert endpoint.counts(f"{OK} 3") == [(None, 3.0, 0.0)]


def test_a_restarted_service_without_a_request_yet_has_served_none() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 1000")
    endpoint.shows(f"{OK} 1010")
    assert endpoint.counts("# TYPE http_requests_total counter") == [(None, 0.0, 0.0)]


@pytest.mark.parametrize("line", [f"{OK} NaN", f"{OK} what", "http_requests_total 5"])
def test_counters_that_cannot_be_read_are_not_taken_for_silence(line: str) -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 1000")
    endpoint.shows(f"{OK} 1010")
    assert endpoint.counts(line) == []


def test_a_service_missing_from_a_shared_endpoint_is_not_said_to_be_idle() -> None:
    endpoint = Endpoint(match={"app": "shop"})
    endpoint.shows('http_requests_total{code="200",app="shop"} 1000')
    endpoint.shows('http_requests_total{code="200",app="shop"} 1010')
    assert endpoint.counts('http_requests_total{code="200",app="other"} 5') == []


def test_a_series_that_was_away_goes_on_where_it_was() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 1000", f"{BAD} 50")
    endpoint.shows(f"{OK} 1001")
    assert endpoint.counts(f"{OK} 1002", f"{BAD} 51") == [(None, 2.0, 1.0)]


def test_a_series_that_is_long_gone_is_forgotten() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 1", f"{BAD} 1")
    endpoint.shows(f"{OK} 1")
    assert len(endpoint.tally.reader.known) == 2
    endpoint.shows(f"{OK} 1", after=FORGET_AFTER_S + 1)
    assert len(endpoint.tally.reader.known) == 1


def test_of_absent_series_no_more_are_remembered_than_ever_were_there() -> None:
    """Else labels that come and go in an hour would fill the memory, and push out what is new."""
    endpoint = Endpoint()
    for number in range(5):
        endpoint.shows(*(f'{OK[:-1]},id="{number}-{i}"}} 1' for i in range(MIN_ABSENT)))
    assert len(endpoint.tally.reader.known) == 2 * MIN_ABSENT
    assert endpoint.counts(f'{OK[:-1]},id="3-0"}} 8') == [(None, 7.0, 0.0)]  # the newest of the absent are remembered


def test_versions_that_are_gone_leave_no_event() -> None:
    endpoint = Endpoint()
    endpoint.shows(f'{OK[:-1]},version="1"}} 5', f'{OK[:-1]},version="2"}} 5')
    one, two = (f'{OK[:-1]},version="{version}"}}' for version in "12")
    assert endpoint.counts(f"{one} 6", f"{two} 7") == [("1", 1.0, 0.0), ("2", 2.0, 0.0)]
    assert endpoint.counts(f"{two} 7") == [("2", 0.0, 0.0)]
    endpoint.shows(f"{two} 8", after=FORGET_AFTER_S + 1)
    assert endpoint.counts(f"{one} 1", f"{two} 8") == [("1", 1.0, 0.0), ("2", 0.0, 0.0)]


def test_an_outage_of_hours_forgets_nothing() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 100", f"{BAD} 10")
    assert endpoint.counts(f"{OK} 160", f"{BAD} 12", after=7200.0) == [(None, 62.0, 2.0)]


def test_only_successful_looks_count_as_absence() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 100", f"{BAD} 10")
    endpoint.shows(f"{OK} 100", after=FORGET_AFTER_S + 1)
    assert endpoint.counts(f"{OK} 100", f"{BAD} 12") == [(None, 2.0, 2.0)]


def test_series_beyond_the_bound_are_counted_and_count_only_from_when_they_are_known() -> None:
    endpoint = Endpoint(max_series=2)
    paths = [f'http_requests_total{{code="200",path="/{i}"}}' for i in range(4)]
    endpoint.shows(*(f"{path} 100" for path in paths))
    assert endpoint.tally.dropped == {"too_many_series": 2}
    assert endpoint.counts(*(f"{path} 110" for path in paths)) == [(None, 20.0, 0.0)]
    endpoint.shows(f"{paths[2]} 120", f"{paths[3]} 120")
    assert endpoint.counts(f"{paths[2]} 120", f"{paths[3]} 120") == []
    assert endpoint.counts(f"{paths[2]} 121", f"{paths[3]} 122") == [(None, 3.0, 0.0)]


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-5"])
def test_an_impossible_value_is_dropped_and_made_up_for_by_the_next_good_one(value: str) -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 100", f"{BAD} 10")
    assert endpoint.counts(f"{OK} 110", f"{BAD} {value}") == [(None, 10.0, 0.0)]
    assert endpoint.tally.dropped == {"not_a_number": 1}
    assert endpoint.counts(f"{OK} 110", f"{BAD} 12") == [(None, 2.0, 2.0)]


def test_a_series_that_began_as_nonsense_is_not_thought_new() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 100", f"{BAD} NaN")
    assert endpoint.counts(f"{OK} 100", f"{BAD} 5000") == [(None, 0.0, 0.0)]
    assert endpoint.counts(f"{OK} 100", f"{BAD} 5001") == [(None, 1.0, 1.0)]


def test_latency_is_the_growth_of_the_buckets() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 0", *histogram(10, 20, 30))
    events = endpoint.shows(f"{OK} 6", *histogram(13, 25, 36))
    assert buckets(events) == [(None, {"0.1": 3.0, "1": 5.0, "+Inf": 6.0})]


def test_a_restarted_histogram_restarts_in_all_its_buckets() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 0", *histogram(10, 11, 100))
    events = endpoint.shows(f"{OK} 0", *histogram(5, 12, 12))
    assert buckets(events) == [(None, {"0.1": 5.0, "1": 12.0, "+Inf": 12.0})]


def test_a_histogram_with_one_bad_bucket_waits_until_it_is_whole() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 0", *histogram(1, 1, 1))
    assert buckets(endpoint.shows(f"{OK} 0", *histogram(2, float("nan"), 3))) == []
    assert buckets(endpoint.shows(f"{OK} 0", *histogram(3, 4, 5))) == [(None, {"0.1": 2.0, "1": 3.0, "+Inf": 4.0})]


def test_a_histogram_that_began_as_nonsense_is_not_thought_new() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 0", *histogram(900, float("nan"), 1000))
    assert buckets(endpoint.shows(f"{OK} 0", *histogram(900, 950, 1000))) == []
    assert buckets(endpoint.shows(f"{OK} 1", *histogram(900, 951, 1001))) == [
        (None, {"0.1": 0.0, "1": 1.0, "+Inf": 1.0})
    ]


def test_a_bucket_that_a_histogram_did_not_have_before_counts_from_then_on() -> None:
    endpoint = Endpoint()
    first, middle, last = histogram(10, 11, 12)
    endpoint.shows(f"{OK} 0", first, last)
    assert buckets(endpoint.shows(f"{OK} 1", first, middle, last.replace("12", "13"))) == [
        (None, {"0.1": 0.0, "+Inf": 1.0})
    ]
    assert buckets(endpoint.shows(f"{OK} 1", *histogram(10, 12, 14))) == [(None, {"0.1": 0.0, "1": 1.0, "+Inf": 1.0})]


def test_histograms_of_one_version_are_added_up() -> None:
    endpoint = Endpoint()
    first, second = 'path="/a",version="v1",', 'path="/b",version="v1",'
    status = 'http_requests_total{code="200",version="v1"}'
    endpoint.shows(f"{status} 0", *histogram(0, 0, 0, labels=first), *histogram(0, 0, 0, labels=second))
    events = endpoint.shows(f"{status} 3", *histogram(1, 1, 1, labels=first), *histogram(0, 1, 2, labels=second))
    assert buckets(events) == [("v1", {"0.1": 1.0, "1": 2.0, "+Inf": 3.0})]


def test_histograms_with_other_bounds_are_added_up_where_they_agree() -> None:
    endpoint = Endpoint()
    other = [
        'http_request_duration_seconds_bucket{path="/b",le="1"}',
        'http_request_duration_seconds_bucket{path="/b",le="+Inf"}',
    ]
    endpoint.shows(f"{OK} 0", *histogram(0, 0, 0), *(f"{line} 0" for line in other))
    events = endpoint.shows(f"{OK} 3", *histogram(1, 1, 1), *(f"{line} 2" for line in other))
    assert buckets(events) == [(None, {"1": 3.0, "+Inf": 3.0})]


def test_buckets_read_while_they_rose_stay_in_order() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 0", *histogram(10, 12, 12))
    assert buckets(endpoint.shows(f"{OK} 0", *histogram(13, 14, 14))) == [(None, {"0.1": 3.0, "1": 3.0, "+Inf": 3.0})]


@pytest.mark.parametrize(
    ("le", "scale", "text"),
    [
        ("0.005", 1.0, "0.005"),
        ("1.0", 1.0, "1"),
        ("5e-05", 1.0, "5e-05"),
        ("0.1", 0.001, "0.0001"),
        ("300", 0.001, "0.3"),
        ("+Inf", 0.001, "+Inf"),
        ("inf", 1.0, "+Inf"),
        ("-0", 1.0, "0"),
        ("NaN", 1.0, None),
        ("", 1.0, None),
    ],
)
def test_bounds_have_one_spelling_in_seconds(le: str, scale: float, text: str | None) -> None:
    assert bound_text(le, scale) == text


PRESET_SAMPLES = {
    "istio": ('istio_requests_total{reporter="destination",response_code="%s",destination_version="v1"}', "503"),
    "ingress-nginx": ('nginx_ingress_controller_requests{ingress="shop",status="%s"}', "502"),
    "traefik": ('traefik_service_requests_total{service="shop",code="%s"}', "500"),
    "envoy": ('envoy_cluster_upstream_rq_xx{envoy_cluster_name="shop",envoy_response_code_class="%s"}', "5"),
    "linkerd": ('response_total{direction="inbound",classification="%s"}', "failure"),
    "haproxy": ('haproxy_backend_http_responses_total{proxy="shop",code="%s"}', "5xx"),
    "otel": ('http_server_request_duration_seconds_count{http_response_status_code="%s"}', "500"),
    "otel-old": ('http_server_duration_milliseconds_count{http_status_code="%s"}', "500"),
    "micrometer": ('http_server_requests_seconds_count{uri="/",outcome="X",status="%s"}', "500"),
    "prometheus": ('http_requests_total{handler="/",status_code="%s"}', "5xx"),
    "dotnet": ('http_requests_received_total{code="%s"}', "500"),
    "flask": ('flask_http_request_total{status="%s"}', "500"),
    "django": ('django_http_responses_total_by_status_total{status="%s"}', "500"),
    "starlette": ('starlette_requests_total{status_code="%s"}', "500"),
    "caddy": ('caddy_http_request_duration_seconds_count{code="%s"}', "500"),
    "grpc": ('grpc_server_handled_total{grpc_method="Buy",grpc_code="%s"}', "Unavailable"),
    "otel-rpc": ('rpc_server_duration_milliseconds_count{rpc_grpc_status_code="%s"}', "14"),
}


@pytest.mark.parametrize("name", [row.name for row in PRESETS])
def test_every_preset_is_found_by_its_metrics_and_knows_its_failures(name: str) -> None:
    line, failed = PRESET_SAMPLES[name]
    endpoint = Endpoint()
    with structlog.testing.capture_logs() as logged:
        endpoint.shows(f"{line % '404'} 0", f"{line % failed} 0", f"{line % '0'} 0")
        events = endpoint.counts(f"{line % '404'} 5", f"{line % failed} 2", f"{line % '0'} 1")
    assert [(total, errors) for _, total, errors in events] == [(8.0, 2.0)]
    assert [(entry["event"], entry["preset"]) for entry in logged] == [("preset_chosen", name)]


def test_every_preset_has_its_latency_read_in_seconds() -> None:
    for row in PRESETS:
        if not row.latency:
            continue
        line, _ = PRESET_SAMPLES[row.name]
        only = "".join(f'{key}="{value}",' for key, value in row.only.items())
        endpoint = Endpoint(preset=row.name)
        endpoint.shows(f"{line % '200'} 0", *histogram(0, 0, 0, labels=only, name=row.latency[0]))
        events = endpoint.shows(f"{line % '200'} 2", *histogram(1, 2, 2, labels=only, name=row.latency[0]))
        found = buckets(events)[0][1]
        assert found == (
            {"0.0001": 1.0, "0.001": 2.0, "+Inf": 2.0} if row.scale == 0.001 else {"0.1": 1.0, "1": 2.0, "+Inf": 2.0}
        )


@pytest.mark.parametrize(
    "code", ["Unknown", "DeadlineExceeded", "Unimplemented", "Internal", "Unavailable", "DataLoss"]
)
def test_grpc_codes_that_blame_the_server_are_failures(code: str) -> None:
    endpoint = Endpoint()
    lines = [f'grpc_server_handled_total{{grpc_code="{name}"}}' for name in (code, "OK", "NotFound", "InvalidArgument")]
    endpoint.shows(*(f"{line} 0" for line in lines))
    assert endpoint.counts(*(f"{line} 1" for line in lines)) == [(None, 4.0, 1.0)]


def test_a_failed_grpc_call_through_istio_is_a_failure_though_its_http_status_is_200() -> None:
    endpoint = Endpoint()
    line = 'istio_requests_total{reporter="destination",response_code="200",grpc_response_status="14"}'
    endpoint.shows(f"{line} 0")
    assert endpoint.counts(f"{line} 1") == [(None, 1.0, 1.0)]


def test_what_a_sidecar_sends_out_is_not_what_the_service_answers() -> None:
    endpoint = Endpoint()
    line = 'istio_requests_total{reporter="%s",response_code="500"}'
    endpoint.shows(f"{line % 'source'} 0", f"{line % 'destination'} 0")
    assert endpoint.counts(f"{line % 'source'} 9", f"{line % 'destination'} 1") == [(None, 1.0, 1.0)]


def test_requests_without_a_status_are_not_taken_for_successes() -> None:
    """No status is no health: nothing is emitted, rather than an error ratio of zero."""
    endpoint = Endpoint()
    endpoint.shows('http_requests_total{handler="/"} 0')
    assert endpoint.counts('http_requests_total{handler="/"} 10') == []


def test_the_choice_of_preset_does_not_depend_on_the_order_of_lines() -> None:
    lines = [PRESET_SAMPLES["prometheus"][0] % "200" + " 1", PRESET_SAMPLES["otel"][0] % "200" + " 1"]
    for order in (lines, lines[::-1]):
        with structlog.testing.capture_logs() as logged:
            Endpoint().shows(*order)
        assert [entry["preset"] for entry in logged] == ["otel"]


def test_a_release_with_other_metric_names_is_followed() -> None:
    """The first preset stays while it is there; when its series are gone, another one takes its place."""
    endpoint = Endpoint()
    otel = PRESET_SAMPLES["otel"][0]
    endpoint.shows(f"{OK} 100")
    with structlog.testing.capture_logs() as logged:
        assert endpoint.counts(f"{otel % '200'} 5", f"{otel % '500'} 1") == [(None, 6.0, 1.0)]
    assert [entry["preset"] for entry in logged] == ["otel"]


def test_a_preset_that_appears_beside_the_chosen_one_changes_nothing() -> None:
    endpoint = Endpoint()
    endpoint.shows(f"{OK} 100")
    assert endpoint.counts(f"{OK} 101", PRESET_SAMPLES["otel"][0] % "200" + " 50") == [(None, 1.0, 0.0)]


def test_an_endpoint_without_known_metrics_is_pointed_out_once() -> None:
    endpoint = Endpoint()
    with structlog.testing.capture_logs() as logged:
        endpoint.shows("something_else 1")
        endpoint.shows("something_else 1")
    assert [entry["event"] for entry in logged] == ["no_request_metrics"]


def test_own_metric_names_take_the_presets_place() -> None:
    endpoint = Endpoint(
        metrics={
            "requests": {"metric": "orders_total", "where": {"kind": "web"}},
            "errors": {"metric": "orders_total", "where": {"kind": "web", "outcome": "failed|timeout"}},
            "latency": {"metric": "order_ms", "unit": "ms"},
        }
    )
    line = 'orders_total{kind="%s",outcome="%s"}'
    rows = [line % ("web", "ok"), line % ("web", "timeout"), line % ("batch", "failed")]
    endpoint.shows(*(f"{row} 0" for row in rows), f"{OK} 0", *histogram(0, 0, 0, name="order_ms"))
    events = endpoint.shows(*(f"{row} 2" for row in rows), f"{OK} 99", *histogram(1, 1, 1, name="order_ms"))
    assert counts(events) == [(None, 4.0, 2.0)]
    assert buckets(events) == [(None, {"0.0001": 1.0, "0.001": 1.0, "+Inf": 1.0})]


def test_errors_counted_apart_never_exceed_the_total() -> None:
    endpoint = Endpoint(metrics={"requests": "all_total", "errors": "bad_total"})
    endpoint.shows("all_total 10", "bad_total 0")
    assert endpoint.counts("all_total 11", "bad_total 3") == [(None, 3.0, 3.0)]


def test_the_operator_names_the_version_label() -> None:
    endpoint = Endpoint(version_label="release")
    line = 'http_requests_total{code="200",release="%s",version="schema-1"}'
    endpoint.shows(f"{line % 'a'} 0")
    assert endpoint.counts(f"{line % 'a'} 1", f"{line % ''} 2") == [(None, 2.0, 0.0), ("a", 1.0, 0.0)]


def test_only_matching_series_are_this_service() -> None:
    endpoint = Endpoint(match={"app": "shop"})
    line = 'http_requests_total{code="500",app="%s"}'
    endpoint.shows(f"{line % 'shop'} 0", f"{line % 'cart'} 0")
    assert endpoint.counts(f"{line % 'shop'} 1", f"{line % 'cart'} 100") == [(None, 1.0, 1.0)]


def test_gauges_are_levels_and_rates() -> None:
    endpoint = Endpoint()
    first = gauges(endpoint.shows(f"{OK} 1", "process_resident_memory_bytes 5e7", "process_cpu_seconds_total 100"))
    assert first == {("memory_bytes", None): 5e7}
    second = gauges(
        endpoint.shows(f"{OK} 1", "process_cpu_seconds_total 105", 'queue_length{q="a"} 3', 'queue_length{q="b"} 4')
    )
    assert second == {("cpu_cores", None): 0.5, ("queue_depth", None): 7.0}


def test_a_proxys_own_memory_is_not_the_services() -> None:
    endpoint = Endpoint()
    line = PRESET_SAMPLES["traefik"][0] % "200"
    assert gauges(endpoint.shows(f"{line} 1", "process_resident_memory_bytes 5e7")) == {}


def test_container_levels_are_used_only_where_they_can_be_told_apart() -> None:
    line = 'container_memory_working_set_bytes{pod="%s",container="app"} 7'
    assert gauges(Endpoint().shows(line % "shop", line % "cart")) == {}
    assert gauges(Endpoint(match={"pod": "shop"}).shows(line % "shop", line % "cart")) == {("memory_bytes", None): 7.0}


def test_a_gauge_that_is_no_number_is_dropped() -> None:
    endpoint = Endpoint()
    assert gauges(endpoint.shows("queue_depth NaN", "process_open_fds -1")) == {("open_fds", None): -1.0}
    assert endpoint.tally.dropped == {"not_a_number": 1}


def test_an_endless_version_name_is_cut_to_what_an_event_can_hold() -> None:
    endpoint = Endpoint()
    line = f'http_requests_total{{code="200",version="{"v" * 900}"}}'
    endpoint.shows(f"{line} 0")
    assert endpoint.counts(f"{line} 1") == [("v" * 500, 1.0, 0.0)]

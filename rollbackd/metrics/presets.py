"""Which metrics count requests, failures and time under the usual names: a table, and what a row means.

A failure is the server's: HTTP 5xx, and the gRPC codes that OpenTelemetry's conventions call errors of the server
(https://opentelemetry.io/docs/specs/semconv/rpc/grpc/). What the client did wrong counts as a success of the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from rollbackd.metrics.exposition import Series
from rollbackd.metrics.growth import START_TIME

HTTP_5XX = r"5(\d\d|[xX]{2}|)"
GRPC_NAMES = r"(?i)unknown|deadline_?exceeded|unimplemented|internal|unavailable|data_?loss"
GRPC_NUMBERS = "2|4|12|13|14|15"


@dataclass(frozen=True)
class Selection:
    """Series of one metric whose labels fully match regular expressions; a label that is absent reads as empty."""

    metric: str
    where: Mapping[str, re.Pattern[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, metric: str, where: Mapping[str, str] | None = None) -> Selection:
        return cls(metric, {label: re.compile(pattern) for label, pattern in (where or {}).items()})

    def fits(self, series: Series, suffix: str = "") -> bool:
        """Whether the series is selected, with `suffix` behind the metric's name."""
        return series.name == self.metric + suffix and self.holds(series)

    def holds(self, series: Series) -> bool:
        return all(pattern.fullmatch(series.labels.get(label, "")) for label, pattern in self.where.items())


@dataclass(frozen=True)
class Meaning:
    """What an endpoint's series stand for. `latency` are histograms, the first one present is used; `scale` makes
    their bounds seconds. `own_process` says that the endpoint is the service itself and not a proxy before it.
    """

    preset: str
    requests: Selection | None
    errors: tuple[Selection, ...] = ()
    latency: tuple[Selection, ...] = ()
    scale: float = 1.0
    version: tuple[str, ...] = ("version",)
    own_process: bool = True

    def with_version(self, label: str) -> Meaning:
        """The same, with versions told apart by that label alone."""
        return replace(self, version=(label,))


@runtime_checkable
class NamesMetrics(Protocol):
    """Settings of a source that say which metrics mean what."""

    @property
    def match(self) -> Mapping[str, str]:
        """Labels and their values that tell the service's series from others'."""

    def meanings(self) -> list[Meaning]:
        """What the series may stand for, in order of preference."""


@dataclass(frozen=True)
class Preset:
    """A row of the table.

    `requests` are counters in order of preference, and `status` the labels of which one tells the outcome, `failed`
    what it then reads for a failure (`also_failed`: what other labels read). `only` limits all of it by labels.
    """

    name: str
    requests: tuple[str, ...]
    status: tuple[str, ...]
    latency: tuple[str, ...]
    failed: str = HTTP_5XX
    also_failed: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    version: tuple[str, ...] = ("version",)
    own_process: bool = True

    def meanings(self) -> Iterator[Meaning]:
        """One for each pair of counter and status label, in order of preference."""
        for metric in self.requests:
            for label in self.status:
                failed = {label: self.failed}
                yield Meaning(
                    preset=self.name,
                    requests=Selection.of(metric, {label: ".+", **self.only}),
                    errors=tuple(
                        Selection.of(metric, {key: pattern, **self.only})
                        for key, pattern in {**failed, **self.also_failed}.items()
                    ),
                    latency=tuple(Selection.of(name, self.only) for name in self.latency),
                    scale=self.scale,
                    version=self.version,
                    own_process=self.own_process,
                )


_HTTP_STATUS = ("code", "status", "status_code", "http_status")
_OTEL_VERSION = ("version", "service_version")

PRESETS: tuple[Preset, ...] = (
    # Proxies first: their endpoints show the metrics of others beside process metrics of their own.
    Preset(
        "istio",
        ("istio_requests_total",),
        ("response_code",),
        ("istio_request_duration_milliseconds",),
        also_failed={"grpc_response_status": GRPC_NUMBERS},
        only={"reporter": "destination"},
        scale=0.001,
        version=("destination_version",),
        own_process=False,
    ),
    Preset(
        "ingress-nginx",
        ("nginx_ingress_controller_requests", "nginx_ingress_controller_requests_total"),
        ("status",),
        ("nginx_ingress_controller_request_duration_seconds",),
        own_process=False,
    ),
    Preset(
        "traefik",
        ("traefik_service_requests_total",),
        ("code",),
        ("traefik_service_request_duration_seconds",),
        own_process=False,
    ),
    Preset(
        "envoy",
        ("envoy_cluster_upstream_rq_xx", "envoy_cluster_upstream_rq_xx_total"),
        ("envoy_response_code_class",),
        ("envoy_cluster_upstream_rq_time",),
        scale=0.001,
        own_process=False,
    ),
    Preset(
        "haproxy",
        ("haproxy_backend_http_responses_total",),
        ("code",),
        (),
        own_process=False,
    ),
    Preset(
        "linkerd",
        ("response_total",),
        ("classification",),
        ("response_latency_ms",),
        failed="failure",
        only={"direction": "inbound"},
        scale=0.001,
        own_process=False,
    ),
    # Services themselves.
    Preset(
        "otel",
        ("http_server_request_duration_seconds_count",),
        ("http_response_status_code",),
        ("http_server_request_duration_seconds",),
        version=_OTEL_VERSION,
    ),
    Preset(
        "otel-old",
        ("http_server_duration_milliseconds_count",),
        ("http_status_code",),
        ("http_server_duration_milliseconds",),
        scale=0.001,
        version=_OTEL_VERSION,
    ),
    Preset(
        "micrometer",
        ("http_server_requests_seconds_count",),
        ("status",),
        ("http_server_requests_seconds",),
    ),
    Preset(
        "prometheus",
        ("http_requests_total",),
        _HTTP_STATUS,
        ("http_request_duration_seconds", "http_request_duration_highr_seconds"),
    ),
    Preset(
        "prometheus",
        ("http_request_duration_seconds_count",),
        _HTTP_STATUS,
        ("http_request_duration_seconds",),
    ),
    Preset("dotnet", ("http_requests_received_total",), ("code",), ("http_request_duration_seconds",)),
    Preset("flask", ("flask_http_request_total",), ("status",), ("flask_http_request_duration_seconds",)),
    Preset(
        "django",
        ("django_http_responses_total_by_status_total",),
        ("status",),
        ("django_http_requests_latency_including_middlewares_seconds",),
    ),
    Preset(
        "starlette",
        ("starlette_requests_total",),
        ("status_code",),
        ("starlette_request_duration_seconds",),
    ),
    Preset(
        "caddy",
        ("caddy_http_request_duration_seconds_count",),
        ("code",),
        ("caddy_http_request_duration_seconds",),
        own_process=False,
    ),
    Preset(
        "grpc",
        ("grpc_server_handled_total",),
        ("grpc_code",),
        ("grpc_server_handling_seconds",),
        failed=GRPC_NAMES,
    ),
    Preset(
        "otel-rpc",
        ("rpc_server_duration_milliseconds_count",),
        ("rpc_grpc_status_code",),
        ("rpc_server_duration_milliseconds",),
        failed=GRPC_NUMBERS,
        scale=0.001,
        version=_OTEL_VERSION,
    ),
)
"""`auto` takes the first row of which a series is present.

Documented at istio.io/latest/docs/reference/config/metrics, kubernetes.github.io/ingress-nginx/user-guide/monitoring,
doc.traefik.io/traefik/observability/metrics/overview, envoyproxy.io (cluster statistics; times in milliseconds),
linkerd.io/2-edge/reference/proxy-metrics, opentelemetry.io/docs/specs/semconv/http/http-metrics, Spring Boot's
`http.server.requests`, and the read-me files of the exporters and client libraries the other rows are named after.
"""

PRESET_NAMES: tuple[str, ...] = tuple(dict.fromkeys(row.name for row in PRESETS))


@dataclass(frozen=True)
class GaugeRow:
    """A level worth reporting: the name we give it, and where it is found.

    `rate` says that the metric is a counter whose growth per second is the level. `shared` marks metrics that speak
    of many services at once: they are used only where the configuration says `match`.
    """

    name: str
    source: Selection
    kind: Literal["level", "rate"] = "level"
    shared: bool = False


_CONTAINER = {"container": "(?!POD$).+"}

GAUGES: tuple[GaugeRow, ...] = (
    GaugeRow("memory_bytes", Selection.of("process_resident_memory_bytes")),
    GaugeRow("memory_bytes", Selection.of("container_memory_working_set_bytes", _CONTAINER), shared=True),
    GaugeRow("cpu_cores", Selection.of("process_cpu_seconds_total"), "rate"),
    GaugeRow("cpu_cores", Selection.of("container_cpu_usage_seconds_total", _CONTAINER), "rate", shared=True),
    GaugeRow("open_fds", Selection.of("process_open_fds")),
    GaugeRow("open_fds", Selection.of("process_files_open_files")),
    GaugeRow("start_time_seconds", Selection.of(START_TIME)),
    GaugeRow("goroutines", Selection.of("go_goroutines")),
    GaugeRow("heap_bytes", Selection.of("jvm_memory_used_bytes", {"area": "heap"})),
    GaugeRow("heap_bytes", Selection.of("nodejs_heap_size_used_bytes")),
    GaugeRow("heap_bytes", Selection.of("go_memstats_heap_inuse_bytes")),
    GaugeRow("eventloop_lag_seconds", Selection.of("nodejs_eventloop_lag_seconds")),
    GaugeRow("in_flight", Selection.of("http_requests_in_flight")),
    GaugeRow("in_flight", Selection.of("http_requests_in_progress")),
    GaugeRow("in_flight", Selection.of("http_requests_inprogress")),
    GaugeRow("in_flight", Selection.of("http_server_active_requests")),
    GaugeRow("pool_pending", Selection.of("hikaricp_connections_pending")),
    GaugeRow("queue_depth", Selection.of("queue_depth")),
    GaugeRow("queue_depth", Selection.of("queue_length")),
    GaugeRow("queue_depth", Selection.of("queue_size")),
    GaugeRow("queue_depth", Selection.of("jobs_queued")),
    GaugeRow("queue_depth", Selection.of("celery_queue_length")),
    GaugeRow("queue_depth", Selection.of("rq_jobs", {"status": "queued"})),
    GaugeRow("queue_depth", Selection.of("sidekiq_queue_backlog")),
)
"""Of rows with one name the first that is present is used; its series are added up."""

"""What the web application counts about itself, on the registry it is given."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Meter:
    """Requests by route and status; pushed events by what became of them. All labels are bounded in number."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "rollbackd_http_requests_total", "HTTP requests answered.", ["route", "method", "status"], registry=registry
        )
        self._turned_away = Counter(
            "rollbackd_http_connections_turned_away_total",
            "Connections that were told to come back, since their address had too many already.",
            registry=registry,
        )
        self._events = Counter(
            "rollbackd_intake_events_total",
            "Pushed events, by what became of them: accepted or duplicate.",
            ["intake", "result"],
            registry=registry,
        )
        self._dropped = Counter(
            "rollbackd_intake_dropped_total",
            "Pushed items left out, by reason.",
            ["intake", "reason"],
            registry=registry,
        )
        self._behind = Gauge(
            "rollbackd_intake_behind_seconds",
            "Age of the newest sample of the last delivery when it came.",
            ["intake"],
            registry=registry,
        )

    def turned_away(self) -> None:
        """Count a connection that was told to come back."""
        self._turned_away.inc()

    def request(self, route: str | None, method: str, status: int) -> None:
        """Count an answered request; `route` is the path's template, None where no route matched."""
        known = method if method in _METHODS else "other"
        self._requests.labels(route or "unmatched", known, str(status)).inc()

    def behind(self, intake: str, seconds: float) -> None:
        """Note how old the newest sample of a delivery was."""
        self._behind.labels(intake).set(seconds)

    def delivery(self, intake: str, accepted: int, duplicates: int, dropped: Mapping[str, int]) -> None:
        """Count what became of a delivery."""
        self._events.labels(intake, "accepted").inc(accepted)
        self._events.labels(intake, "duplicate").inc(duplicates)
        for reason, count in dropped.items():
            self._dropped.labels(intake, reason).inc(count)

"""Metrics, under CloudWatch's names and dimensions where AWS has one, in Prometheus' format.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-logging.html

What is counted is a plain number of this thread: prometheus-client's own counters lock, which is
a fifth of what a message may cost. The library names, checks and prints them when they are asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

# From an in-process handler to AWS's longest integration, 29 s.
_LATENCY_BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 29000)
_DIMENSIONS = ("ApiId", "Stage", "Route")

CALLBACKS = "@connections"
"""The `Route` of posts, which have none."""


class RouteMetrics:
    """What is counted of one route.

    Attributes:
        connect_count: Handshakes sent to `$connect`.
        message_count: Messages to or from clients.
        integration_error: Answers of 4xx or 5xx from the integration.
        client_error: Requests refused before the integration was called.
        execution_error: Failed calls of the integration.
    """

    __slots__ = (
        "_latency_counts",
        "_latency_sum_ms",
        "client_error",
        "connect_count",
        "execution_error",
        "integration_error",
        "message_count",
    )

    def __init__(self) -> None:
        self.connect_count = 0
        self.message_count = 0
        self.integration_error = 0
        self.client_error = 0
        self.execution_error = 0
        self._latency_counts = [0] * (len(_LATENCY_BUCKETS_MS) + 1)
        self._latency_sum_ms = 0.0

    def integration_took(self, latency_ms: float) -> None:
        """Count a call of the integration."""
        self._latency_counts[bisect_left(_LATENCY_BUCKETS_MS, latency_ms)] += 1
        self._latency_sum_ms += latency_ms

    def latency_histogram(self) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets and the sum, as Prometheus has them."""
        bounds = [*map(float, _LATENCY_BUCKETS_MS), float("inf")]
        names = ["+Inf" if bound == float("inf") else str(bound) for bound in bounds]
        return list(zip(names, accumulate(self._latency_counts), strict=True)), self._latency_sum_ms


_COUNTERS = {
    "connect_count": ("ConnectCount", "Handshakes sent to $connect."),
    "message_count": ("MessageCount", "Messages to or from clients."),
    "integration_error": ("IntegrationError", "Answers of 4xx or 5xx from integrations."),
    "client_error": ("ClientError", "Requests refused before an integration was called."),
    "execution_error": ("ExecutionError", "Failed calls of integrations."),
}


class Metrics(Collector):
    """All metrics of one gateway.

    Args:
        api_id: The `ApiId` dimension.

    Attributes:
        replies_dropped: Replies and error frames that could not be sent, by error type.
    """

    def __init__(self, api_id: str) -> None:
        self._api_id = api_id
        self._routes: dict[tuple[str, str], RouteMetrics] = {}
        self.replies_dropped: Counter[str] = Counter()
        self._counters_elsewhere: list[tuple[str, str, Callable[[], float]]] = []
        self._infos: list[tuple[str, str, Callable[[], dict[str, str]]]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def route(self, stage: str, route_key: str) -> RouteMetrics:
        """Return the counters of a route.

        Args:
            stage: Empty before a stage is known.
            route_key: Of a route that exists; a client must not be able to make series.
        """
        metrics = self._routes.get((stage, route_key))
        if metrics is None:
            metrics = self._routes[stage, route_key] = RouteMetrics()
        return metrics

    def gauge(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when metrics are asked for."""
        Gauge(name, documentation, registry=self._registry).set_function(value)

    def counter(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Add a counter that is kept elsewhere and read when metrics are asked for."""
        self._counters_elsewhere.append((name, documentation, value))

    def info(self, name: str, documentation: str, labels: Callable[[], dict[str, str]]) -> None:
        """Add labels that tell what this is, read when metrics are asked for."""
        self._infos.append((name, documentation, labels))

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted so far."""
        for attribute, (name, documentation) in _COUNTERS.items():
            counter = CounterMetricFamily(name, documentation, labels=_DIMENSIONS)
            for (stage, route_key), metrics in self._routes.items():
                counter.add_metric((self._api_id, stage, route_key), getattr(metrics, attribute))
            yield counter
        latency = HistogramMetricFamily(
            "IntegrationLatency",
            "Milliseconds from calling an integration to its answer.",
            labels=_DIMENSIONS,
        )
        for (stage, route_key), metrics in self._routes.items():
            buckets, sum_ms = metrics.latency_histogram()
            latency.add_metric((self._api_id, stage, route_key), buckets, sum_ms)
        yield latency
        dropped = CounterMetricFamily(
            "wsgateway_replies_dropped",
            "Replies and error frames that their client could not be sent.",
            labels=("reason",),
        )
        for reason, count in self.replies_dropped.items():
            dropped.add_metric((reason,), count)
        yield dropped
        for name, documentation, value in self._counters_elsewhere:
            yield CounterMetricFamily(name, documentation, value=value())
        for name, documentation, labels in self._infos:
            yield InfoMetricFamily(name, documentation, value=labels())

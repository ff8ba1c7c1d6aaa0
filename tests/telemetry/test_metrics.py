"""What is counted, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from wsgateway.telemetry.metrics import Metrics

Series = tuple[str, tuple[tuple[str, str], ...]]


def samples(metrics: Metrics) -> dict[Series, float]:
    """Return every sample of the page by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def series(name: str, stage: str, route: str, **more: str) -> Series:
    labels = {"ApiId": "abcde12345", "Stage": stage, "Route": route, **more}
    return name, tuple(sorted(labels.items()))


def test_nothing_counted_is_a_page_all_the_same() -> None:
    assert samples(Metrics("abcde12345")) == {}


def test_counters_have_the_names_and_dimensions_of_cloudwatch() -> None:
    metrics = Metrics("abcde12345")
    connect = metrics.route("dev", "$connect")
    connect.connect_count += 1
    connect.integration_error += 2
    connect.client_error += 3
    connect.execution_error += 4
    metrics.route("dev", "join").message_count += 5

    page = samples(metrics)

    assert page[series("ConnectCount_total", "dev", "$connect")] == 1
    assert page[series("IntegrationError_total", "dev", "$connect")] == 2
    assert page[series("ClientError_total", "dev", "$connect")] == 3
    assert page[series("ExecutionError_total", "dev", "$connect")] == 4
    assert page[series("MessageCount_total", "dev", "join")] == 5


def test_a_route_has_one_set_of_counters() -> None:
    metrics = Metrics("abcde12345")

    assert metrics.route("dev", "join") is metrics.route("dev", "join")
    assert metrics.route("dev", "join") is not metrics.route("prod", "join")


def test_latencies_fall_into_buckets_up_to_the_longest_integration() -> None:
    metrics = Metrics("abcde12345")
    route = metrics.route("dev", "join")
    for latency_ms in (0.5, 1.0, 1.5, 29_000.0, 30_000.0):
        route.integration_took(latency_ms)

    page = samples(metrics)

    def bucket(le: str) -> float:
        return page[series("IntegrationLatency_bucket", "dev", "join", le=le)]

    assert [bucket(le) for le in ("1.0", "2.0", "10000.0", "29000.0", "+Inf")] == [2, 3, 3, 4, 5]
    assert page[series("IntegrationLatency_count", "dev", "join")] == 5
    assert page[series("IntegrationLatency_sum", "dev", "join")] == 59_003


def test_names_of_routes_are_escaped() -> None:
    metrics = Metrics("abcde12345")
    route = 'a"b\\c\nd é'
    metrics.route("dev", route).message_count += 1

    assert samples(metrics)[series("MessageCount_total", "dev", route)] == 1


def test_dropped_replies_are_counted_by_their_reason() -> None:
    metrics = Metrics("abcde12345")
    metrics.replies_dropped["GoneException"] += 2

    name = ("wsgateway_replies_dropped_total", (("reason", "GoneException"),))
    assert samples(metrics)[name] == 2


def test_a_gauge_is_read_when_it_is_asked_for() -> None:
    metrics = Metrics("abcde12345")
    value = 1
    metrics.gauge("wsgateway_connections", "Open connections.", lambda: value)

    value = 7

    assert samples(metrics)[("wsgateway_connections", ())] == 7


def test_two_gateways_in_a_process_count_for_themselves() -> None:
    one, other = Metrics("abcde12345"), Metrics("abcde12345")
    one.route("dev", "join").message_count += 1

    assert samples(other) == {}

"""The manifests say of the gateway what is true of it; no cluster is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from wsgateway.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
# What a cluster puts in place of references.
POD_IP = "10.0.0.7"
CONNECTIONS = 10_000  # of a node that has to close all of them


def manifests() -> dict[tuple[str, str], Any]:
    """Return every object by kind and name."""
    documents = [
        document
        for file in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["Deployment", "wsgateway"]["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    [gateway] = pod()["containers"]
    found: dict[str, Any] = gateway
    return found


def settings() -> Settings:
    """Return the settings of a node: the image's variables, and the manifest's."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    variables = dict(re.findall(r"(WSGATEWAY_\w+)=(\S+)", text))
    for variable in container()["env"]:
        match variable:
            case {"name": name, "value": str(value)}:
                variables[name] = value
            case {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}:
                variables[name] = POD_IP
            case {"name": name, "valueFrom": {"secretKeyRef": {"optional": True}}}:
                variables[name] = "from the secret"
            case other:
                raise AssertionError(other)
    found, faults = load_settings({}, variables, None)
    assert faults == []
    return found


def test_variables_are_settings_and_bind_callbacks_to_the_address_of_the_pod() -> None:
    found = settings()

    assert (found.host, found.port) == ("0.0.0.0", 8080)
    assert (found.management_host, found.management_port) == (POD_IP, 8081)
    assert found.insecure_callbacks


def test_variables_of_other_services_stay_out() -> None:
    """A service `wsgateway-management` would set variables that look like settings."""
    assert pod()["enableServiceLinks"] is False


def test_ports_are_those_that_the_gateway_listens_on() -> None:
    found = settings()
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}

    assert ports == {"clients": found.port, "management": found.management_port}


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("startupProbe", {"path": "/_wsgateway/health", "port": "clients"}),
        ("readinessProbe", {"path": "/_wsgateway/health", "port": "clients"}),
        ("livenessProbe", {"path": "/_wsgateway/metrics", "port": "management"}),
    ],
)
def test_probes_ask_what_the_gateway_answers(probe: str, expected: dict[str, str]) -> None:
    assert container()[probe]["httpGet"] == expected


def test_a_stop_is_seen_before_connections_are_closed() -> None:
    probe = container()["readinessProbe"]
    seen_after_s = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]

    assert settings().drain_delay_s > seen_after_s
    assert "lifecycle" not in container()


def test_a_stop_has_the_time_that_it_takes() -> None:
    found = settings()
    takes_s = (
        found.drain_delay_s
        + CONNECTIONS / found.drain_close_rate
        + found.grace_period_s
        + found.lease_s
    )

    assert pod()["terminationGracePeriodSeconds"] > takes_s


def test_a_rollout_takes_no_node_before_there_is_another() -> None:
    deployment = manifests()["Deployment", "wsgateway"]["spec"]
    budget = manifests()["PodDisruptionBudget", "wsgateway"]["spec"]

    assert deployment["replicas"] > 1
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert budget["maxUnavailable"] == 1


def test_the_user_is_the_image_s_and_may_do_nothing_more() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [(user, group)] = re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE)

    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] == int(user)
    assert pod()["securityContext"]["runAsGroup"] == int(group)
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_node_has_no_limit_of_cpu() -> None:
    assert container()["resources"]["limits"].keys() == {"memory"}


def test_everything_that_selects_pods_selects_those_that_there_are() -> None:
    found = manifests()
    labels = {
        name: document["spec"]["template"]["metadata"]["labels"]
        for (kind, name), document in found.items()
        if kind == "Deployment"
    }
    of = {"wsgateway-management": "wsgateway"}

    for (kind, name), document in found.items():
        spec = document["spec"]
        match kind:
            case "Service":
                selected = spec["selector"]
            case "NetworkPolicy":
                selected = spec["podSelector"]["matchLabels"]
            case _:
                selected = spec["selector"]["matchLabels"]
        assert selected == labels[of.get(name, name)], (kind, name)


@pytest.mark.parametrize(
    ("service", "deployment"),
    [("wsgateway", "wsgateway"), ("wsgateway-management", "wsgateway"), ("valkey", "valkey")],
)
def test_services_lead_to_ports_that_there_are(service: str, deployment: str) -> None:
    found = manifests()
    [container] = found["Deployment", deployment]["spec"]["template"]["spec"]["containers"]
    names = {port["name"] for port in container["ports"]}

    assert {port["targetPort"] for port in found["Service", service]["spec"]["ports"]} <= names


def test_the_management_service_is_inside_the_cluster_and_for_labelled_pods() -> None:
    found = manifests()
    service = found["Service", "wsgateway-management"]["spec"]
    rules = found["NetworkPolicy", "wsgateway"]["spec"]["ingress"]
    senders = {port["port"]: rule.get("from") for rule in rules for port in rule["ports"]}

    assert service["type"] == "ClusterIP"
    assert [port["targetPort"] for port in service["ports"]] == ["management"]
    assert senders == {
        "clients": None,
        "management": [{"podSelector": {"matchLabels": {"wsgateway/callbacks": "true"}}}],
    }


def test_redis_is_the_service_that_is_there() -> None:
    assert settings().redis is not None
    where = urlsplit(settings().redis)
    [port] = manifests()["Service", "valkey"]["spec"]["ports"]

    assert (where.scheme, where.hostname, where.port) == ("redis", "valkey", port["port"])

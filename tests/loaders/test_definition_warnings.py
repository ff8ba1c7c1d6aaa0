"""What a definition declares without effect: served all the same, and told with its line."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.loaders.files import HANDLER, write
from wsgateway.errors import OperatorFaults
from wsgateway.loaders.file import open_source

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from pathlib import Path

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:send"
QUEUE = "arn:aws:apigateway:us-east-1:sqs:action/SendMessage"
OF_THE_CONNECTION = "it is about the connection or the length of the body"
OF_SIGNATURES = "requests to AWS are signed, and it belongs to that"


HTTP = ("integrationType: HTTP_PROXY", "integrationUri: http://h/")
AWS = ("integrationType: AWS", f"integrationUri: {QUEUE}", "integrationResponses: {$default: {}}")
AWS_PROXY = ("integrationType: AWS_PROXY", f"integrationUri: {FUNCTION}")


def definition(integration: Sequence[str], *parameters: str) -> str:
    """Return one with an integration whose last lines map these parameters."""
    lines = [
        "routes: {r: {target: i}}",
        "integrations:",
        "  i:",
        *(f"    {line}" for line in (*integration, "integrationMethod: POST")),
        "    requestParameters:",
        *(f"      {parameter}" for parameter in parameters),
    ]
    return "\n".join([*lines, ""])


def warnings(folder: Path, document: str) -> list[str]:
    write(folder, {"api.yaml": document})
    with closing(open_source(folder / "api.yaml")) as source, capture_logs() as logs:
        source.load()
    return told(folder, logs)


def told(folder: Path, logs: Sequence[MutableMapping[str, Any]]) -> list[str]:
    assert {line["event"] for line in logs} <= {"a declaration is without effect"}
    assert {line["log_level"] for line in logs} <= {"warning"}
    return [
        f"{line['place'].removeprefix(f'{folder}/')}: {line['problem']}; {line['remedy']}"
        for line in logs
    ]


def not_sent(line: int, name: str, why: str) -> str:
    parameter = f"integrations.i.requestParameters.integration.request.header.{name}"
    return f"api.yaml:{line}: {parameter} is not sent: {why}; remove it"


@pytest.mark.parametrize("integration", [HTTP, AWS])
@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "content-length",
        "Expect",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "UPGRADE",
    ],
)
def test_a_header_of_the_connection(tmp_path: Path, integration: Sequence[str], name: str) -> None:
    document = definition(
        integration,
        "integration.request.header.a: context.connectionId",
        f"integration.request.header.{name}: \"'5'\"",
    )
    line = document.count("\n")

    assert warnings(tmp_path, document) == [not_sent(line, name, OF_THE_CONNECTION)]


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Date",
        "Host",
        "X-Amz-Content-SHA256",
        "X-Amz-Date",
        "X-Amz-Security-Token",
    ],
)
def test_a_header_of_a_signature(tmp_path: Path, name: str) -> None:
    parameter = f"integration.request.header.{name}: \"'5'\""

    assert warnings(tmp_path, definition(AWS, parameter)) == [not_sent(9, name, OF_SIGNATURES)]
    assert warnings(tmp_path, definition(HTTP, parameter)) == []


def test_a_parameter_of_another_kind_may_have_such_a_name(tmp_path: Path) -> None:
    parameter = "integration.request.querystring.Connection: context.connectionId"

    assert warnings(tmp_path, definition(HTTP, parameter)) == []


def test_parameters_of_a_function_that_gets_the_event(tmp_path: Path) -> None:
    document = definition(
        AWS_PROXY,
        "integration.request.header.Connection: context.connectionId",
        "integration.request.header.a: context.connectionId",
    )

    assert warnings(tmp_path, document) == [
        (
            "api.yaml:7: integrations.i.requestParameters is without effect: AWS_PROXY sends the "
            "event alone; remove it, or write integrationType: AWS"
        )
    ]


def test_a_warning_is_told_once_and_again_when_it_has_been_gone(tmp_path: Path) -> None:
    connection = "integration.request.header.Connection: \"'5'\""
    document = definition(HTTP, connection)
    write(tmp_path, {"api.yaml": document})
    with closing(open_source(tmp_path / "api.yaml")) as source, capture_logs() as logs:
        source.load()
        source.reload()
        assert len(logs) == 1
        write(tmp_path, {"api.yaml": definition(HTTP, connection.replace("Conn", "X-Conn"))})
        source.reload()
        assert len(logs) == 1
        write(tmp_path, {"api.yaml": document})
        source.reload()

    assert told(tmp_path, logs) == [not_sent(8, "Connection", OF_THE_CONNECTION)] * 2


def test_a_definition_with_faults_tells_only_those(tmp_path: Path) -> None:
    document = definition(HTTP, "integration.request.header.TE: \"'5'\"")
    write(tmp_path, {"api.yaml": document + "models: {a-b: {schema: {}}}\n"})
    with (
        closing(open_source(tmp_path / "api.yaml")) as source,
        capture_logs() as logs,
        pytest.raises(OperatorFaults),
    ):
        source.load()

    assert logs == []


def test_a_folder_of_handlers_tells_of_its_definition(tmp_path: Path) -> None:
    document = definition(HTTP, "integration.request.header.TE: \"'5'\"")
    write(tmp_path, {"api.yaml": document, "join.py": HANDLER})
    with closing(open_source(tmp_path)) as source, capture_logs() as logs:
        source.load()

    assert [line["place"] for line in logs] == [f"{tmp_path}/api.yaml:8"]

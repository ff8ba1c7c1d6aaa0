"""`wsgateway validate` and `wsgateway invoke`, run as commands."""

from __future__ import annotations

import json
import re
import subprocess
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.e2e.process import COMMAND, bare_environ

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

DEFINITION = """
    name: chat
    integrations:
      pong:
        integrationType: MOCK
        requestTemplates: {$default: '{"statusCode": 200}'}
        integrationResponses:
          $default: {responseTemplates: {$default: '{"pong": "$context.stage"}'}}
      teapot:
        integrationType: MOCK
        requestTemplates: {$default: '{"statusCode": 418}'}
        integrationResponses: {/418/: {}}
      local: {integrationType: AWS_PROXY, integrationUri: "python:_local.handler"}
      down: {integrationType: HTTP_PROXY, integrationMethod: POST, integrationUri: "http://127.0.0.1:9/"}
    models:
      text: {contentType: application/json, schema: {type: object, required: [text]}}
    routes:
      $connect: {target: local}
      $disconnect: {target: local}
      ping: {target: pong, routeResponseSelectionExpression: $default}
      quiet: {target: pong}
      closed: {target: teapot}
      local: {target: local, routeResponseSelectionExpression: $default}
      down: {target: down}
      checked:
        target: pong
        modelSelectionExpression: $default
        requestModels: {$default: text}
    stages:
      dev: {stageVariables: {colour: red}}
      prod: {}
"""
LOCAL = """
    def handler(event, context):
        query = event.get("queryStringParameters") or {}
        return {
            "statusCode": int(query.get("status", 200)),
            "headers": {"Sec-WebSocket-Protocol": "v1"},
            "body": event["requestContext"]["eventType"] + " " + event.get("body", ""),
        }
"""
IDS = re.compile(r'"(connectionId|requestId)":"[A-Za-z0-9_-]{15}="')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "api.yaml").write_text(dedent(DEFINITION), encoding="utf-8")
    (tmp_path / "_local.py").write_text(dedent(LOCAL), encoding="utf-8")
    return tmp_path / "api.yaml"


def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Return exit code, output and errors."""
    ran = subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=bare_environ(folder) | variables,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


def test_validate_prints_what_would_be_served(file: Path) -> None:
    code, output, errors = run(file.parent, "validate", "api.yaml")

    assert (code, errors) == (0, "")
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert lines[0] == "chat: 8 routes, 2 stages"
    assert "ping two-way pong MOCK" in lines
    assert "local two-way local AWS_PROXY python:_local.handler" in lines
    assert "dev ws://127.0.0.1:8080/dev" in lines
    assert "prod ws://127.0.0.1:8080/prod" in lines


@pytest.mark.parametrize(
    ("host", "authority"),
    [("0.0.0.0", "127.0.0.1:8080"), ("::", "[::1]:8080"), ("2001:db8::7", "[2001:db8::7]:8080")],
)
def test_validate_prints_urls_that_a_client_can_use(file: Path, host: str, authority: str) -> None:
    """As the ready line of `serve` does; the image listens on every address."""
    listening = {"WSGATEWAY_HOST": host, "WSGATEWAY_INSECURE_CALLBACKS": "true"}

    code, output, _ = run(file.parent, "validate", "api.yaml", **listening)

    assert code == 0
    assert re.findall(r"ws://\S+", output) == [f"ws://{authority}/dev", f"ws://{authority}/prod"]


def test_validate_tells_every_fault_with_its_line(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    text = text.replace("target: teapot", "target: kettle").replace("MOCK", "MOCKED", 1)
    file.write_text(text, encoding="utf-8")

    code, output, errors = run(file.parent, "validate", "api.yaml")

    assert (code, output) == (2, "")
    places = [line.split(": ", 1)[0] for line in errors.splitlines()]
    assert places == ["api.yaml:5", "api.yaml:22"], errors


def test_validate_takes_a_folder_of_handlers_too(tmp_path: Path) -> None:
    (tmp_path / "default.py").write_text("def handler(event, context): ...\n", encoding="utf-8")

    code, output, _ = run(tmp_path, "validate", ".")

    assert code == 0
    assert "$default" in output


def test_a_path_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    for command in (["validate", "nowhere.yaml"], ["invoke", "nowhere.yaml", "x"]):
        code, output, errors = run(tmp_path, *command)
        assert (code, output) == (2, "")
        assert errors.startswith("nowhere.yaml:1: cannot be read"), errors


def test_invoke_shows_what_a_client_would_get(file: Path) -> None:
    assert run(file.parent, "invoke", "api.yaml", "ping", "--body", "{}") == (
        0,
        'The client gets:\n{"pong": "dev"}\n',
        "",
    )
    _, output, _ = run(file.parent, "invoke", "api.yaml", "ping", "--stage", "prod")
    assert output.endswith('{"pong": "prod"}\n')
    _, output, _ = run(file.parent, "invoke", "api.yaml", "quiet")
    assert output == "The client gets nothing: the route is one-way.\n"


def test_invoke_shows_what_a_function_gets_and_returns(file: Path) -> None:
    (file.parent / "message.txt").write_text("hällo", encoding="utf-8")

    code, output, errors = run(
        file.parent, "invoke", "api.yaml", "local", "--body-file", "message.txt"
    )

    assert (code, errors) == (0, "")
    event, _, rest = output.removeprefix("The function gets:\n").partition(
        "The function returns:\n"
    )
    assert json.loads(event)["body"] == "hällo"
    assert json.loads(event)["stageVariables"] == {"colour": "red"}
    result, _, frame = rest.partition("The client gets:\n")
    assert json.loads(result)["body"] == "MESSAGE hällo"
    assert frame == "MESSAGE hällo\n"


def test_invoke_runs_connect_and_disconnect(file: Path) -> None:
    code, output, _ = run(
        file.parent,
        *("invoke", "api.yaml", "$connect", "--header", "X-Token: abc", "--query", "status=204"),
    )
    assert code == 0
    assert '"X-Token": "abc"' in output
    assert output.endswith("The client gets 101, subprotocol v1.\n")

    code, output, _ = run(file.parent, "invoke", "api.yaml", "$connect", "--query", "status=403")
    assert code == 0
    assert output.endswith("The client gets 403.\n")

    code, output, _ = run(file.parent, "invoke", "api.yaml", "$disconnect")
    assert code == 0
    assert '"eventType": "DISCONNECT"' in output
    assert output.endswith("The client is gone and gets nothing.\n")


def test_invoke_ends_with_1_when_the_client_would_get_an_error(file: Path) -> None:
    code, output, errors = run(file.parent, "invoke", "api.yaml", "down", "--body", "hi")

    assert code == 1
    assert output.startswith("The backend gets:\nPOST http://127.0.0.1:9/\n")
    assert "\n\nhi\nThe client gets:\n" in output
    assert IDS.sub(r'"\1":"..."', output.splitlines()[-1]) == (
        '{"message": "Network error communicating with endpoint", '
        '"connectionId":"...", "requestId":"..."}'
    )
    assert "integration failed" in errors

    code, output, _ = run(file.parent, "invoke", "api.yaml", "checked", "--body", "{}")
    assert code == 1
    assert '{"message": "Invalid request body"' in output


def test_invoke_refuses_what_it_cannot_do(file: Path) -> None:
    code, _, errors = run(file.parent, "invoke", "api.yaml", "nope")
    assert code == 2
    assert errors.startswith(
        "ROUTE: there is no route 'nope'; there is $connect, $disconnect, ping"
    )

    code, _, errors = run(file.parent, "invoke", "api.yaml", "ping", "--body-file", "nowhere")
    assert (code, errors[:30]) == (2, "--body-file: cannot be read: [")

    code, _, errors = run(file.parent, "invoke", "api.yaml", "$connect", "--header", "X-Token")
    assert (code, errors) == (2, "--header: got 'X-Token'; write Name:value\n")

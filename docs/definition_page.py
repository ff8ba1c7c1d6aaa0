"""Writes docs/definition.md and docs/api.schema.json from the code: `python docs/definition_page.py`."""

from __future__ import annotations

import json
from enum import EnumType
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from wsgateway.api.definition import (
    ApiDefinition,
    IntegrationDefinition,
    IntegrationResponseDefinition,
    ModelDefinition,
    RouteDefinition,
    RouteSettings,
    StageDefinition,
)
from wsgateway.api.schema import json_schema

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = Path(__file__).with_name("definition.md")
SCHEMA = Path(__file__).with_name("api.schema.json")

_HEAD = """\
# The definition file

Written from the code by `make docs`.

One file declares an API: its routes, what serves them, its stages. It is what API Gateway's own API
takes, in that API's property names, with names where API Gateway has ids. No Python is needed.

```yaml
name: chat
routeSelectionExpression: $request.body.action
integrations:
  backend:
    integrationType: HTTP_PROXY
    integrationMethod: POST
    integrationUri: http://127.0.0.1:3000/ws/${stageVariables.version}
    requestParameters: {integration.request.header.connectionId: context.connectionId}
  pong:
    integrationType: MOCK
    requestTemplates: {$default: '{"statusCode": 200}'}
    integrationResponses:
      $default: {responseTemplates: {$default: '{"pong": "$context.connectionId"}'}}
  send: {integrationType: AWS_PROXY, integrationUri: "arn:aws:lambda:us-east-1:123456789012:function:send"}
  local: {integrationType: AWS_PROXY, integrationUri: "python:_local.handler"}     # in process: _local.py beside this file
models:
  message: {contentType: application/json, schema: {type: object, required: [text]}}
routes:
  $connect: {target: backend}
  $default: {target: backend, routeResponseSelectionExpression: $default}
  ping: {target: pong, routeResponseSelectionExpression: $default}
  send: {target: send, modelSelectionExpression: $default, requestModels: {$default: message}}
stages:
  dev: {stageVariables: {version: v1}, routeSettings: {send: {throttlingRateLimit: 10, throttlingBurstLimit: 5}}}
```

With a `_local.py` beside it that defines `handler(event, context)`, this is checked without being
served by

```console
$ wsgateway validate api.yaml
chat: 4 routes, 1 stage

route     replies  served by
$connect  -        backend HTTP_PROXY POST http://127.0.0.1:3000/ws/${stageVariables.version}
$default  two-way  backend HTTP_PROXY POST http://127.0.0.1:3000/ws/${stageVariables.version}
ping      two-way  pong MOCK
send      -        send AWS_PROXY arn:aws:lambda:us-east-1:123456789012:function:send

stage  URL
dev    ws://127.0.0.1:8080/dev
```

and served by `wsgateway serve api.yaml`.

## Which file

| `wsgateway serve` | Routes |
| --- | --- |
| a file, `.yaml`, `.yml` or `.json` | those it declares. One without a `target` is served by the handler's file of its name beside it, such as `join.py` or `connect.py`; other files are no routes |
| a [folder of handlers](handlers.md) | those of its files, and those that its `api.yaml` declares. A route has a target or a file, not both |

`python:_local.handler` is what `_local.py` defines as `handler`; the name after the last dot may be
any. Dots before it are folders, as in an `import`: `python:lib.rooms.on_join` is in `lib/rooms.py`.
With `--reload`, changes of the file and of what it names are served as soon as they are saved.

A `.json` file is read as JSON, any other as YAML 1.1. Keys are taken as they are written, so that
`on`, `1` and `$default` need no quotes. Values do where YAML takes them for something else: `"1.0"`,
`"OFF"`, `"yes"`.

## In an editor

[`api.schema.json`](api.schema.json) is a JSON Schema of draft 7, for completion and for checks while
you type. In YAML the first line names it, in JSON a property does:

```yaml
# yaml-language-server: $schema=https://example.com/api.schema.json
```

```json
{"$schema": "api.schema.json", "name": "chat"}
```

## Faults

Everything that is wrong is told at once, each with its line, what is wrong and what would be right,
and ends with exit code 2. Where API Gateway has a text for a fault, it is used.

```yaml
name: chat
integrations:
  backend: {integrationType: HTTP_PROXY, integrationUri: "http://127.0.0.1:3000/", timeoutInMillis: 30000}
  audit: {integrationType: HTTP_PROXY, integrationUri: "http://${stageVariables.host}/"}
routes:
  $connect: {target: bakend}
  send: {target: audit, requestModel: {$default: message}}
stages:
  dev: {routeSettings: {sent: {throttlingRateLimit: 10}}}
```

```console
$ wsgateway validate api.yaml
api.yaml:3: integrations.backend.timeoutInMillis: Timeout should be between 50 ms and 29000 ms; write a number in between, not 30000
api.yaml:4: integrations.audit.integrationMethod: HttpMethod parameter method must be specified for integrationType HTTPPROXY; add integrationMethod: POST
api.yaml:6: routes.$connect.target: there is no integration 'bakend'; did you mean backend?
api.yaml:7: routes.send.requestModel is not known here; did you mean requestModels?
api.yaml:9: stages.dev.stageVariables: there is no stage variable host, which integrations.audit.integrationUri refers to; add it
api.yaml:9: stages.dev.routeSettings.sent: Unable to find Route by key sent within the provided RouteSettings; did you mean send?
```

What API Gateway takes and the gateway does not serve yet is refused as such: authorizers, API keys,
`authorizationType` other than `NONE`, `VPC_LINK`, access log formats. So is what would do nothing
although it looks as if it did: templates of a proxy integration, `requestModels` without
`modelSelectionExpression`, header parameters on routes that have no headers. Integrations and models
that no route uses are fine.

## What can be declared

Types are those of JSON. A property that is left out has its default.
"""

_SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("The file", ApiDefinition, "An [Api](https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid.html) and what belongs to it."),
    ("`integrations.NAME`", IntegrationDefinition, "An [Integration](https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-integrations-integrationid.html)."),
    ("`integrations.NAME.integrationResponses.KEY`", IntegrationResponseDefinition, "An [IntegrationResponse](https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-integrations-integrationid-integrationresponses-integrationresponseid.html)."),
    ("`models.NAME`", ModelDefinition, "A [Model](https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-models-modelid.html)."),
    ("`routes.KEY`", RouteDefinition, "A [Route](https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-routes-routeid.html), and its RouteResponse. Each of `requestParameters` is `{required: true}` or `{required: false}`."),
    ("`stages.NAME`", StageDefinition, "A [Stage](https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-stages-stagename.html). Without any stage there is `dev`."),
    ("`stages.NAME.defaultRouteSettings`, `stages.NAME.routeSettings.KEY`", RouteSettings, "Read and checked; throttles are not applied yet."),
)  # fmt: skip

_TAIL = """\

## Types of integrations

| | `AWS_PROXY` | `AWS` | `HTTP_PROXY` | `HTTP` | `MOCK` |
| --- | --- | --- | --- | --- | --- |
| `integrationUri` | a function | a function, or an action of a service | a URL | a URL | none |
| `integrationMethod` | `POST` | `POST` for functions, required for actions | required | required | none |
| `requestTemplates` | none | optional | none | optional | required |
| `integrationResponses` | none | required | none | required | optional |
| `requestParameters` | for functions on AWS | for functions and actions on AWS | yes | yes | none |
| `credentialsArn` | for functions on AWS | for functions and actions on AWS | none | none | none |

A path parameter has its place in the URI in braces, and each place has a parameter:
`http://127.0.0.1:3000/rooms/{room}` with
`integration.request.path.room: route.request.body.room`.

Keys of `integrationResponses` are matched in linear time by RE2, whose expressions are nearly
Java's. What looks around, refers to a group or is possessive is refused.

## Models

Schemas are of [draft 4](https://json-schema.org/draft-04), have at most 32,768 characters as JSON,
and are never fetched from anywhere. Messages are checked as strict JSON that nests up to 32 deep;
those that do not fit get the frame `Invalid request body`, and the integration is not asked.
A `pattern` that looks around or refers to a group is given up after some steps, and then does not
match.
"""


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(map(_section, *zip(*_SECTIONS, strict=True))) + _TAIL


def schema() -> str:
    """Return the schema's file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _section(title: str, model: type[BaseModel], text: str) -> str:
    rows = [
        f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {field.description} |"
        for name, field in model.model_fields.items()
    ]
    head = "| Property | Type | Default | |\n| --- | --- | --- | --- |\n"
    return f"\n### {title}\n\n{text}\n\n{head}" + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        return "`{}`"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _type(field: FieldInfo) -> str:
    return _type_name(field.annotation)


def _type_name(annotation: Any) -> str:
    names = {str: "text", int: "integer", float: "number", bool: "boolean"}
    if annotation in names:
        return names[annotation]
    if isinstance(annotation, EnumType):
        return ", ".join(f"`{name}`" for name in annotation.__members__)
    origin = get_origin(annotation) or annotation
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin is Annotated:
        return _type_name(arguments[0])
    if isinstance(origin, type) and issubclass(origin, dict | BaseModel):
        return "mapping"
    return " or ".join(dict.fromkeys(map(_type_name, arguments)))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")

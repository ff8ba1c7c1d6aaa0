"""What a mapping template sees of a request and of a backend's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from wsgateway.api.lenient_json import NotJson, NumberText, nests_too_deep, parse
from wsgateway.errors import TransformationFailed
from wsgateway.vtl import UTIL, TemplateFault, input_variable, mapping_variable

if TYPE_CHECKING:
    from wsgateway.integrations.parameters import RequestFacts
    from wsgateway.vtl import Template


def render(template: Template, facts: RequestFacts, body: str) -> str:
    """Render a template.

    Args:
        template: It.
        facts: Of the request, for `$context`, `$stageVariables` and `$input.params()`.
        body: What `$input` reads: the message, or the backend's answer.

    Raises:
        TransformationFailed: The template failed; `str()` says where.
    """
    variables = {
        "input": input_variable(
            body,
            path={},
            querystring={name: values[-1] for name, values in facts.querystring.items()},
            header={name: values[-1] for name, values in facts.headers.items()},
            parse=_parse,
        ),
        "util": UTIL,
        "context": mapping_variable(facts.context),
        "stageVariables": mapping_variable(facts.request.stage_variables),
    }
    try:
        return template.render(variables)
    except TemplateFault as error:
        raise TransformationFailed(str(error)) from error


def _parse(text: str) -> object:
    """Return JSON's values, of all that routes are selected by.

    Raises:
        ValueError: It is not JSON, or nests too deep.
    """
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _with_numbers(parse(text))
    if nests_too_deep(text):
        raise NotJson("it nests too deep")
    return value


def _with_numbers(value: object) -> object:
    match value:
        case NumberText():
            return int(value) if value.removeprefix("-").isdecimal() else float(value)
        case dict():
            return {name: _with_numbers(member) for name, member in value.items()}
        case list():
            return [_with_numbers(element) for element in value]
        case _:
            return value

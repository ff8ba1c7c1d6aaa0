"""Renders templates for the tests of this folder."""

from __future__ import annotations

import orjson

from wsgateway.vtl import UTIL, compile_template, input_variable, mapping_variable

CONTEXT = {
    "connectionId": "L0SM9cOFvHcCIhw=",
    "eventType": "MESSAGE",
    "requestTimeEpoch": 1708326702790,
    "identity": {"sourceIp": "192.0.2.10", "userAgent": ""},
    "authorizer": {"principalId": "ann", "count": "1"},
}


def variables(
    body: str = "{}",
    *,
    path: dict[str, str] | None = None,
    querystring: dict[str, str] | None = None,
    header: dict[str, str] | None = None,
    context: dict[str, object] | None = None,
    stage_variables: dict[str, str] | None = None,
) -> dict[str, object]:
    return {
        "input": input_variable(
            body,
            path=path or {},
            querystring=querystring or {},
            header=header or {},
            parse=orjson.loads,
        ),
        "util": UTIL,
        "context": mapping_variable(CONTEXT if context is None else context),
        "stageVariables": mapping_variable(stage_variables or {}),
    }


def render(
    template: str, body: str = "{}", *, is_lenient: bool = False, **values: dict[str, str]
) -> str:
    compiled = compile_template(template, is_lenient=is_lenient)
    return compiled.render(variables(body, **values))  # type: ignore[arg-type]

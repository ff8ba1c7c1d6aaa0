"""What selects templates and models: more than what selects routes, and less."""

from __future__ import annotations

import pytest

from wsgateway.api.expressions import (
    InvalidExpression,
    compile_model_selection,
    compile_response_selection,
    compile_selection,
    compile_template_selection,
)

HEADERS = [
    ("Content-Type", "text/plain"),
    ("X-Kind", "first"),
    ("x-kind", "second"),
    ("Empty", ""),
]


@pytest.mark.parametrize("compile_", [compile_template_selection, compile_model_selection])
@pytest.mark.parametrize(
    ("expression", "message", "key"),
    [
        # The whole key, in both of AWS's spellings, whatever the message is.
        ("$default", "{}", "$default"),
        ("$default", "no JSON", "$default"),
        (r"\$default", "no JSON", "$default"),
        ("static", "no JSON", "static"),
        ("static", "", "static"),
        # Variables.
        ("$request.body.kind", '{"kind": "a"}', "a"),
        ("${request.body.kind}", '{"kind": "a"}', "a"),
        ("${request.body.a}/${request.body.b}", '{"a": 1, "b": true}', "1/true"),
        ("${request.body.a}-beta", '{"a": "x"}', "x-beta"),
        ("${request.body.a}", "{}", ""),
        ("${request.body.a}", "no JSON", None),
        ("${request.body.a}", "", None),
    ],
)
def test_a_template_or_model_is_selected(
    compile_: object, expression: str, message: str, key: str | None
) -> None:
    assert compile_(expression).evaluate(message) == key  # type: ignore[operator]


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "column 1: it is empty; write $default"),
        (
            "$defaults",
            (
                "column 1: $defaults is not a variable; "
                r"write $request.body.<name>, or \$ for a dollar itself"
            ),
        ),
        (
            "${integration.response.statuscode}",
            (
                "column 1: $integration.response.statuscode is not a variable; "
                r"write $request.body.<name>, or \$ for a dollar itself"
            ),
        ),
        (
            "${request.body.a[*]}",
            "column 17: a wildcard stands for several values; name one, as in .room or [0]",
        ),
    ],
)
def test_what_selects_no_template(expression: str, problem: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_template_selection(expression)

    assert str(caught.value) == f'the selection expression "{expression}" goes wrong at {problem}'


def test_a_route_is_not_selected_by_default() -> None:
    with pytest.raises(InvalidExpression):
        compile_selection("$default")


@pytest.mark.parametrize(
    ("expression", "key"),
    [
        ("$default", "$default"),
        (r"\$default", "$default"),
        ("static", "static"),
        ("${integration.response.statuscode}", "404"),
        ("$integration.response.statuscode", "404"),
        ("s${integration.response.statuscode}/x", "s404/x"),
        ("${integration.response.header.content-type}", "text/plain"),
        ("${integration.response.header.X-Kind}", "second"),
        ("${integration.response.header.Empty}", ""),
        ("${integration.response.header.Missing}", ""),
        ("${integration.response.multivalueheader.x-kind}", "[first, second]"),
        ("${integration.response.multivalueheader.content-type}", "[text/plain]"),
        ("${integration.response.multivalueheader.missing}", ""),
        ("${request.body.kind}", "a"),
        ("${request.body.kind}-$integration.response.statuscode", "a-404"),
    ],
)
def test_a_response_template_is_selected(expression: str, key: str) -> None:
    assert compile_response_selection(expression).evaluate('{"kind": "a"}', 404, HEADERS) == key


def test_what_is_not_json_selects_only_what_does_not_ask_for_it() -> None:
    def evaluate(expression: str) -> str | None:
        return compile_response_selection(expression).evaluate("no JSON", 200, HEADERS)

    assert evaluate("${integration.response.statuscode}") == "200"
    assert evaluate("${request.body.kind}") is None
    assert evaluate("${integration.response.statuscode}${request.body.kind}") is None


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "column 1: it is empty; write $default"),
        (
            "$integration.response.body.a",
            (
                "column 1: $integration.response.body.a is not a variable; "
                "write $request.body.<name>, $integration.response.statuscode, "
                "$integration.response.header.<name>, "
                r"$integration.response.multivalueheader.<name>, or \$ for a dollar itself"
            ),
        ),
        ("$integration.response.statuscodes", None),
        ("${integration.response.header.}", None),
        (
            "${integration.response.statuscode",
            "column 1: this brace is not closed; put } after the variable",
        ),
        (
            "${integration.response.header.a b}",
            (
                'column 32: " " cannot stand here between braces; '
                "close the brace before it, or write a name that holds it as ['name']"
            ),
        ),
    ],
)
def test_what_selects_no_response_template(expression: str, problem: str | None) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_response_selection(expression)

    told = str(caught.value)
    assert told.startswith(f'the selection expression "{expression}" goes wrong at ')
    assert problem is None or told.endswith(f" goes wrong at {problem}")

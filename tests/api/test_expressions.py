"""Selection expressions: what each makes of a message, and what is refused when compiled."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import example, given, settings, strategies as st

from wsgateway.api.expressions import InvalidExpression, SelectionExpression, compile_selection
from wsgateway.api.lenient_json import NotJson, parse

ACTION = compile_selection("$request.body.action")

any_text = st.text(st.characters(exclude_categories=()))
names = st.sampled_from(["action", "data", "n", "0"]) | any_text
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=10
)


def key(expression: str, message: str) -> str | None:
    return compile_selection(expression).evaluate(message)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("$request.body.action", "join"),
        ("${request.body.action}", "join"),
        ("${request.body.service}/${request.body.action}", "chat/join"),
        ("${request.body.action}-${request.body.nope}", "join-"),
        ("action", "action"),
        (r"\$default", "$default"),
    ],
)
def test_expressions_of_the_developer_guide(expression: str, result: str) -> None:
    message = '{"service":"chat","action":"join","data":{"room":"r1"}}'

    assert key(expression, message) == result


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("$request.body.data.room", "r1"),
        ("$request.body.users[0]", "ann"),
        ("$request.body.users[01]", "bob"),
        ("$request.body.data['a b}]']", "odd"),
        ("${request.body.data['a b}]']}!", "odd!"),
        ("$request.body.rows[1][0].id", "r10"),
        ("$request.body.data['']", "empty"),
        ("$request.body.user-id_2", "u2"),
        ("$request.body.0", "zero"),
        ("$request.body.data.ROOM", ""),
        ("$request.body.users[2]", ""),
        ("$request.body.users[999999999]", ""),
        ("$request.body.users.0", ""),
        ("$request.body.users.length", ""),
        ("$request.body.data[0]", ""),
        ("$request.body.action[0]", ""),
        ("$request.body.action.x", ""),
        ("$request.body.nope.x[0]['y']", ""),
    ],
)
def test_a_path_names_one_value_and_a_missing_one_is_empty(expression: str, result: str) -> None:
    message = """{
        "action": "join", "user-id_2": "u2", "0": "zero", "users": ["ann", "bob"],
        "data": {"room": "r1", "a b}]": "odd", "": "empty"}, "rows": [[], [{"id": "r10"}]]
    }"""

    assert key(expression, message) == result


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("$request.body.a/$request.body.b", "A/B"),
        ("$request.body.a$request.body.b", "AB"),
        ("$request.body.a.$request.body.b", "A.B"),
        ("$request.body.a:x", "A:x"),
        ("$request.body.a x", "A x"),
        ("$request.body.a}", "A}"),
        ("$request.body.a.", "A."),
        ("$request.body.aé", "Aé"),
        ("$request.body.a'b'", "A'b'"),
        ("x${request.body.a}b", "xAb"),
        ("${request.body.a}.b", "A.b"),
        ("${request.body.a}[0]", "A[0]"),
        ("{${request.body.a}}", "{A}"),
        ("$request.body.a-b", ""),
    ],
)
def test_a_variable_ends_at_its_brace_or_at_the_first_other_character(
    expression: str, result: str
) -> None:
    assert key(expression, '{"a":"A","b":"B"}') == result


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        (r"\$request.body.a", "$request.body.a"),
        (r"\${request.body.a}", "${request.body.a}"),
        (r"\$$request.body.a\$", "$A$"),
        (r"a\b", r"a\b"),
        (r"\\$", r"\$"),
        (r"${request.body.a}\$\$", "A$$"),
        (" ", " "),
    ],
)
def test_a_backslash_makes_a_dollar_literal_and_nothing_else(expression: str, result: str) -> None:
    assert key(expression, '{"a":"A"}') == result


def test_a_result_is_not_evaluated_again() -> None:
    message = '{"action":"$request.body.secret","secret":"s"}'

    assert ACTION.evaluate(message) == "$request.body.secret"
    assert key(r"\$request.body.action", message) == "$request.body.action"


@pytest.mark.parametrize(
    ("message", "result"),
    [
        ('{action: "test", data: "x"}', "test"),
        ('{"action":"sendMessage", body:"hi"}', "sendMessage"),
        ("{'action': 'test',}", "test"),
        ("{action: test}", "test"),
        ('{"action":"a","action":"b"}', "b"),
        ("{action:a,action:b}", "b"),
        ('{"action":"$default"}', "$default"),
        ('{"action":"$connect"}', "$connect"),
        ('{"action":""}', ""),
        ('{"Action":"test"}', ""),
        ("{}", ""),
        ('["action"]', ""),
        ("[]", ""),
        ('"action"', ""),
        ("'action'", ""),
        ("1", ""),
        ("true", ""),
        ("null", ""),
    ],
)
def test_messages_that_are_json(message: str, result: str) -> None:
    assert ACTION.evaluate(message) == result


NOT_JSON = ["hello", "ping", "", " ", "{", '{"action":"join"', '{"action":"join"}x', "// {}", "NaN"]


@pytest.mark.parametrize("message", NOT_JSON)
@pytest.mark.parametrize("expression", ["$request.body.action", "x${request.body.a}", "action"])
def test_what_is_not_json_selects_no_key_even_with_static_text(
    expression: str, message: str
) -> None:
    assert key(expression, message) is None


@pytest.mark.parametrize("message", ['{"action":"join"}', "{a:b}", "[]", "1", "null", '"x"'])
def test_static_text_is_the_key_of_every_json_message(message: str) -> None:
    assert key("action", message) == "action"


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("null", ""),
        ("true", "true"),
        ("false", "false"),
        ("0", "0"),
        ("-0", "-0"),
        ("1", "1"),
        ("-17", "-17"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1.0", "1.0"),
        ("1.10", "1.10"),
        ("-0.0", "-0.0"),
        ("1e5", "1e5"),
        ("1E+05", "1E+05"),
        ("1e400", "1e400"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("[]", "[]"),
        ('["item1","item2"]', "[item1, item2]"),
        ('[1,1.0,-0,true,null,"null",[2,[]],{}]', "[1, 1.0, -0, true, null, null, [2, []], {}]"),
        ("{}", "{}"),
        ('{"k":"v","k2":"v2"}', "{k=v, k2=v2}"),
        (
            '{"n":1e2,"x":null,"t":false,"l":["a"],"o":{"p":""}}',
            "{n=1e2, x=null, t=false, l=[a], o={p=}}",
        ),
        (r'"\u0031\n"', "1\n"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\ud800"', "\ud800"),
    ],
)
@pytest.mark.parametrize("message", ['{"action":%s}', "{action:%s}"])
def test_a_value_is_printed_as_java_does_and_a_number_as_the_client_did(
    message: str, value: str, result: str
) -> None:
    assert ACTION.evaluate(message % value) == result
    assert key("${request.body.action}!", message % value) == f"{result}!"


def test_each_number_of_a_mix_keeps_its_text() -> None:
    expression = "${request.body.a}/${request.body.b}/${request.body.c}/${request.body.d}"

    assert key(expression, '{"a":1,"b":1.50,"c":"1.50","d":null}') == "1/1.50/1.50/"


@pytest.mark.parametrize("expression", ["$request.body.action", "x${request.body.action}", "x"])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_message_that_nests_deeper_than_32_is_not_json(expression: str, quote: str) -> None:
    """With single quotes it is the lenient parser that must see it."""
    for levels, is_json in ((32, True), (33, False)):
        lists = "[" * (levels - 1) + "]" * (levels - 1)
        message = f'{{{quote}action{quote}:"join","data":{lists}}}'

        assert (key(expression, message) is not None) is is_json


def test_wide_messages_and_brackets_in_strings_are_not_deep() -> None:
    message = json.dumps({"action": "join", "text": '"[{' * 99, "wide": [[]] * 99})

    assert ACTION.evaluate(message) == "join"


@pytest.mark.parametrize(
    ("expression", "column", "problem", "remedy"),
    [
        ("", 1, "it is empty", "write $request.body.action"),
        (
            "$request.body",
            14,
            "no member of the body is named",
            "write $request.body.<name>",
        ),
        (
            "$request.header.x",
            1,
            "$request.header.x is not a variable",
            r"write $request.body.<name>, or \$ for a dollar itself",
        ),
        (
            "a$",
            2,
            "no variable follows this dollar",
            r"write $request.body.<name>, or \$ for a dollar itself",
        ),
        (
            "a/${request.body.b",
            3,
            "this brace is not closed",
            "put } after the variable",
        ),
        (
            "${request.body.a b}",
            17,
            '" " cannot stand here between braces',
            "close the brace before it, or write a name that holds it as ['name']",
        ),
        (
            "$request.body..a",
            14,
            "a deep scan can find several values",
            "name each step, as in .data.room",
        ),
        (
            "$request.body.a[*]",
            16,
            "a wildcard stands for several values",
            "name one, as in .room or [0]",
        ),
        (
            "$request.body.a[?(@.b)]",
            16,
            "a filter can find several values",
            "name one by its index, as in [0]",
        ),
        (
            "$request.body.a[0:2]",
            16,
            "a slice is several values",
            "name one by its index, as in [0]",
        ),
        ("$request.body.a[0,1]", 16, "a union is several values", "name one of them"),
        (
            "$request.body.a.[0]",
            16,
            "a dot stands before a bracket",
            "leave out the dot, as in .users[0]",
        ),
        (
            "$request.body.a[-1]",
            16,
            "what begins with this bracket is neither [n] nor ['name']",
            "count from 0, and put a name between single quotes",
        ),
    ],
)
def test_a_refusal_says_where_why_and_what_to_write(
    expression: str, column: int, problem: str, remedy: str
) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_selection(expression)

    error = caught.value
    assert (error.expression, error.column) == (expression, column)
    assert (error.problem, error.remedy) == (problem, remedy)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("$", "no variable follows this dollar"),
        ("$$request.body.a", "no variable follows this dollar"),
        ("${}", "no variable follows this dollar"),
        ("${", "no variable follows this dollar"),
        ("$default", "$default is not a variable"),
        ("$context.connectionId", "$context.connectionId is not a variable"),
        ("${context.routeKey}", "$context.routeKey is not a variable"),
        ("$request.bodyx.a", "$request.bodyx.a is not a variable"),
        ("$request.body-x", "$request.body-x is not a variable"),
        ("$Request.body.a", "$Request.body.a is not a variable"),
        ("$stageVariables.a", "$stageVariables.a is not a variable"),
        ("costs $5", "$5 is not a variable"),
        ("$request.body.", "no member of the body is named"),
        ("${request.body}", "no member of the body is named"),
        ("$request.body[0]", "no member of the body is named"),
        ("$request.body['a']", "no member of the body is named"),
        ("$request.body.é", "no member of the body is named"),
        ("$request.body.*", "a wildcard stands for several values"),
        ("${request.body.a.*}", "a wildcard stands for several values"),
        ("$request.body.a..b", "a deep scan can find several values"),
        ("$request.body[?(@.a)]", "a filter can find several values"),
        ("$request.body.a[:2]", "a slice is several values"),
        ("$request.body.a['b','c']", "a union is several values"),
        ("$request.body.a[(@.length-1)]", "neither [n] nor ['name']"),
        ("$request.body.a[b]", "neither [n] nor ['name']"),
        ('$request.body.a["b"]', "neither [n] nor ['name']"),
        (r"$request.body.a['\'']", "neither [n] nor ['name']"),
        ("$request.body.a['b", "neither [n] nor ['name']"),
        ("$request.body.a[1234567890]", "neither [n] nor ['name']"),
        ("$request.body.a[]", "neither [n] nor ['name']"),
        ("${request.body.a['}'", "neither [n] nor ['name']"),
        ("${request.body.a.}", '"." cannot stand here between braces'),
    ],
)
def test_what_does_not_name_one_value_of_the_body_is_refused(expression: str, problem: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_selection(expression)

    assert problem in caught.value.problem


def test_a_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(InvalidExpression) as caught:
        compile_selection("$request.header.x")

    sentence = (
        'the selection expression "$request.header.x" goes wrong at column 1: '
        r"$request.header.x is not a variable; write $request.body.<name>, or \$ for a dollar itself"
    )
    assert str(caught.value) == sentence
    assert str(pickle.loads(pickle.dumps(caught.value))) == sentence


def test_equal_expressions_are_equal() -> None:
    assert compile_selection("$request.body.a") == compile_selection("$request.body.a")
    assert compile_selection("$request.body.a") != compile_selection("${request.body.a}")
    assert repr(compile_selection("a")) == "SelectionExpression(text='a')"


EXPRESSIONS: list[SelectionExpression] = [
    compile_selection(text)
    for text in (
        "$request.body.action",
        "$request.body.data[0].action",
        "${request.body.action}/${request.body.data['action']}",
        "static",
    )
]


@pytest.mark.slow
@settings(deadline=None)
@given(any_text | json_values.map(json.dumps))
@example('{"action":[]')
@example('{"action":' * 5000)
@example("[" * 131072)
@example('{"action":' + "[" * 1000 + "]" * 1000 + "}")
@example('{"action":1' + "0" * 5000 + "}")
@example('{"action":"\ud800"}')
def test_no_message_makes_it_raise(message: str) -> None:
    for expression in EXPRESSIONS:
        assert isinstance(expression.evaluate(message), str | None)


def expected(message: str) -> str | None:
    """What `$request.body.action` selects, from the lenient parser alone."""
    try:
        body = parse(message)
    except NotJson:
        return None
    action = body.get("action") if isinstance(body, dict) else None
    return "" if action is None else java(action)


def java(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(java(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(name + "=" + java(value[name]) for name in value) + "}"
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.slow
@settings(deadline=None)
@given(st.dictionaries(names, json_values) | json_values)
@example({"action": -0.0})
@example({"action": 2**64})
@example({"action": [float("nan")]})
def test_the_fast_way_and_the_lenient_one_agree(body: object) -> None:
    message = json.dumps(body)

    assert ACTION.evaluate(message) == expected(message)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_is_a_round_trip(number: float) -> None:
    assert ACTION.evaluate(json.dumps({"action": number})) == json.dumps(number)

"""Models: which messages they let pass, in whose words they refuse, and what is no model."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgateway.api.definition import ApiDefinition
from wsgateway.api.models import InvalidModel, RequestValidator, compile_model, compile_validator

URL = "https://apigateway.amazonaws.com/restapis/a1b2c3/models/"
TEXT = {"type": "object", "required": ["text"]}


def validator(
    models: dict[str, Any],
    *,
    select: str = "$default",
    request_models: dict[str, str] | None = None,
    **api: Any,
) -> RequestValidator:
    definition = ApiDefinition.model_validate(
        {
            "models": {name: {"schema": schema} for name, schema in models.items()},
            "routes": {
                "send": {
                    "modelSelectionExpression": select,
                    "requestModels": request_models or {"$default": next(iter(models))},
                }
            },
            **api,
        }
    )
    compiled = compile_validator(definition, definition.routes["send"])
    assert compiled is not None
    return compiled


def check(schema: Any, message: str) -> str | None:
    return validator({"m": schema}).check(message)


def test_without_an_expression_nothing_is_checked() -> None:
    definition = ApiDefinition.model_validate({"routes": {"send": {}}})

    assert compile_validator(definition, definition.routes["send"]) is None


# Which model


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('{"kind": "a", "a": 1}', None),
        ('{"kind": "a"}', '[object has missing required properties (["a"])]'),
        ('{"kind": "b", "b": 1}', None),
        ('{"kind": "other", "d": 1}', None),
        ('{"kind": "other"}', '[object has missing required properties (["d"])]'),
        ("{}", '[object has missing required properties (["d"])]'),
    ],
)
def test_the_expression_selects_the_model(message: str, told: str | None) -> None:
    checked = validator(
        {name: {"required": [name]} for name in ("a", "b", "d")},
        select="$request.body.kind",
        request_models={"a": "a", "b": "b", "$default": "d"},
    )

    assert checked.check(message) == told


def test_what_no_model_is_for_fails() -> None:
    checked = validator({"a": {}}, select="$request.body.kind", request_models={"a": "a"})

    assert checked.check('{"kind": "a"}') is None
    assert checked.check('{"kind": "b"}') == "[no model is for this message]"
    assert checked.check("no JSON") == "[no model is for this message]"


# What is said


@pytest.mark.parametrize(
    ("schema", "message", "told"),
    [
        (TEXT, "{}", 'object has missing required properties (["text"])'),
        (
            {"required": ["b", "a", "c"]},
            '{"c": 1}',
            'object has missing required properties (["a","b"])',
        ),
        (
            {"type": "integer"},
            '"x"',
            (
                "instance type (string) does not match any allowed primitive type "
                '(allowed: ["integer"])'
            ),
        ),
        (
            {"type": ["string", "null"]},
            "[1]",
            (
                "instance type (array) does not match any allowed primitive type "
                '(allowed: ["null","string"])'
            ),
        ),
        ({"type": "string"}, "null", None),
        ({"type": "string"}, "true", None),
        ({"type": "string"}, "1.5", None),
        (
            {"enum": ["cat", "dog"]},
            '"cow"',
            'instance value ("cow") not found in enum (possible values: ["cat","dog"])',
        ),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            '{"z": 1, "a": 2, "b": 3}',
            'object instance has properties which are not allowed by the schema: ["b","z"]',
        ),
        (
            {"minLength": 3},
            '"ab"',
            'string "ab" is too short (length: 2, required minimum: 3)',
        ),
        (
            {"maxLength": 1},
            '"ab"',
            'string "ab" is too long (length: 2, maximum allowed: 1)',
        ),
        (
            {"minimum": 3},
            "2",
            "numeric instance is lower than the required minimum (minimum: 3, found: 2)",
        ),
        (
            {"maximum": 3},
            "4",
            "numeric instance is greater than the required maximum (maximum: 3, found: 4)",
        ),
        (
            {"minimum": 3, "exclusiveMinimum": True},
            "3",
            "numeric instance is not strictly greater than the required minimum 3",
        ),
        (
            {"maximum": 3, "exclusiveMaximum": True},
            "3",
            "numeric instance is not strictly lower than the required maximum 3",
        ),
        (
            {"minItems": 2},
            "[1]",
            "array is too short: must have at least 2 elements but instance has 1 elements",
        ),
        (
            {"maxItems": 1},
            "[1, 2]",
            "array is too long: must have at most 1 elements but instance has 2 elements",
        ),
        ({"uniqueItems": True}, "[1, 1]", "array must not contain duplicate elements"),
        (
            {"pattern": "^a+$"},
            '"b"',
            'ECMA 262 regex "^a+$" does not match input string "b"',
        ),
        ({"multipleOf": 2}, "3", None),
        ({"not": {}}, "3", None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "3", None),
        (
            {"properties": {"a": {"type": "string"}, "b": {"minimum": 3}}, "required": ["c"]},
            '{"a": 1, "b": 2}',
            (
                'object has missing required properties (["c"]), '
                "instance type (integer) does not match any allowed primitive type "
                '(allowed: ["string"]), '
                "numeric instance is lower than the required minimum (minimum: 3, found: 2)"
            ),
        ),
    ],
)
def test_a_fault_is_told_in_the_words_of_aws(schema: Any, message: str, told: str | None) -> None:
    text = check(schema, message)

    assert text is not None
    assert (text[0], text[-1]) == ("[", "]")
    assert told is None or sorted(text[1:-1].split(", ")) == sorted(told.split(", "))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "1"),
        ({}, ' {"a": [true, null, 1.5e3]} '),
        (TEXT, '{"text": 1}'),
        ('{"type": "object", "required": ["text"]}', '{"text": 1}'),
        ({"type": "integer"}, "9" * 30),
        ({"type": "integer"}, "-5"),
        ({"type": "string", "pattern": "^(?!\\s*$).+"}, '"a"'),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "1"),
        ({"$schema": "http://json-schema.org/draft-04/schema"}, "1"),
        ({"definitions": {"t": {"type": "string"}}, "$ref": "#/definitions/t"}, '"a"'),
        ({"enum": [{"$ref": "http://example.com/data"}]}, '{"$ref": "http://example.com/data"}'),
        ({"properties": {"$ref": {"type": "string"}}}, '{"$ref": "x"}'),
    ],
)
def test_what_fits_passes(schema: Any, message: str) -> None:
    assert check(schema, message) is None


@pytest.mark.parametrize(
    "message",
    [
        "",
        "ping",
        "{text: 1}",
        "{'text': 1}",
        '{"text": 1,}',
        '{"text": NaN}',
        '{"text": Infinity}',
        '{"text": 1} x',
        '["\ud800"]',
        '{"text": "\\ud800"}',
        "[" * 40 + "]" * 40,
        "[" * 100_000,
        "9" * 5000,
        "\ufeff{}",
    ],
)
def test_what_is_not_strict_json_fails(message: str) -> None:
    """Routes are selected more leniently; AWS's validator is not known to be."""
    told = check({}, message)

    assert told is not None
    assert told.startswith("[the message is not JSON: ")


def test_an_integer_of_thirty_digits_is_one() -> None:
    assert check({"type": "integer", "maximum": 10**29}, f"[{'9' * 30}]") is not None
    assert check({"maximum": 10**30}, "9" * 30) is None
    assert check({"maximum": 10**29}, "9" * 30) is not None


@given(st.text())
def test_no_message_raises(message: str) -> None:
    checked = validator({"m": {"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}}})

    assert isinstance(checked.check(message), str | None)


# Bounds


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "^(a|aa)+$",
        "(.*a){20}b",
        "a*a*a*a*a*a*b",
        # These look around or back, which takes an engine that backtracks.
        "(?=a)(a+)+$",
        r"(a+)+\1$",
        "^(?!b)((a+)+)+$",
    ],
)
def test_a_pattern_cannot_be_kept_busy(pattern: str) -> None:
    checked = validator({"m": {"type": "string", "pattern": pattern}})
    message = f'"{"a" * 30_000}!"'

    started_s = time.process_time()
    told = checked.check(message)

    assert told is not None
    assert time.process_time() - started_s < 0.2


def test_a_pattern_that_is_given_up_is_told_as_such() -> None:
    assert check({"pattern": "(?=a)(a+)+$"}, f'"{"a" * 1000}!"') == (
        f'[string "{"a" * 96}... takes too long to match]'
    )


@pytest.mark.parametrize(
    "schema", [{"items": {"type": "string"}}, {"uniqueItems": True, "items": {"minimum": 5}}]
)
def test_a_message_with_many_faults_is_told_in_short(schema: Any) -> None:
    checked = validator({"m": schema})
    message = f"[{','.join(map(str, [1.5] * 20_000))}]"

    started_s = time.process_time()
    told = checked.check(message)

    assert told is not None
    assert len(told) <= 1100
    assert time.process_time() - started_s < 0.2


@pytest.mark.parametrize("kind", ["oneOf", "anyOf"])
def test_choices_at_every_depth_take_no_time(kind: str) -> None:
    """To find out why a message does not fit, the validator would take hours."""
    tree = {"$ref": "#/definitions/tree"}
    branches = [
        {"type": "object", "required": ["op"], "properties": {"op": {"enum": [op]}, "left": tree}}
        for op in ("add", "multiply")
    ]
    checked = validator(
        {"m": {"definitions": {"tree": {kind: [{"type": "number"}, *branches]}}, **tree}}
    )

    def message(leaf: str) -> str:
        for depth in range(30):
            leaf = f'{{"op": "{("add", "multiply")[depth % 2]}", "left": {leaf}}}'
        return leaf

    started_s = time.process_time()

    assert checked.check(message("1")) is None
    assert checked.check(message('"x"')) == "[the message does not fit the model]"
    assert checked.check(message('{"op": "divide"}')) == "[the message does not fit the model]"
    assert time.process_time() - started_s < 0.2


def test_a_long_value_is_told_in_short() -> None:
    told = check({"enum": ["a"]}, f'"{"x" * 5000}"')

    assert told == (f'[instance value ("{"x" * 96}...) not found in enum (possible values: ["a"])]')


# References


def test_a_model_may_refer_to_another() -> None:
    checked = validator(
        {
            "m": {"properties": {"user": {"$ref": f"{URL}user"}}},
            "user": {"required": ["name"], "properties": {"friend": {"$ref": f"{URL}user"}}},
        }
    )

    assert checked.check('{"user": {"name": "Ada"}}') is None
    assert checked.check('{"user": {"name": "Ada", "friend": {}}}') == (
        '[object has missing required properties (["name"])]'
    )


def test_models_may_refer_to_each_other_and_to_parts() -> None:
    checked = validator(
        {
            "m": {
                "properties": {"b": {"$ref": f"{URL}b"}, "t": {"$ref": f"{URL}b#/definitions/t"}}
            },
            "b": {
                "definitions": {"t": {"type": "string"}},
                "properties": {"m": {"$ref": f"{URL}m"}},
            },
        }
    )

    assert checked.check('{"b": {"m": {"t": "x"}}, "t": "x"}') is None
    assert checked.check('{"b": {"m": {"t": 1}}}') is not None


# What is no model


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (
            {"type": "nope"},
            (
                'is not a JSON Schema of draft 4 at type: "nope" is not valid under any of the '
                "schemas listed in the 'anyOf' keyword; see https://json-schema.org/draft-04"
            ),
        ),
        (
            {"properties": {"a": {"required": True}}},
            (
                "is not a JSON Schema of draft 4 at properties/a/required: "
                'true is not of type "array"; see https://json-schema.org/draft-04'
            ),
        ),
        ({"exclusiveMinimum": 5}, None),
        ({"pattern": "("}, None),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            (
                "is of another draft than 4; "
                'write "$schema": "http://json-schema.org/draft-04/schema#"'
            ),
        ),
        ({"$schema": 4}, None),
        (
            {"$ref": "http://169.254.169.254/latest/meta-data"},
            (
                "refers to http://169.254.169.254/latest/meta-data, and nothing is fetched; "
                "refer to #/definitions/NAME, or to a model by "
                "https://apigateway.amazonaws.com/restapis/API/models/NAME"
            ),
        ),
        ({"$ref": "file:///etc/passwd"}, None),
        ({"id": "http://example.com/", "items": {"$ref": "other"}}, None),
        (
            {"$ref": f"{URL}nobody"},
            "refers to 'nobody', which is no model; declared are: m, broken",
        ),
        (
            {"$ref": "#/definitions/t"},
            (
                "is not a JSON Schema of draft 4: Pointer '/definitions/t' does not exist; "
                "mend the $ref"
            ),
        ),
        ({"$ref": f"{URL}broken"}, None),
        ("{", None),
        ("[]", 'is not a JSON object; write one, such as {"type": "object"}'),
        (
            f'{{"description": "{"x" * 32_768}"}}',
            (
                "has 32787 characters as JSON, over 32768; "
                "move parts of it into models of their own, and refer to them"
            ),
        ),
        ({"description": "x" * 32_768}, None),
        ({"maximum": math.inf}, None),
    ],
)
def test_what_is_no_model(schema: Any, told: str | None) -> None:
    definition = ApiDefinition.model_validate(
        {"models": {"m": {"schema": schema}, "broken": {"schema": {"type": "nope"}}}}
    )

    with pytest.raises(InvalidModel) as caught:
        compile_model("m", definition.models)

    assert told is None or str(caught.value) == told
    assert str(caught.value) == f"{caught.value.problem}; {caught.value.remedy}"


def test_a_schema_that_nests_too_deep_is_no_model() -> None:
    schema: dict[str, Any] = {}
    for _ in range(400):
        schema = {"items": schema}
    definition = ApiDefinition.model_validate({"models": {"m": {"schema": schema}}})

    with pytest.raises(InvalidModel):
        compile_model("m", definition.models)


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(InvalidModel) as caught:
        compile_model("m", {})

    assert str(caught.value) == "there is no model 'm'; declare it under models"


def test_without_schema_validation_a_broken_model_lets_nothing_pass() -> None:
    models = {"m": {"type": "nope"}}
    with pytest.raises(InvalidModel):
        validator(models)

    checked = validator(models, disableSchemaValidation=True)

    assert checked.check("{}") == "[the model is not a valid schema]"

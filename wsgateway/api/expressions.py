r"""What does a selection expression make of a message?

```
expression = 1*( variable / "\$" / any character but "$" )
variable   = "$" reference / "${" reference "}"
reference  = "request.body." name *( "." name / "[" digits "]" / "['" any but ' and \ "']" )
           / response
response   = "integration.response.statuscode"
           / "integration.response." ( "header." / "multivalueheader." ) name
name       = 1*( letter / digit / "_" / "-" )
```

References to a response belong to integration responses alone. What selects a template or a model
may also be `$default` as a whole, which AWS writes `\$default`.

Without braces a variable ends at the first character that cannot continue it: the text after
`$request.body.room` in `$request.body.room/x` is `/x`. A reference is a JSONPath that names one
value. What could name several (filters, wildcards, slices) is refused before any message comes.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-selection-expressions.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import orjson

from wsgateway.api.lenient_json import NotJson, nests_too_deep, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Headers = Sequence[tuple[str, str]]


class _Status(NamedTuple):
    """Stands for the status of a response."""


class _Header(NamedTuple):
    """Stands for a header of a response; `name` is in lower case."""

    name: str
    multi_value: bool


# Names of members and indexes of elements, from the body down.
_Path: TypeAlias = tuple[str | int, ...]
# Static text, and variables.
_Parts: TypeAlias = tuple[str | _Path, ...]
_Response: TypeAlias = _Status | _Header

_TEXT = re.compile(r"(?:\\\$|[^$])+")
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_BODY = re.compile(r"request\.body(?![A-Za-z0-9_-])")
_MEMBER = re.compile(r"\.(?P<name>[A-Za-z0-9_-]+)")
# No message has room for more elements than nine digits can count.
_RESPONSE = re.compile(
    r"integration\.response\."
    r"(?:(?P<status>statuscode)(?![A-Za-z0-9_-])"
    r"|(?P<multi>multivalue)?header\.(?P<header>[A-Za-z0-9_-]+))"
)
_STEP = re.compile(rf"{_MEMBER.pattern}|\[(?P<index>[0-9]{{1,9}})\]|\['(?P<quoted>[^'\\]*)'\]")
_REFUSED = tuple(
    (re.compile(pattern), problem, remedy)
    for pattern, problem, remedy in (
        (r"\.\.", "a deep scan can find several values", "name each step, as in .data.room"),
        (r"\.\*|\[\s*\*", "a wildcard stands for several values", "name one, as in .room or [0]"),
        (r"\[\s*\?", "a filter can find several values", "name one by its index, as in [0]"),
        (r"\[[\s0-9-]*:", "a slice is several values", "name one by its index, as in [0]"),
        (r"\[\s*([0-9-]+|'[^']*'|\"[^\"]*\")\s*,", "a union is several values", "name one of them"),
        (r"\.\[", "a dot stands before a bracket", "leave out the dot, as in .users[0]"),
    )
)


class InvalidExpression(ValueError):
    """An expression that cannot be compiled.

    Attributes:
        expression: The expression, as the operator wrote it.
        column: Where it goes wrong, counted from 1.
        problem: What is wrong.
        remedy: What would be right.
    """

    def __init__(self, expression: str, column: int, problem: str, remedy: str) -> None:
        super().__init__(expression, column, problem, remedy)
        self.expression = expression
        self.column = column
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        """One sentence, for whoever wrote the expression."""
        return (
            f'the selection expression "{self.expression}" goes wrong at column {self.column}: '
            f"{self.problem}; {self.remedy}"
        )


@dataclass(frozen=True, slots=True)
class SelectionExpression:
    """A compiled expression.

    Attributes:
        text: As the operator wrote it.
        evaluate: Returns the key that a message selects, or None when the message is not JSON. It
            never raises. A key can hold lone surrogates, which no UTF-8 has.
    """

    text: str
    evaluate: Callable[[str], str | None] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ResponseSelection:
    """A compiled expression that an integration response selects its template by.

    Attributes:
        text: As the operator wrote it.
        evaluate: Takes the message, the status and the headers of the backend's answer. Returns the
            key that they select, or None when a member of the message is asked for and the message
            is not JSON. It never raises.
    """

    text: str
    evaluate: Callable[[str, int, Headers], str | None] = field(compare=False, repr=False)


DEFAULT_KEY: Final = "$default"
"""What is looked up where an expression selects nothing that is there."""


def compile_selection(expression: str) -> SelectionExpression:
    """Compile what selects a route.

    Raises:
        InvalidExpression: It cannot be compiled; says where, why, and what to write instead.
    """
    parts = _message_parts(expression, "$request.body.action")
    return SelectionExpression(expression, _evaluator(parts))


def compile_template_selection(expression: str) -> SelectionExpression:
    """Compile what selects a request template.

    Unlike what selects a route it can be `$default`, and text without variables is itself whatever
    the message is.

    Raises:
        InvalidExpression: It cannot be compiled; says where, why, and what to write instead.
    """
    if expression == DEFAULT_KEY:
        return SelectionExpression(expression, _constant(DEFAULT_KEY))
    parts = _message_parts(expression, DEFAULT_KEY)
    if all(isinstance(part, str) for part in parts):
        return SelectionExpression(expression, _constant("".join(map(str, parts))))
    return SelectionExpression(expression, _evaluator(parts))


def compile_model_selection(expression: str) -> SelectionExpression:
    """Compile what selects a model, as `compile_template_selection` does.

    Raises:
        InvalidExpression: It cannot be compiled; says where, why, and what to write instead.
    """
    return compile_template_selection(expression)


def compile_response_selection(expression: str) -> ResponseSelection:
    """Compile what selects a response template.

    Of a header that is there several times, `header` is the last value, and `multivalueheader` all
    of them, as a list is printed. A header that is not there is the empty string.

    Raises:
        InvalidExpression: It cannot be compiled; says where, why, and what to write instead.
    """
    if expression == DEFAULT_KEY:
        return ResponseSelection(expression, _constant_for_response(DEFAULT_KEY))
    parts = _parts(expression, DEFAULT_KEY, _VARIABLES_OF_RESPONSES)
    if all(isinstance(part, str) for part in parts):
        return ResponseSelection(expression, _constant_for_response("".join(map(str, parts))))
    return ResponseSelection(expression, partial(_evaluate_response, parts))


def _message_parts(expression: str, example: str) -> _Parts:
    parts = _parts(expression, example, _VARIABLES_OF_MESSAGES)
    # Written so that the type says it: there is no way to refer to a response here.
    return tuple(part for part in parts if not isinstance(part, _Status | _Header))


def _parts(
    expression: str, example: str, variables: Mapping[re.Pattern[str], _Reader]
) -> tuple[str | _Path | _Response, ...]:
    if not expression:
        raise InvalidExpression(expression, 1, "it is empty", f"write {example}")
    parts: list[str | _Path | _Response] = []
    position = 0
    while position < len(expression):
        if text := _TEXT.match(expression, position):
            parts.append(text[0].replace(r"\$", "$"))
            position = text.end()
        else:
            part, position = _variable(expression, position, variables)
            parts.append(part)
    return tuple(parts)


def _variable(
    expression: str, start: int, variables: Mapping[re.Pattern[str], _Reader]
) -> tuple[_Path | _Response, int]:
    """Return what the variable that begins here stands for, and where it ends."""
    braced = expression.startswith("${", start)
    name_start = start + (2 if braced else 1)
    for pattern, read in variables.items():
        if begun := pattern.match(expression, name_start):
            part, end = read(expression, begun)
            break
    else:
        raise _unknown_variable(expression, start, name_start, variables)
    if braced:
        _check_brace(expression, start, end)
        end += 1
    return part, end


def _path(expression: str, body: re.Match[str]) -> tuple[_Path, int]:
    path: list[str | int] = []
    end = body.end()
    while step := (_STEP if path else _MEMBER).match(expression, end):
        kind = step.lastgroup
        assert kind is not None, "each kind of step is a group"
        path.append(int(step[kind]) if kind == "index" else step[kind])
        end = step.end()
    for refused, problem, remedy in _REFUSED:
        if refused.match(expression, end):
            raise InvalidExpression(expression, end + 1, problem, remedy)
    if not path:
        raise InvalidExpression(
            expression, end + 1, "no member of the body is named", "write $request.body.<name>"
        )
    if expression.startswith("[", end):
        raise InvalidExpression(
            expression,
            end + 1,
            "what begins with this bracket is neither [n] nor ['name']",
            "count from 0, and put a name between single quotes",
        )
    return tuple(path), end


def _response(_: str, match: re.Match[str]) -> tuple[_Response, int]:
    if match["status"]:
        return _Status(), match.end()
    return _Header(match["header"].lower(), match["multi"] is not None), match.end()


def _check_brace(expression: str, start: int, end: int) -> None:
    if expression.startswith("}", end):
        return
    if "}" not in expression[end:]:
        raise InvalidExpression(
            expression, start + 1, "this brace is not closed", "put } after the variable"
        )
    raise InvalidExpression(
        expression,
        end + 1,
        f'"{expression[end]}" cannot stand here between braces',
        "close the brace before it, or write a name that holds it as ['name']",
    )


def _unknown_variable(
    expression: str,
    start: int,
    name_start: int,
    variables: Mapping[re.Pattern[str], _Reader],
) -> InvalidExpression:
    name = _VARIABLE_NAME.match(expression, name_start)
    others = "" if _RESPONSE not in variables else ", " + ", ".join(_RESPONSE_VARIABLES)
    return InvalidExpression(
        expression,
        start + 1,
        f"${name[0]} is not a variable" if name and name[0] else "no variable follows this dollar",
        rf"write $request.body.<name>{others}, or \$ for a dollar itself",
    )


_Reader: TypeAlias = "Callable[[str, re.Match[str]], tuple[_Path | _Response, int]]"
_VARIABLES_OF_MESSAGES: dict[re.Pattern[str], _Reader] = {_BODY: _path}
_VARIABLES_OF_RESPONSES: dict[re.Pattern[str], _Reader] = {_BODY: _path, _RESPONSE: _response}
_RESPONSE_VARIABLES = (
    "$integration.response.statuscode",
    "$integration.response.header.<name>",
    "$integration.response.multivalueheader.<name>",
)


def _constant(text: str) -> Callable[[str], str | None]:
    return lambda _: text


def _constant_for_response(text: str) -> Callable[[str, int, Headers], str | None]:
    return lambda _, __, ___: text


def _evaluate_response(
    parts: tuple[str | _Path | _Response, ...], message: str, status: int, headers: Headers
) -> str | None:
    key = ""
    for part in parts:
        match part:
            case str() as text:
                key += text
            case _Status():
                key += str(status)
            case _Header(name, multi_value):
                values = [value for given, value in headers if given.lower() == name]
                if multi_value and values:
                    key += f"[{', '.join(values)}]"
                elif values:
                    key += values[-1]
            case path:
                value = _evaluate((path,), message)
                if value is None:
                    return None
                key += value
    return key


def _evaluator(parts: _Parts) -> Callable[[str], str | None]:
    """Return the function that evaluates these parts.

    `$request.body.action` has one of its own, since it runs for nearly every message. It differs
    in nothing but speed.
    """
    evaluate = partial(_evaluate, parts)
    match parts:
        case ((str() as name,),):
            return _member_evaluator(name, evaluate)
        case _:
            return evaluate


def _member_evaluator(
    name: str, evaluate: Callable[[str], str | None]
) -> Callable[[str], str | None]:
    loads = orjson.loads

    def evaluate_member(message: str) -> str | None:
        try:
            body: object = loads(message)
        except orjson.JSONDecodeError:
            return evaluate(message)
        if isinstance(body, dict):
            key = body.get(name, "")
            if isinstance(key, str) and not nests_too_deep(message):
                return key
        return evaluate(message)

    return evaluate_member


def _evaluate(parts: _Parts, message: str) -> str | None:
    # An expression without variables comes here too. AWS says that it sends every message to one
    # route, but also that what is not JSON goes to `$default`, and it parses before it evaluates:
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-develop-routes.html
    try:
        body: object = orjson.loads(message)
    except orjson.JSONDecodeError:
        return _evaluate_exactly(parts, message)
    if nests_too_deep(message):
        return None
    key = ""
    for part in parts:
        match part if isinstance(part, str) else _select(body, part):
            case str() as text:
                key += text
            case None:
                pass
            case bool() as value:
                key += "true" if value else "false"
            case int() as value if value:
                key += str(value)
            case _:
                # orjson does not keep how a float was written, takes integers over 64 bits for
                # floats, and drops the sign of -0.
                return _evaluate_exactly(parts, message)
    return key


def _evaluate_exactly(parts: _Parts, message: str) -> str | None:
    try:
        body: object = parse(message)
    except NotJson:
        return None
    values = (part if isinstance(part, str) else _select(body, part) for part in parts)
    return "".join("" if value is None else _stringify(value) for value in values)


def _select(value: object, path: _Path) -> object:
    """Return what the path names in this value, None when there is nothing."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return value


def _stringify(value: object) -> str:
    """Return a value that `parse` has made as Java prints it.

    AWS documents `[item1, item2]` for lists; objects follow Java's maps.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(map(_stringify, value))}]"
        case dict():
            members = (f"{name}={_stringify(member)}" for name, member in value.items())
            return f"{{{', '.join(members)}}}"
        case _:
            assert value is None, "parse makes nothing else"
            return "null"

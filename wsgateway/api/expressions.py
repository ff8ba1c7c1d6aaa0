r"""What does a selection expression make of a message?

```
expression = 1*( variable / "\$" / any character but "$" )
variable   = "$" reference / "${" reference "}"
reference  = "request.body." name *( "." name / "[" digits "]" / "['" any but ' and \ "']" )
name       = 1*( letter / digit / "_" / "-" )
```

Without braces a variable ends at the first character that cannot continue it: the text after
`$request.body.room` in `$request.body.room/x` is `/x`. A reference is a JSONPath that names one
value. What could name several (filters, wildcards, slices) is refused before any message comes.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-selection-expressions.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import orjson

from wsgateway.api.lenient_json import NotJson, nests_too_deep, parse

if TYPE_CHECKING:
    from collections.abc import Callable

# Names of members and indexes of elements, from the body down.
_Path: TypeAlias = tuple[str | int, ...]
# Static text, and variables.
_Parts: TypeAlias = tuple[str | _Path, ...]

_TEXT = re.compile(r"(?:\\\$|[^$])+")
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_BODY = re.compile(r"request\.body(?![A-Za-z0-9_-])")
_MEMBER = re.compile(r"\.(?P<name>[A-Za-z0-9_-]+)")
# No message has room for more elements than nine digits can count.
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


def compile_selection(expression: str) -> SelectionExpression:
    """Compile an expression.

    Raises:
        InvalidExpression: It cannot be compiled; says where, why, and what to write instead.
    """
    if not expression:
        raise InvalidExpression(expression, 1, "it is empty", "write $request.body.action")
    parts: list[str | _Path] = []
    position = 0
    while position < len(expression):
        if text := _TEXT.match(expression, position):
            parts.append(text[0].replace(r"\$", "$"))
            position = text.end()
        else:
            path, position = _variable(expression, position)
            parts.append(path)
    return SelectionExpression(expression, _evaluator(tuple(parts)))


def _variable(expression: str, start: int) -> tuple[_Path, int]:
    """Return the path of the variable that begins here, and where it ends."""
    braced = expression.startswith("${", start)
    name_start = start + (2 if braced else 1)
    body = _BODY.match(expression, name_start)
    if body is None:
        raise _unknown_variable(expression, start, name_start)
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
    if braced:
        _check_brace(expression, start, end)
        end += 1
    return tuple(path), end


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


def _unknown_variable(expression: str, start: int, name_start: int) -> InvalidExpression:
    name = _VARIABLE_NAME.match(expression, name_start)
    return InvalidExpression(
        expression,
        start + 1,
        f"${name[0]} is not a variable" if name and name[0] else "no variable follows this dollar",
        r"write $request.body.<name>, or \$ for a dollar itself",
    )


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

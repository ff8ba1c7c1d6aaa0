"""How is the text of a JSONPath read?

```
path     = "$" *step
step     = "." name / ".*" / "[" select "]" / ".." ( name / "*" / "[" select "]" )
select   = names / indexes / slice / "*" / "?(" filter ")"
names    = quoted *( "," quoted )          indexes = integer *( "," integer )
slice    = [ integer ] ":" [ integer ]
filter   = any of && || ! and parentheses over operands, and comparisons of them
operand  = ( "@" / "$" ) *( "." name / "[" quoted "]" / "[" integer "]" ) / JSON scalar / 'text'
```
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from wsgateway.json_path.filters import (
    all_of,
    any_of,
    comparison,
    constant,
    existence,
    negation,
    passing,
    relative,
)
from wsgateway.json_path.steps import (
    JsonPath,
    child,
    children,
    descend,
    element,
    elements,
    length,
    members,
    sliced,
    wildcard,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.json_path.filters import Operand
    from wsgateway.json_path.steps import Step

# AWS allows 512 characters where a JSONPath stands alone; those inside templates have no bound of
# their own.
PATH_SIZE_MAX: Final = 1024
# Parentheses and negations in a filter.
_NESTING_MAX: Final = 16

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[^.\[\]()\s'\"*@$?,:&|=<>!~]+")
_FUNCTION = re.compile(r"(?:length|size)\(\s*\)$")
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,9}(?![0-9])")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SLICE = re.compile(r"\s*(-?[0-9]{1,9})?\s*:\s*(-?[0-9]{1,9})?\s*\]")
_WORDS = {"true": True, "false": False, "null": None}
_WORD = re.compile(r"true\b|false\b|null\b")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMPARISON = re.compile(r"==|!=|<=|>=|<|>")

_Item = TypeVar("_Item", str, int)


class InvalidPath(ValueError):
    """A path that cannot be compiled; says where and why."""

    def __init__(self, path: str, column: int, problem: str) -> None:
        super().__init__(path, column, problem)
        self.path = path
        self.column = column
        self.problem = problem

    def __str__(self) -> str:
        """One sentence, for whoever wrote the path."""
        return f'the JSONPath "{self.path}" goes wrong at column {self.column}: {self.problem}'


@lru_cache(maxsize=512)
def compile_path(text: str) -> JsonPath:
    """Compile a path. What begins with neither `$` nor `@` continues `$.`, as in Jayway.

    Raises:
        InvalidPath: It cannot be compiled.
    """
    if len(text) > PATH_SIZE_MAX:
        raise InvalidPath(
            f"{text[:40]}...", PATH_SIZE_MAX + 1, f"it is longer than {PATH_SIZE_MAX} characters"
        )
    return _Parser(text).path()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.nesting = 0

    def path(self) -> JsonPath:
        steps: list[Step] = []
        definite = True
        if not self._take("$"):
            if not self.text or self.text[0] in "@.[":
                raise self._problem("a path begins with $")
            steps.append(child(self._name()))
        while self.position < len(self.text):
            if self._take(".."):
                definite = False
                steps.append(descend)
                if not self.text.startswith("[", self.position):
                    steps.append(wildcard if self._take("*") else child(self._name()))
            elif self._take("."):
                if self._take("*"):
                    definite = False
                    steps.append(wildcard)
                elif function := _FUNCTION.match(self.text, self.position):
                    self.position = function.end()
                    steps.append(length)
                else:
                    steps.append(child(self._name()))
            elif self._take("["):
                step, one = self._selection()
                definite = definite and one
                steps.append(step)
            else:
                raise self._problem("a step begins with a dot or a bracket")
        return JsonPath(self.text, definite, tuple(steps))

    def _selection(self) -> tuple[Step, bool]:
        """Return the step between brackets, and whether it selects one value."""
        self._skip()
        if self._take("*"):
            self._close()
            return wildcard, False
        if self._take("?"):
            return self._predicate(), False
        if bounds := _SLICE.match(self.text, self.position):
            self.position = bounds.end()
            start, end = (None if bound is None else int(bound) for bound in bounds.groups())
            return sliced(start, end), False
        if self.text[self.position : self.position + 1] in {"'", '"'}:
            return self._members()
        indexes = self._list(self._integer)
        return (element(indexes[0]), True) if len(indexes) == 1 else (elements(indexes), False)

    def _predicate(self) -> Step:
        self._skip()
        self._require("(", "a filter stands between parentheses, as in [?(@.a == 1)]")
        test = self._disjunction()
        self._skip()
        self._require(")", "this filter is not closed")
        self._close()
        return passing(test)

    def _members(self) -> tuple[Step, bool]:
        names = self._list(self._quoted)
        if len(names) == 1:
            return child(names[0]), True
        is_last = self.position == len(self.text)
        return (members(names), True) if is_last else (children(names), False)

    def _list(self, item: Callable[[], _Item]) -> list[_Item]:
        items = [item()]
        self._skip()
        while self._take(","):
            self._skip()
            items.append(item())
            self._skip()
        self._require("]", "what begins with this bracket is none of ['name'], [n], [*], [?()]")
        return items

    def _disjunction(self) -> Operand:
        tests = [self._conjunction()]
        while self._skip_to("||"):
            tests.append(self._conjunction())
        return tests[0] if len(tests) == 1 else any_of(tests)

    def _conjunction(self) -> Operand:
        tests = [self._test()]
        while self._skip_to("&&"):
            tests.append(self._test())
        return tests[0] if len(tests) == 1 else all_of(tests)

    def _test(self) -> Operand:
        self.nesting += 1
        if self.nesting > _NESTING_MAX:
            raise self._problem(f"this filter nests deeper than {_NESTING_MAX}")
        try:
            if self._skip_to("!"):
                return negation(self._test())
            if self._skip_to("("):
                inner = self._disjunction()
                self._skip()
                self._require(")", "this parenthesis is not closed")
                return inner
            left = self._operand()
            self._skip()
            if operator := _COMPARISON.match(self.text, self.position):
                self.position = operator.end()
                return comparison(operator[0], left, self._operand())
            return existence(left)
        finally:
            self.nesting -= 1

    def _operand(self) -> Operand:
        self._skip()
        if self._take("@"):
            return self._operand_path(from_root=False)
        if self._take("$"):
            return self._operand_path(from_root=True)
        if self.text[self.position : self.position + 1] in {"'", '"'}:
            return constant(self._quoted())
        if word := _WORD.match(self.text, self.position):
            self.position = word.end()
            return constant(_WORDS[word[0]])
        if number := _NUMBER.match(self.text, self.position):
            self.position = number.end()
            digits = number[0]
            return constant(int(digits) if digits.lstrip("-").isdigit() else float(digits))
        raise self._problem("a filter compares @.name, numbers, 'texts', true, false and null")

    def _operand_path(self, *, from_root: bool) -> Operand:
        steps: list[Step] = []
        while True:
            if self.text.startswith("..", self.position):
                raise self._problem("a filter's own paths name one value: no deep scan")
            if self._take("."):
                steps.append(child(self._name()))
            elif self._take("["):
                step, one = self._selection()
                if not one:
                    raise self._problem("a filter's own paths name one value")
                steps.append(step)
            else:
                return relative(tuple(steps), from_root=from_root)

    def _name(self) -> str:
        name = _NAME.match(self.text, self.position)
        if name is None:
            raise self._problem("a name is missing")
        self.position = name.end()
        if self.text.startswith("(", self.position):
            raise self._problem(f"the function {name[0]}() is not supported")
        if self.text.startswith(" ", self.position) and not self.nesting:
            raise self._problem("a name with blanks stands in brackets, as in ['a b']")
        return name[0]

    def _quoted(self) -> str:
        quoted = _QUOTED.match(self.text, self.position)
        if quoted is None:
            raise self._problem("a name between quotes is missing, or its quote is not closed")
        self.position = quoted.end()
        content: str = quoted[quoted.lastindex or 1]
        return _ESCAPE.sub(r"\1", content)

    def _integer(self) -> int:
        integer = _INTEGER.match(self.text, self.position)
        if integer is None:
            raise self._problem("this bracket begins none of ['name'], [n], [n:m], [*], [?()]")
        self.position = integer.end()
        return int(integer[0])

    def _close(self) -> None:
        self._skip()
        self._require("]", "this bracket is not closed")

    def _skip(self) -> None:
        space = _SPACE.match(self.text, self.position)
        assert space is not None, "the pattern matches the empty text"
        self.position = space.end()

    def _skip_to(self, token: str) -> bool:
        self._skip()
        if token == "!" and self.text.startswith("!=", self.position):  # noqa: S105
            return False
        return self._take(token)

    def _take(self, token: str) -> bool:
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def _require(self, token: str, problem: str) -> None:
        if not self._take(token):
            raise self._problem(problem)

    def _problem(self, problem: str) -> InvalidPath:
        return InvalidPath(self.text, self.position + 1, problem)

"""What does a JSONPath find in a value, as Jayway's Java library finds it for API Gateway?

```
path     = "$" *step
step     = "." name / ".*" / "[" select "]" / ".." ( name / "*" / "[" select "]" )
select   = names / indexes / slice / "*" / "?(" filter ")"
names    = quoted *( "," quoted )          indexes = integer *( "," integer )
slice    = [ integer ] ":" [ integer ]
filter   = any of && || ! and parentheses over operands, and comparisons of them
operand  = ( "@" / "$" ) *( "." name / "[" quoted "]" / "[" integer "]" ) / JSON scalar / 'text'
```

A path is definite when it can name one value only; it then finds that value, or `MISSING`. Any
other finds a list, in the document's order. Several names at the very end find an object of those
members that exist.

This is not RFC 9535, nor what Python's libraries for it do: Jayway takes almost any character in
a name without quotes, returns values instead of lists, and merges names into an object. Nor can
those libraries be bounded from outside: what they visit in vain they do not tell. Functions but
for `length()` and `size()`, and the regular expressions of filters, are refused.
https://github.com/json-path/JsonPath
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# A message of 128 KiB has 65,536 values at most. A deep scan looks at each up to three times: as
# what its container holds, as a container, and as what is selected.
VISITS_MAX: Final = 200_000
# AWS allows 512 characters where a JSONPath stands alone; those inside templates have no bound of
# their own.
PATH_SIZE_MAX: Final = 1024
# Parentheses and negations in a filter.
_NESTING_MAX: Final = 16


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


class CostlyPath(Exception):
    """A path visits more of a document than is allowed."""


class _Missing:
    """Nothing was found. It is false, and there is one of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()


class Visits:
    """How many values may still be looked at; several finds can share one."""

    __slots__ = ("left",)

    def __init__(self, left: int = VISITS_MAX) -> None:
        self.left = left

    def spend(self, count: int = 1) -> None:
        """Count so many visits.

        Raises:
            CostlyPath: They are used up.
        """
        self.left -= count
        if self.left < 0:
            raise CostlyPath("the path visits too many values of this document")


_Item = TypeVar("_Item", str, int)
_Step: TypeAlias = "Callable[[list[object], object, Visits], list[object]]"
_Operand: TypeAlias = "Callable[[object, object, Visits], object]"


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A compiled path.

    Attributes:
        text: As it was written.
        is_definite: Whether it finds one value, not a list.
    """

    text: str
    is_definite: bool
    _steps: tuple[_Step, ...] = field(compare=False, repr=False)

    def find(self, value: object, visits: Visits | None = None) -> object:
        """Return the value found, `MISSING`, or for an indefinite path a list.

        What is found is part of `value`, not a copy.

        Raises:
            CostlyPath: It visits more than `visits` allow, by default `VISITS_MAX`.
        """
        visits = Visits() if visits is None else visits
        nodes = [value]
        for step in self._steps:
            nodes = step(nodes, value, visits)
        if self.is_definite:
            return nodes[0] if nodes else MISSING
        return nodes


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


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.nesting = 0

    def path(self) -> JsonPath:
        steps: list[_Step] = []
        definite = True
        if not self._take("$"):
            if not self.text or self.text[0] in "@.[":
                raise self._problem("a path begins with $")
            steps.append(_child(self._name()))
        while self.position < len(self.text):
            if self._take(".."):
                definite = False
                steps.append(_descend)
                if not self.text.startswith("[", self.position):
                    steps.append(_wildcard if self._take("*") else _child(self._name()))
            elif self._take("."):
                if self._take("*"):
                    definite = False
                    steps.append(_wildcard)
                elif function := _FUNCTION.match(self.text, self.position):
                    self.position = function.end()
                    steps.append(_length)
                else:
                    steps.append(_child(self._name()))
            elif self._take("["):
                step, one = self._selection()
                definite = definite and one
                steps.append(step)
            else:
                raise self._problem("a step begins with a dot or a bracket")
        return JsonPath(self.text, definite, tuple(steps))

    def _selection(self) -> tuple[_Step, bool]:
        """Return the step between brackets, and whether it selects one value."""
        self._skip()
        if self._take("*"):
            self._close()
            return _wildcard, False
        if self._take("?"):
            return self._predicate(), False
        if bounds := _SLICE.match(self.text, self.position):
            self.position = bounds.end()
            start, end = (None if bound is None else int(bound) for bound in bounds.groups())
            return _slice(start, end), False
        if self.text[self.position : self.position + 1] in {"'", '"'}:
            return self._members()
        indexes = self._list(self._integer)
        return (_element(indexes[0]), True) if len(indexes) == 1 else (_elements(indexes), False)

    def _predicate(self) -> _Step:
        self._skip()
        self._require("(", "a filter stands between parentheses, as in [?(@.a == 1)]")
        test = self._disjunction()
        self._skip()
        self._require(")", "this filter is not closed")
        self._close()
        return _filter(test)

    def _members(self) -> tuple[_Step, bool]:
        names = self._list(self._quoted)
        if len(names) == 1:
            return _child(names[0]), True
        is_last = self.position == len(self.text)
        return (_members(names), True) if is_last else (_children(names), False)

    def _list(self, item: Callable[[], _Item]) -> list[_Item]:
        items = [item()]
        self._skip()
        while self._take(","):
            self._skip()
            items.append(item())
            self._skip()
        self._require("]", "what begins with this bracket is none of ['name'], [n], [*], [?()]")
        return items

    def _disjunction(self) -> _Operand:
        tests = [self._conjunction()]
        while self._skip_to("||"):
            tests.append(self._conjunction())
        return tests[0] if len(tests) == 1 else _any_of(tests)

    def _conjunction(self) -> _Operand:
        tests = [self._test()]
        while self._skip_to("&&"):
            tests.append(self._test())
        return tests[0] if len(tests) == 1 else _all_of(tests)

    def _test(self) -> _Operand:
        self.nesting += 1
        if self.nesting > _NESTING_MAX:
            raise self._problem(f"this filter nests deeper than {_NESTING_MAX}")
        try:
            if self._skip_to("!"):
                return _negation(self._test())
            if self._skip_to("("):
                inner = self._disjunction()
                self._skip()
                self._require(")", "this parenthesis is not closed")
                return inner
            left = self._operand()
            self._skip()
            if operator := _COMPARISON.match(self.text, self.position):
                self.position = operator.end()
                return _comparison(operator[0], left, self._operand())
            return _existence(left)
        finally:
            self.nesting -= 1

    def _operand(self) -> _Operand:
        self._skip()
        if self._take("@"):
            return self._operand_path(from_root=False)
        if self._take("$"):
            return self._operand_path(from_root=True)
        if self.text[self.position : self.position + 1] in {"'", '"'}:
            return _constant(self._quoted())
        if word := _WORD.match(self.text, self.position):
            self.position = word.end()
            return _constant(_WORDS[word[0]])
        if number := _NUMBER.match(self.text, self.position):
            self.position = number.end()
            digits = number[0]
            return _constant(int(digits) if digits.lstrip("-").isdigit() else float(digits))
        raise self._problem("a filter compares @.name, numbers, 'texts', true, false and null")

    def _operand_path(self, *, from_root: bool) -> _Operand:
        steps: list[_Step] = []
        while True:
            if self.text.startswith("..", self.position):
                raise self._problem("a filter's own paths name one value: no deep scan")
            if self._take("."):
                steps.append(_child(self._name()))
            elif self._take("["):
                step, one = self._selection()
                if not one:
                    raise self._problem("a filter's own paths name one value")
                steps.append(step)
            else:
                return _relative(tuple(steps), from_root=from_root)

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


def _child(name: str) -> _Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes))
        return [node[name] for node in nodes if isinstance(node, dict) and name in node]

    return step


def _children(names: list[str]) -> _Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes) * len(names))
        return [
            node[name] for node in nodes if isinstance(node, dict) for name in names if name in node
        ]

    return step


def _members(names: list[str]) -> _Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes) * len(names))
        return [
            {name: node[name] for name in names if name in node}
            for node in nodes
            if isinstance(node, dict)
        ]

    return step


def _element(index: int) -> _Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes))
        return [
            node[index]
            for node in nodes
            if isinstance(node, list) and -len(node) <= index < len(node)
        ]

    return step


def _elements(indexes: list[int]) -> _Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes) * len(indexes))
        return [
            node[index]
            for node in nodes
            if isinstance(node, list)
            for index in indexes
            if -len(node) <= index < len(node)
        ]

    return step


def _slice(start: int | None, end: int | None) -> _Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        found: list[object] = []
        for node in nodes:
            if isinstance(node, list):
                part = node[start:end]
                visits.spend(1 + len(part))
                found += part
        return found

    return step


def _wildcard(nodes: list[object], _root: object, visits: Visits) -> list[object]:
    found: list[object] = []
    for node in nodes:
        inner = _inner(node)
        visits.spend(1 + len(inner))
        found += inner
    return found


def _descend(nodes: list[object], _root: object, visits: Visits) -> list[object]:
    """Return these containers and all inside them, each before what it holds."""
    return [found for node in nodes for found in _containers(node, visits)]


def _containers(node: object, visits: Visits) -> Iterator[object]:
    pending = [node]
    while pending:
        node = pending.pop()
        if isinstance(node, dict | list):
            yield node
            inner = _inner(node)
            visits.spend(1 + len(inner))
            pending.extend(reversed(inner))


def _inner(node: object) -> list[object]:
    match node:
        case dict():
            return list(node.values())
        case list():
            return node
        case _:
            return []


def _length(nodes: list[object], _root: object, visits: Visits) -> list[object]:
    visits.spend(len(nodes))
    return [len(node) if isinstance(node, dict | list | str) else None for node in nodes]


def _filter(test: _Operand) -> _Step:
    """Keep the elements of a list that pass, or an object that passes itself."""

    def step(nodes: list[object], root: object, visits: Visits) -> list[object]:
        found: list[object] = []
        for node in nodes:
            candidates: Iterable[object] = (
                node if isinstance(node, list) else [node] if isinstance(node, dict) else ()
            )
            found += [candidate for candidate in candidates if test(candidate, root, visits)]
        return found

    return step


def _relative(steps: tuple[_Step, ...], *, from_root: bool) -> _Operand:
    def find(node: object, root: object, visits: Visits) -> object:
        visits.spend()
        nodes = [root if from_root else node]
        for step in steps:
            nodes = step(nodes, root, visits)
        return nodes[0] if nodes else MISSING

    return find


def _constant(value: object) -> _Operand:
    return lambda _node, _root, _visits: value


def _existence(operand: _Operand) -> _Operand:
    return lambda node, root, visits: operand(node, root, visits) is not MISSING


def _negation(test: _Operand) -> _Operand:
    return lambda node, root, visits: not test(node, root, visits)


def _any_of(tests: list[_Operand]) -> _Operand:
    return lambda node, root, visits: any(test(node, root, visits) for test in tests)


def _all_of(tests: list[_Operand]) -> _Operand:
    return lambda node, root, visits: all(test(node, root, visits) for test in tests)


def _comparison(operator: str, left: _Operand, right: _Operand) -> _Operand:
    compare = _COMPARE[operator]

    def test(node: object, root: object, visits: Visits) -> bool:
        visits.spend()
        return compare(left(node, root, visits), right(node, root, visits))

    return test


def _equal(left: object, right: object) -> bool:
    """Compare scalars; containers, whose comparison has no bound, are never equal here."""
    left, right = _alike(left, right)
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, int | float | str) and isinstance(right, int | float | str):
        return left == right
    return False


def _less(left: object, right: object) -> bool:
    """Order numbers and texts; nothing else has an order."""
    left, right = _alike(left, right)
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left < right
    return isinstance(left, str) and isinstance(right, str) and left < right


def _alike(left: object, right: object) -> tuple[object, object]:
    """Return both; a text beside a number as the number it says."""
    if isinstance(left, str) and isinstance(right, int | float):
        return _number(left), right
    if isinstance(right, str) and isinstance(left, int | float):
        return left, _number(right)
    return left, right


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


_COMPARE: Final[dict[str, Callable[[object, object], bool]]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _less,
    "<=": lambda left, right: _less(left, right) or _equal(left, right),
    ">": lambda left, right: _less(right, left),
    ">=": lambda left, right: _less(right, left) or _equal(left, right),
}

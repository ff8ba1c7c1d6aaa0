"""How are the values in a mapping template read: references, and what stands between parentheses?"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from typing import Final, NoReturn

from wsgateway.vtl.errors import InvalidTemplate
from wsgateway.vtl.syntax import (
    Block,
    Call,
    Chain,
    Expression,
    Index,
    Interpolated,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Not,
    Property,
    RangeOf,
    Reference,
)

# Blocks, parentheses, argument lists, quotes within each other. At up to a dozen frames a level
# this stays far from the recursion limit.
NESTING_MAX: Final = 32

_REFERENCE = re.compile(r"\$(?P<quiet>!?)(?P<brace>\{?)(?P<name>[A-Za-z_][A-Za-z0-9_-]*)")
_PROPERTY = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)")
# What is not followed by one of these is no argument list, but text after a property.
_ARGUMENTS = re.compile(r"""\((?=\s*(?:[)"'$\[{(!]|-?[0-9]|(?:true|false|null|not)\b))""")
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![A-Za-z_])")
_WORD = re.compile(r"(true|false|null)(?![A-Za-z0-9_-])")
_NOT = re.compile(r"!(?!=)|not(?![A-Za-z0-9_-])")
_NEGATIVE = re.compile(r"-(?=[0-9.])")
# Possessive: two quotes are never taken for an end, and nothing is tried twice.
_SINGLE_QUOTED = re.compile(r"'([^']*+(?:''[^']*+)*+)'")
_DOUBLE_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
_UNICODE = re.compile(r"\\u([0-9A-Fa-f]{4})")
_NUMBER_SIZE_MAX: Final = 300

_OR = re.compile(r"\|\||or(?![A-Za-z0-9_-])")
_AND = re.compile(r"&&|and(?![A-Za-z0-9_-])")
# From the loosest to the tightest.
_CHAINS: Final = (
    re.compile(r"(?P<eq>==|eq(?![A-Za-z0-9_-]))|(?P<ne>!=|ne(?![A-Za-z0-9_-]))"),
    re.compile(
        r"(?P<le><=|le(?![A-Za-z0-9_-]))|(?P<ge>>=|ge(?![A-Za-z0-9_-]))"
        r"|(?P<lt><|lt(?![A-Za-z0-9_-]))|(?P<gt>>|gt(?![A-Za-z0-9_-]))"
    ),
    re.compile(r"(?P<add>\+)|(?P<subtract>-)"),
    re.compile(r"(?P<multiply>\*)|(?P<divide>/)|(?P<remainder>%)"),
)


class ExpressionParser(ABC):
    """Reads a text from its beginning; a subclass reads what is around values.

    Args:
        text: All of it.
        line: That of its beginning.
        nesting: How deep it is in another.
    """

    def __init__(self, text: str, line: int = 1, nesting: int = 0) -> None:
        self.text = text
        self.position = 0
        self.nesting = nesting
        self.first_line = line
        self.line_starts = [0, *(match.end() for match in re.finditer(r"\n", text))]

    @abstractmethod
    def _template_in(self, content: str, start: int) -> Block:
        """Read the template that double quotes, which began at `start`, stand around."""

    def _reference(self, problem: str, remedy: str) -> Reference:
        self._skip()
        start = self.position
        if self.text.startswith("$", start):
            reference = self._reference_or_text()
            if isinstance(reference, Reference):
                return reference
        raise self._invalid(start, problem, remedy)

    def _reference_or_text(self) -> Reference | str:
        """Read a reference, or the dollar alone."""
        start = self.position
        head = _REFERENCE.match(self.text, start)
        if head is None:
            self.position += 1
            return "$"
        self.position = head.end()
        steps: list[Property | Call | Index] = []
        while step := self._step():
            steps.append(step)
        if head["brace"]:
            if not self.text.startswith("}", self.position):
                self._fail(start, "the brace of this reference is not closed", "put } after it")
            self.position += 1
        return Reference(
            name=head["name"],
            steps=tuple(steps),
            text=self.text[start : self.position],
            is_quiet=bool(head["quiet"]),
            line=self._line(start),
        )

    def _step(self) -> Property | Call | Index | None:
        if member := _PROPERTY.match(self.text, self.position):
            self.position = member.end()
            if arguments := _ARGUMENTS.match(self.text, self.position):
                start = self.position
                self.position = arguments.end()
                return Call(member[1], self._items(")", start))
            return Property(member[1])
        if self.text.startswith("[", self.position):
            start = self.position
            self.position += 1
            items = self._items("]", start)
            if len(items) != 1:
                self._fail(start, "an index is one value", "write [0], or ['name']")
            return Index(items[0])
        return None

    def _items(self, closing: str, start: int) -> tuple[Expression, ...]:
        """Read expressions with commas between them, and what closes them."""
        items: list[Expression] = []
        self._enter(start)
        self._skip()
        while not self._take(closing):
            if items:
                self._require(",", "neither a comma nor its end follows this value", self._hint)
            items.append(self._expression())
            self._skip()
        self.nesting -= 1
        return tuple(items)

    _hint = "separate values with commas, and close what you opened"

    def _expression(self) -> Expression:
        return self._logic(_OR, is_and=False)

    def _logic(self, operator: re.Pattern[str], *, is_and: bool) -> Expression:
        operands: list[Expression] = []
        while not operands or self._match(operator):
            operands.append(self._chain(0) if is_and else self._logic(_AND, is_and=True))
        return operands[0] if len(operands) == 1 else Logic(is_and, tuple(operands))

    def _chain(self, level: int) -> Expression:
        if level == len(_CHAINS):
            return self._unary()
        first = self._chain(level + 1)
        rest: list[tuple[str, Expression]] = []
        while operator := self._match(_CHAINS[level]):
            assert operator.lastgroup is not None, "each operator is a group"
            rest.append((operator.lastgroup, self._chain(level + 1)))
        return Chain(first, tuple(rest)) if rest else first

    def _unary(self) -> Expression:
        negations = 0
        while self._match(_NOT):
            negations += 1
        operand = self._primary()
        if negations == 0:
            return operand
        # Only whether their number is odd matters, but two of them make a boolean of anything.
        return Not(operand) if negations % 2 else Not(Not(operand))

    def _primary(self) -> Expression:
        self._skip()
        start = self.position
        match self.text[start : start + 1]:
            case "$":
                return self._reference("a name is missing after this dollar", "write $name")
            case "(":
                self._enter(start)
                self.position += 1
                inner = self._expression()
                self._require(")", "this parenthesis is not closed", "put ) after the expression")
                self.nesting -= 1
                return inner
            case "[":
                return self._list(start)
            case "{":
                return self._map(start)
            case "'" | '"':
                return self._quoted(start)
            case _:
                return self._scalar(start)

    def _scalar(self, start: int) -> Expression:
        if word := self._match(_WORD):
            return Literal({"true": True, "false": False}.get(word[1]))
        sign = -1 if self._match(_NEGATIVE) else 1
        number = self._match(_NUMBER)
        if number is None:
            self._fail(
                start,
                "a value is missing here",
                "write a reference, a number, a text in quotes, a list, a map, true or false",
            )
        digits = number[0]
        if len(digits) > _NUMBER_SIZE_MAX:
            self._fail(start, f"this number has over {_NUMBER_SIZE_MAX} digits", "shorten it")
        return Literal(sign * (int(digits) if digits.isdigit() else float(digits)))

    def _list(self, start: int) -> Expression:
        self._enter(start)
        self.position += 1
        items: list[Expression] = []
        self._skip()
        while not self._take("]"):
            if items:
                self._require(",", "neither a comma nor ] follows this value", self._hint)
            items.append(self._expression())
            self._skip()
            if len(items) == 1 and self._take(".."):
                last = self._expression()
                self._require("]", "this range is not closed", "write [1..3]")
                self.nesting -= 1
                return RangeOf(items[0], last)
        self.nesting -= 1
        return ListOf(tuple(items))

    def _map(self, start: int) -> Expression:
        self._enter(start)
        self.position += 1
        members: list[tuple[Expression, Expression]] = []
        self._skip()
        while not self._take("}"):
            if members:
                self._require(",", "neither a comma nor } follows this member", self._hint)
            key = self._expression()
            self._require(":", "a colon is missing after this key", 'write {"name": value}')
            members.append((key, self._expression()))
            self._skip()
        self.nesting -= 1
        return MapOf(tuple(members))

    def _quoted(self, start: int) -> Expression:
        quote = self.text[start]
        pattern = _SINGLE_QUOTED if quote == "'" else _DOUBLE_QUOTED
        quoted = pattern.match(self.text, start)
        if quoted is None:
            self._fail(start, "this quote has no partner", f"put {quote} after the text")
        self.position = quoted.end()
        content: str = quoted[1].replace(quote * 2, quote)
        if quote == "'":
            return Literal(content)
        content = _UNICODE.sub(lambda code: chr(int(code[1], 16)), content)
        if "$" not in content and "#" not in content:
            return Literal(content)
        self._enter(start)
        block = self._template_in(content, start)
        self.nesting -= 1
        return Interpolated(block)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip()
        match = pattern.match(self.text, self.position)
        if match is not None:
            self.position = match.end()
        return match

    def _skip(self) -> None:
        space = _SPACE.match(self.text, self.position)
        assert space is not None, "the pattern matches the empty text"
        self.position = space.end()

    def _take(self, token: str) -> bool:
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def _require(self, token: str, problem: str, remedy: str) -> None:
        self._skip()
        if not self._take(token):
            self._fail(self.position, problem, remedy)

    def _enter(self, start: int) -> None:
        self.nesting += 1
        if self.nesting > NESTING_MAX:
            self._fail(start, f"it nests deeper than {NESTING_MAX}", "use #set for parts of it")

    def _line(self, position: int) -> int:
        return self.first_line - 1 + bisect_right(self.line_starts, position)

    def _fail(self, position: int, problem: str, remedy: str) -> NoReturn:
        raise self._invalid(position, problem, remedy)

    def _invalid(self, position: int, problem: str, remedy: str) -> InvalidTemplate:
        line = bisect_right(self.line_starts, position)
        column = position - self.line_starts[line - 1] + 1
        return InvalidTemplate(self.first_line - 1 + line, column, problem, remedy)

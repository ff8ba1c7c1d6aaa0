r"""How is the text of a mapping template read?

The grammar is Velocity 1.7's, as far as templates for API Gateway use it, with its ways of eating
white space: a directive takes the rest of its line if that is blank, and `#set` the blanks before
it unless they end a text. Backslashes escape references and known directives, and are plain text
before anything else.

A reference that opens an argument list or an index must close it; so must `${`. All else that is
no directive is text, as in Velocity: `#1f2937`, `$5`, `#unknown(1)`. Macros are such unknowns:
API Gateway lets a template define them, and prints their calls. `#include`, `#parse` and
`#evaluate` are refused, since a template that needs them cannot work.

https://velocity.apache.org/engine/1.7/vtl-reference.html
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from wsgateway.vtl.errors import InvalidTemplate
from wsgateway.vtl.syntax import (
    Block,
    Break,
    Call,
    Chain,
    Define,
    Expression,
    Foreach,
    If,
    Index,
    Interpolated,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Not,
    Output,
    Property,
    RangeOf,
    Reference,
    Set,
    Statement,
    Stop,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# The API Gateway quota "mapping template size: 300 KB".
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
TEMPLATE_SIZE_MAX: Final = 300 * 1024
# Blocks, parentheses, argument lists, quotes within each other. At up to a dozen frames a level
# this stays far from the recursion limit.
NESTING_MAX: Final = 32

_PLAIN = re.compile(r"[^$#\\]+")
_BACKSLASHES = re.compile(r"\\+")
_BLANKS_BEFORE_SET = re.compile(r"[ \t]+(?=#(?:set|\{set\})[ \t]*\()")
_REST_OF_LINE = re.compile(r"[ \t]*(?:\r\n|\n|\r)")
_LINE_COMMENT = re.compile(r"##[^\r\n]*(?:\r\n|\n|\r)?")
_REFERENCE = re.compile(r"\$(?P<quiet>!?)(?P<brace>\{?)(?P<name>[A-Za-z_][A-Za-z0-9_-]*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PROPERTY = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)")
# What is not followed by one of these is no argument list, but text after a property.
_ARGUMENTS = re.compile(r"""\((?=\s*(?:[)"'$\[{(!]|-?[0-9]|(?:true|false|null|not)\b))""")
_DIRECTIVE = re.compile(r"#(?:\{([A-Za-z]+)\}|([A-Za-z][A-Za-z0-9_]*))")
_PARENTHESIS = re.compile(r"[ \t]*\(")
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![A-Za-z_])")
_WORD = re.compile(r"(true|false|null)(?![A-Za-z0-9_-])")
_NOT = re.compile(r"!(?!=)|not(?![A-Za-z0-9_-])")
_NEGATIVE = re.compile(r"-(?=[0-9.])")
# Possessive: two quotes are never taken for an end, and nothing is tried twice.
_SINGLE_QUOTED = re.compile(r"'([^']*+(?:''[^']*+)*+)'")
_DOUBLE_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
_UNICODE = re.compile(r"\\u([0-9A-Fa-f]{4})")
_IN = re.compile(r"\s+in(?![A-Za-z0-9_-])")
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

_REFUSED: Final = frozenset({"include", "parse", "evaluate"})
_BLOCK_ENDS: Final = frozenset({"end", "else", "elseif"})
_WITH_PARENTHESIS: Final = frozenset({"set", "if", "foreach", "define", "macro", *_REFUSED})
_KNOWN: Final = frozenset({*_WITH_PARENTHESIS, *_BLOCK_ENDS, "stop", "break"})

_Ending: TypeAlias = "tuple[str, int]"


def parse(text: str) -> Block:
    """Return the statements of a template.

    Raises:
        InvalidTemplate: Says where, why, and what to write instead.
    """
    if len(text) > TEMPLATE_SIZE_MAX:
        raise InvalidTemplate(
            1, 1, f"it has more than {TEMPLATE_SIZE_MAX} characters", "shorten it"
        )
    return _Parser(text).template()


class _Parser:
    def __init__(self, text: str, line: int = 1, nesting: int = 0) -> None:
        self.text = text
        self.position = 0
        self.nesting = nesting
        self.first_line = line
        self.line_starts = [0, *(match.end() for match in re.finditer(r"\n", text))]
        # The directives that have a way of their own; `#set` and the rest are no different.
        self.directives: dict[str, Callable[[int], Statement | None]] = {
            "set": self._set,
            "if": self._if,
            "foreach": self._foreach,
            "define": self._define,
            "macro": self._macro,
            "break": self._break,
            "stop": self._stop,
        }

    def template(self) -> Block:
        block, (ending, start) = self._block()
        if ending:
            self._fail(start, f"#{ending} ends nothing", "take it out, or open an #if before it")
        return block

    def _block(self) -> tuple[Block, _Ending]:
        """Return the statements up to `#end`, `#else` or `#elseif`, and which one where.

        The ending is read, and nothing after it. It is empty at the end of the text.
        """
        self._enter(self.position)
        line = self._line(self.position)
        statements: list[Statement] = []
        pieces: list[str] = []
        ending: _Ending = ("", self.position)
        is_after_plain = False
        while self.position < len(self.text):
            if not is_after_plain and (
                blanks := _BLANKS_BEFORE_SET.match(self.text, self.position)
            ):
                self.position = blanks.end()
            if plain := _PLAIN.match(self.text, self.position):
                pieces.append(plain[0])
                self.position = plain.end()
                is_after_plain = True
                continue
            is_after_plain = False
            start = self.position
            outcome = self._special()
            if isinstance(outcome, str):
                pieces.append(outcome)
                continue
            if pieces and (text := "".join(pieces)):
                statements.append(Text(text))
            pieces = []
            if isinstance(outcome, tuple):
                literal, name = outcome
                if literal:
                    statements.append(Text(literal))
                ending = (name, start)
                break
            statements += outcome
        if pieces and (text := "".join(pieces)):
            statements.append(Text(text))
        self.nesting -= 1
        return Block(tuple(statements), line), ending

    def _special(self) -> str | tuple[str, str] | list[Statement]:
        """Read what begins with a backslash, a dollar or a hash.

        Returns:
            Text; or the text before a block's ending and its name; or statements, none for a
            comment.
        """
        escapes = 0
        if backslashes := _BACKSLASHES.match(self.text, self.position):
            escapes = len(backslashes[0])
            self.position = backslashes.end()
        if self.text.startswith("$", self.position):
            reference = self._reference_or_text()
            if isinstance(reference, str):
                return "\\" * escapes + reference
            return [Output(reference, escapes)]
        if not self.text.startswith("#", self.position):
            return "\\" * escapes
        return self._hash(escapes)

    def _hash(self, escapes: int) -> str | tuple[str, str] | list[Statement]:
        if escapes == 0 and (comment := self._comment()) is not None:
            return comment
        directive = _DIRECTIVE.match(self.text, self.position)
        name = directive[directive.lastindex or 1] if directive else ""
        if directive is None:
            self.position += 1
            return "\\" * escapes + "#"
        if not self._is_directive(name, directive.end()):
            self.position = directive.end()
            return "\\" * escapes + directive[0]
        kept = "\\" * (escapes // 2)
        if escapes % 2:
            self.position = directive.end()
            return kept + directive[0]
        return self._directive(name, directive, kept)

    def _directive(
        self, name: str, directive: re.Match[str], kept: str
    ) -> tuple[str, str] | list[Statement]:
        start = directive.start()
        if name in _REFUSED:
            self._fail(start, f"#{name} is not available", "write what it would bring in here")
        self.position = directive.end()
        if name in _BLOCK_ENDS:
            if name != "elseif":
                self._skip_rest_of_line()
            return kept, name
        statement = self.directives[name](start)
        before: list[Statement] = [Text(kept)] if kept else []
        return before if statement is None else [*before, statement]

    def _is_directive(self, name: str, end: int) -> bool:
        if name not in _KNOWN:
            return False
        if name in {"if", "elseif", "foreach", "define", "macro"}:
            return True
        # Without its parenthesis `#set` is text.
        return name not in _WITH_PARENTHESIS or _PARENTHESIS.match(self.text, end) is not None

    def _comment(self) -> str | list[Statement] | None:
        """Read a comment, or text that says it is no template; None when it is neither."""
        start = self.position
        if line := _LINE_COMMENT.match(self.text, start):
            self.position = line.end()
            return []
        if self.text.startswith("#*", start):
            end = self.text.find("*#", start + 2)
            if end < 0:
                self._fail(start, "this comment has no end", "put *# after it")
            self.position = end + 2
            return []
        if self.text.startswith("#[[", start):
            end = self.text.find("]]#", start + 3)
            if end < 0:
                self._fail(start, "this literal text has no end", "put ]]# after it")
            self.position = end + 3
            return self.text[start + 3 : end]
        return None

    def _set(self, _start: int) -> Statement:
        self._open("#set($name = value)")
        target = self._reference("#set assigns to a reference", "write #set($name = value)")
        self._require("=", "#set has no =", "write #set($name = value)")
        value = self._expression()
        self._close_directive()
        return Set(target, value)

    def _if(self, start: int) -> Statement:
        branches: list[tuple[Expression, Block]] = []
        otherwise = Block((), self._line(start))
        ending = "elseif"
        while ending == "elseif":
            self._open("#if($name == value)")
            condition = self._expression()
            self._close_directive()
            block, (ending, _) = self._block()
            branches.append((condition, block))
        if ending == "else":
            otherwise, (ending, at) = self._block()
            if ending in {"else", "elseif"}:
                self._fail(at, f"#{ending} follows #else", "put #else last")
        self._check_end(ending, start, "#if")
        return If(tuple(branches), otherwise)

    def _foreach(self, start: int) -> Statement:
        remedy = "write #foreach($item in $list)"
        self._open("#foreach($item in $list)")
        variable = self._reference("#foreach has no loop variable", remedy)
        if variable.steps:
            self._fail(start, "the loop variable of #foreach has a property", remedy)
        separator = _IN.match(self.text, self.position)
        if separator is None:
            self._fail(self.position, '#foreach has no "in"', remedy)
        self.position = separator.end()
        iterable = self._expression()
        self._close_directive()
        block = self._body("#foreach", start)
        return Foreach(variable.name, iterable, block, self._line(start))

    def _define(self, start: int) -> Statement:
        self._open("#define($name)")
        target = self._reference("#define has no name", "write #define($name)")
        self._close_directive()
        return Define(target.name, self._body("#define", start))

    def _macro(self, start: int) -> None:
        """Read a macro and forget it."""
        end = self.text.find(")", self.position)
        if end < 0:
            self._fail(start, "#macro has no parenthesis", "write #define($name) instead")
        self.position = end + 1
        self._skip_rest_of_line()
        self._body("#macro", start)

    def _break(self, _start: int) -> Statement:
        self._skip_rest_of_line()
        return Break()

    def _stop(self, _start: int) -> Statement:
        self._skip_rest_of_line()
        return Stop()

    def _body(self, directive: str, start: int) -> Block:
        block, (ending, at) = self._block()
        if ending in {"else", "elseif"}:
            self._fail(at, f"#{ending} has no #if", f"end {directive} before it")
        self._check_end(ending, start, directive)
        return block

    def _check_end(self, ending: str, start: int, directive: str) -> None:
        if not ending:
            self._fail(start, f"this {directive} has no end", "put #end after it")

    def _open(self, form: str) -> None:
        self._require("(", "a parenthesis is missing", f"write {form}")

    def _close_directive(self) -> None:
        self._require(")", "this is not where the directive can end", "put ) after its expression")
        self._skip_rest_of_line()

    def _skip_rest_of_line(self) -> None:
        if rest := _REST_OF_LINE.match(self.text, self.position):
            self.position = rest.end()

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
        block = _Parser(content, self._line(start), self.nesting).template()
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

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
from typing import TYPE_CHECKING, Final, TypeAlias

from wsgateway.vtl.errors import InvalidTemplate
from wsgateway.vtl.expressions import ExpressionParser
from wsgateway.vtl.syntax import (
    Block,
    Break,
    Define,
    Expression,
    Foreach,
    If,
    Output,
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

_PLAIN = re.compile(r"[^$#\\]+")
_BACKSLASHES = re.compile(r"\\+")
_BLANKS_BEFORE_SET = re.compile(r"[ \t]+(?=#(?:set|\{set\})[ \t]*\()")
_REST_OF_LINE = re.compile(r"[ \t]*(?:\r\n|\n|\r)")
_LINE_COMMENT = re.compile(r"##[^\r\n]*(?:\r\n|\n|\r)?")
_DIRECTIVE = re.compile(r"#(?:\{([A-Za-z]+)\}|([A-Za-z][A-Za-z0-9_]*))")
_PARENTHESIS = re.compile(r"[ \t]*\(")
_IN = re.compile(r"\s+in(?![A-Za-z0-9_-])")

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


class _Parser(ExpressionParser):
    def __init__(self, text: str, line: int = 1, nesting: int = 0) -> None:
        super().__init__(text, line, nesting)
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

    def _template_in(self, content: str, start: int) -> Block:
        return _Parser(content, self._line(start), self.nesting).template()

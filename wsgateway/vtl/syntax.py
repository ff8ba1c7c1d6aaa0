"""What a mapping template consists of, once it is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# A chain may be as long as the template: it is evaluated in a loop, not by recursion.


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a boolean, null, or text without references."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Interpolated:
    """Text in double quotes: a template of its own."""

    block: Block


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[1, 2]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class RangeOf:
    """`[first..last]`, downwards if `last` is less."""

    first: Expression
    last: Expression


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{"a": 1}`."""

    members: tuple[tuple[Expression, Expression], ...]


@dataclass(frozen=True, slots=True)
class Property:
    """`.name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """`.name(arguments)`."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """`[index]`."""

    index: Expression


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable and the steps into it.

    Attributes:
        name: The variable.
        steps: From left to right.
        text: As written: what is printed when it has no value.
        is_quiet: Written `$!`: nothing is printed when it has no value.
        line: Where.
    """

    name: str
    steps: tuple[Property | Call | Index, ...]
    text: str
    is_quiet: bool
    line: int


@dataclass(frozen=True, slots=True)
class Not:
    """`!operand`."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Logic:
    """Operands joined by `&&`, or by `||`."""

    is_and: bool
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """Operands joined by operators of one precedence, evaluated from the left."""

    first: Expression
    rest: tuple[tuple[str, Expression], ...]


Expression: TypeAlias = (
    "Literal | Interpolated | ListOf | RangeOf | MapOf | Reference | Not | Logic | Chain"
)


@dataclass(frozen=True, slots=True)
class Text:
    """What is printed as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """A reference in the text; `escapes` backslashes stood before it."""

    reference: Reference
    escapes: int


@dataclass(frozen=True, slots=True)
class Set:
    """`#set($target = value)`."""

    target: Reference
    value: Expression


@dataclass(frozen=True, slots=True)
class If:
    """`#if`, its `#elseif`s and `#else`."""

    branches: tuple[tuple[Expression, Block], ...]
    otherwise: Block


@dataclass(frozen=True, slots=True)
class Foreach:
    """`#foreach($variable in iterable)`."""

    variable: str
    iterable: Expression
    block: Block
    line: int


@dataclass(frozen=True, slots=True)
class Define:
    """`#define($name)`: a block that is rendered where the variable is printed."""

    name: str
    block: Block


@dataclass(frozen=True, slots=True)
class Break:
    """`#break`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """`#stop`."""


Statement: TypeAlias = "Text | Output | Set | If | Foreach | Define | Break | Stop"


@dataclass(frozen=True, slots=True)
class Block:
    """Statements in order, and the line of the first."""

    statements: tuple[Statement, ...]
    line: int

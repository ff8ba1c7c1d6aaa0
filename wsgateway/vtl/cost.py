"""How many steps does a node of a template take, apart from the blocks inside it?"""

from __future__ import annotations

from wsgateway.vtl.syntax import (
    Call,
    Chain,
    Expression,
    Foreach,
    If,
    Index,
    ListOf,
    Logic,
    MapOf,
    Not,
    Output,
    Property,
    RangeOf,
    Reference,
    Set,
    Statement,
)


def steps_of(node: Statement | Expression) -> int:  # noqa: PLR0911 - one for each kind
    """Return the steps of a node: its own and its operands', not those of blocks inside."""
    match node:
        case Output(reference):
            return 1 + steps_of(reference)
        case Set(target, value):
            return 1 + steps_of(target) + steps_of(value)
        case If(branches):
            return 1 + sum(steps_of(condition) for condition, _ in branches)
        case Foreach(iterable=iterable):
            return 1 + steps_of(iterable)
        case Reference(steps=steps):
            return 1 + sum(map(_steps_into, steps))
        case ListOf(items) | Logic(operands=items):
            return 1 + sum(map(steps_of, items))
        case MapOf(members):
            return 1 + sum(steps_of(key) + steps_of(value) for key, value in members)
        case RangeOf(first, last):
            return 1 + steps_of(first) + steps_of(last)
        case Chain(first, rest):
            return 1 + steps_of(first) + sum(1 + steps_of(operand) for _, operand in rest)
        case Not(operand):
            return 1 + steps_of(operand)
        case _:
            return 1


def _steps_into(step: Property | Call | Index) -> int:
    match step:
        case Property():
            return 1
        case Index(index):
            return 1 + steps_of(index)
        case Call(_, arguments):
            return 2 + sum(map(steps_of, arguments))

"""How is a parsed template turned into functions that render it?

Every node becomes a closure, so that rendering decides nothing that was known when compiling. The
steps that a block's own nodes take are counted once, when it begins.
"""

from __future__ import annotations

from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Final, TypeAlias

from wsgateway.vtl import java
from wsgateway.vtl.cost import steps_of
from wsgateway.vtl.java import JavaList, are_equal, calculate, compare, to_text
from wsgateway.vtl.methods import Object, call, element_of, property_of, set_member
from wsgateway.vtl.rendering import DEFINE_DEPTH_MAX, Rendering
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
from wsgateway.vtl.variables import GatewayVariable

if TYPE_CHECKING:
    from collections.abc import Callable

Writer: TypeAlias = "Callable[[Rendering], None]"
_Getter: TypeAlias = "Callable[[Rendering], object]"
_Test: TypeAlias = "Callable[[Rendering], bool]"
_Step: TypeAlias = "Callable[[Rendering, object], object]"

# API Gateway: "#foreach: 1,000 iterations". Velocity, told so, ends the loop there without a word.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
ITERATIONS_MAX: Final = 1000

_ORDERS: Final = {"lt": lt, "le": le, "gt": gt, "ge": ge}


class Broken(Exception):
    """`#break`: the loop ends, or the template where there is none."""


class Stopped(Exception):
    """`#stop`: the template ends."""


class Loop(Object):
    """`$foreach`."""

    __slots__ = ("index", "parent", "size")

    def __init__(self, size: int, parent: object) -> None:
        self.size = size
        self.index = 0
        self.parent = parent

    def member(self, name: str) -> object:
        read = _LOOP_MEMBERS.get(name)
        return None if read is None else read(self)


_LOOP_MEMBERS: Final[dict[str, Callable[[Loop], object]]] = {
    "count": lambda loop: loop.index + 1,
    "index": lambda loop: loop.index,
    "hasNext": lambda loop: loop.index + 1 < loop.size,
    "first": lambda loop: loop.index == 0,
    "last": lambda loop: loop.index + 1 == loop.size,
    "parent": lambda loop: loop.parent,
}


def compile_block(block: Block) -> Writer:
    """Return the function that writes a block."""
    writers = [_writer(statement) for statement in block.statements]
    steps = 1 + sum(map(steps_of, block.statements))
    line = block.line

    def write(rendering: Rendering) -> None:
        rendering.line = line
        rendering.steps -= steps
        if rendering.steps < 0:
            rendering.spend(0)
        for writer in writers:
            writer(rendering)

    return write


def _writer(statement: Statement) -> Writer:  # noqa: PLR0911 - one for each kind
    match statement:
        case Text(text):
            return lambda rendering: rendering.write(text)
        case Output():
            return _output(statement)
        case Set():
            return _assignment(statement)
        case If():
            return _if(statement)
        case Foreach():
            return _foreach(statement)
        case Define(name, block):
            return _definition(name, compile_block(block))
        case Break():
            return _break
        case Stop():
            return _stop


def _output(output: Output) -> Writer:
    reference, escapes = output.reference, output.escapes
    get = _reference(reference)
    name, line = reference.name, reference.line
    # Backslashes before what has no value escape nothing: all is printed as written.
    missing = "\\" * escapes + ("" if reference.is_quiet and not escapes else reference.text)

    def write(rendering: Rendering) -> None:
        rendering.line = line
        value = get(rendering)
        if type(value) is str:
            rendering.write(value)
        elif value is None:
            if not isinstance(rendering.variables.get(name), GatewayVariable):
                rendering.write(missing)
        elif isinstance(value, java.Block):
            value.write(rendering)
        else:
            rendering.write(to_text(rendering, value))

    if escapes == 0:
        return write
    kept = "\\" * (escapes // 2)
    is_escaped = escapes % 2 == 1

    def write_escaped(rendering: Rendering) -> None:
        if get(rendering) is None:
            write(rendering)
        elif is_escaped:
            rendering.write(kept + reference.text)
        else:
            rendering.write(kept)
            write(rendering)

    return write_escaped


def _assignment(statement: Set) -> Writer:
    target = statement.target
    name, line = target.name, target.line
    value_of = _getter(statement.value)
    if not target.steps:

        def assign(rendering: Rendering) -> None:
            rendering.line = line
            value = value_of(rendering)
            # Velocity leaves the variable as it is.
            if value is not None:
                rendering.variables[name] = value

        return assign
    holder = _reference(
        Reference(name, target.steps[:-1], target.text, target.is_quiet, target.line)
    )
    match target.steps[-1]:
        case Property(key):
            key_of: _Getter = _constant(key)
        case Index(index):
            key_of = _getter(index)
        case Call():
            return lambda _rendering: None

    def assign_member(rendering: Rendering) -> None:
        rendering.line = line
        value = value_of(rendering)
        if value is not None:
            set_member(rendering, holder(rendering), key_of(rendering), value)

    return assign_member


def _if(statement: If) -> Writer:
    branches = [(_test(condition), compile_block(block)) for condition, block in statement.branches]
    otherwise = compile_block(statement.otherwise)

    def write(rendering: Rendering) -> None:
        for test, block in branches:
            if test(rendering):
                block(rendering)
                return
        otherwise(rendering)

    return write


def _foreach(statement: Foreach) -> Writer:
    variable, line = statement.variable, statement.line
    iterable_of = _getter(statement.iterable)
    block = compile_block(statement.block)
    names = (variable, "foreach", "velocityCount", "velocityHasNext")

    def write(rendering: Rendering) -> None:
        rendering.line = line
        elements = _elements(rendering, iterable_of(rendering))
        if not elements:
            return
        variables = rendering.variables
        outer = [(name, variables[name]) for name in names if name in variables]
        loop = Loop(len(elements), variables.get("foreach"))
        variables["foreach"] = loop
        try:
            for index, element in enumerate(elements[:ITERATIONS_MAX]):
                loop.index = index
                variables["velocityCount"] = index + 1
                variables["velocityHasNext"] = index + 1 < loop.size
                variables[variable] = element
                block(rendering)
        except Broken:
            pass
        for name in names:
            variables.pop(name, None)
        variables.update(outer)

    return write


def _elements(rendering: Rendering, iterable: object) -> list[object]:
    """Return what a loop goes through: a list's elements, a map's values, else nothing."""
    match iterable:
        case list():
            # A copy, since the loop may add to the list.
            rendering.spend(len(iterable) >> 6)
            return list(iterable)
        case dict():
            rendering.spend(len(iterable) >> 6)
            return list(iterable.values())
        case GatewayVariable():
            return _elements(rendering, call(rendering, iterable, "values", []))
        case _:
            return []


def _definition(name: str, block: Writer) -> Writer:
    def write(rendering: Rendering) -> None:
        if rendering.depth >= DEFINE_DEPTH_MAX:
            raise rendering.fault(f"#define nests deeper than {DEFINE_DEPTH_MAX}")
        rendering.depth += 1
        try:
            block(rendering)
        finally:
            rendering.depth -= 1

    defined = java.Block(write)

    def define(rendering: Rendering) -> None:
        rendering.variables[name] = defined

    return define


def _break(_rendering: Rendering) -> None:
    raise Broken


def _stop(_rendering: Rendering) -> None:
    raise Stopped


def _getter(expression: Expression) -> _Getter:  # noqa: PLR0911 - one for each kind
    """Return the function that evaluates an expression."""
    match expression:
        case Literal(value):
            return _constant(value)
        case Interpolated(block):
            write = compile_block(block)
            return lambda rendering: rendering.capture(write)
        case Reference():
            return _reference(expression)
        case ListOf(items):
            return _list(tuple(map(_getter, items)))
        case MapOf(members):
            return _map(tuple((_getter(key), _getter(value)) for key, value in members))
        case RangeOf(first, last):
            return _range(_getter(first), _getter(last))
        case Chain():
            return _chain(expression)
        case Not() | Logic():
            return _test(expression)


def _constant(value: object) -> _Getter:
    return lambda _rendering: value


def _list(items: tuple[_Getter, ...]) -> _Getter:
    def get(rendering: Rendering) -> object:
        rendering.make_elements(len(items))
        return JavaList([item(rendering) for item in items])

    return get


def _map(members: tuple[tuple[_Getter, _Getter], ...]) -> _Getter:
    def get(rendering: Rendering) -> object:
        values: dict[object, object] = {}
        for key, value in members:
            set_member(rendering, values, key(rendering), value(rendering))
        return values

    return get


def _range(first_of: _Getter, last_of: _Getter) -> _Getter:
    def get(rendering: Rendering) -> object:
        first, last = first_of(rendering), last_of(rendering)
        if not (isinstance(first, int) and isinstance(last, int)):
            return None
        rendering.make_elements(abs(last - first) + 1)
        return JavaList(range(first, last + 1) if first <= last else range(first, last - 1, -1))

    return get


def _chain(chain: Chain) -> _Getter:
    value_of = _getter(chain.first)
    text = _text(chain.first)
    links = tuple(
        (_BINARY[name](name), _getter(operand), _text(operand)) for name, operand in chain.rest
    )

    def get(rendering: Rendering) -> object:
        value = value_of(rendering)
        for apply, operand_of, operand_text in links:
            operand = operand_of(rendering)
            if apply is _add:
                # Beside a text, what has no value is as it is written.
                if value is None and isinstance(operand, str):
                    value = text
                elif operand is None and isinstance(value, str):
                    operand = operand_text
            value = apply(rendering, value, operand)
        return value

    return get


def _text(operand: Expression) -> str:
    return operand.text if isinstance(operand, Reference) else "null"


_Binary: TypeAlias = "Callable[[Rendering, object, object], object]"


def _add(rendering: Rendering, left: object, right: object) -> object:
    return calculate(rendering, "add", left, right)


def _arithmetic(name: str) -> _Binary:
    if name == "add":
        return _add
    return lambda rendering, left, right: calculate(rendering, name, left, right)


def _order(name: str) -> _Binary:
    holds = _ORDERS[name]

    def apply(_rendering: Rendering, left: object, right: object) -> bool:
        # What is no number is in no order; Velocity says false.
        order = compare(left, right)
        return order is not None and holds(order, 0)

    return apply


def _equality(name: str) -> _Binary:
    if name == "eq":
        return are_equal
    return lambda rendering, left, right: not are_equal(rendering, left, right)


_BINARY: Final[dict[str, Callable[[str], _Binary]]] = {
    **dict.fromkeys(("eq", "ne"), _equality),
    **dict.fromkeys(_ORDERS, _order),
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "remainder"), _arithmetic),
}


def _test(expression: Expression) -> _Test:
    """Return the function that says whether an expression holds.

    In Velocity 1.7 a reference holds unless it is false or has no value. No other value does:
    `#if("text")` and `#if(1)` are false.
    """
    match expression:
        case Reference():
            get = _reference(expression)
            return lambda rendering: _holds(get(rendering))
        case Not(operand):
            test = _test(operand)
            return lambda rendering: not test(rendering)
        case Logic(is_and, operands):
            tests = tuple(map(_test, operands))
            if is_and:
                return lambda rendering: all(test(rendering) for test in tests)
            return lambda rendering: any(test(rendering) for test in tests)
        case Chain() | Literal():
            value_of = _getter(expression)
            return lambda rendering: value_of(rendering) is True
        case _:
            value_of = _getter(expression)

            def never(rendering: Rendering) -> bool:
                value_of(rendering)
                return False

            return never


def _holds(value: object) -> bool:
    return value is not None and value is not False


def _reference(reference: Reference) -> _Getter:
    name = reference.name
    if not reference.steps:
        return lambda rendering: _or_empty(rendering, rendering.variables.get(name))
    steps = tuple(map(_step, reference.steps))

    def get(rendering: Rendering) -> object:
        value = rendering.variables.get(name)
        for step in steps:
            if value is None:
                break
            value = step(rendering, value)
        return _or_empty(rendering, value)

    return get


def _or_empty(rendering: Rendering, value: object) -> object:
    return "" if value is None and rendering.is_lenient else value


def _step(step: Property | Call | Index) -> _Step:
    match step:
        case Property(name):
            return lambda _rendering, value: property_of(value, name)
        case Index(index):
            index_of = _getter(index)
            return lambda rendering, value: element_of(rendering, value, index_of(rendering))
        case Call(name, arguments):
            getters = tuple(map(_getter, arguments))
            return lambda rendering, value: call(
                rendering, value, name, [get(rendering) for get in getters]
            )

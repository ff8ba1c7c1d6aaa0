"""Which values does a filter keep?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from wsgateway.json_path.steps import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wsgateway.json_path.steps import Step, Visits

# Of the value that is looked at, and the document.
Operand: TypeAlias = "Callable[[object, object, Visits], object]"


def passing(test: Operand) -> Step:
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


def relative(steps: tuple[Step, ...], *, from_root: bool) -> Operand:
    def find(node: object, root: object, visits: Visits) -> object:
        visits.spend()
        nodes = [root if from_root else node]
        for step in steps:
            nodes = step(nodes, root, visits)
        return nodes[0] if nodes else MISSING

    return find


def constant(value: object) -> Operand:
    return lambda _node, _root, _visits: value


def existence(operand: Operand) -> Operand:
    return lambda node, root, visits: operand(node, root, visits) is not MISSING


def negation(test: Operand) -> Operand:
    return lambda node, root, visits: not test(node, root, visits)


def any_of(tests: list[Operand]) -> Operand:
    return lambda node, root, visits: any(test(node, root, visits) for test in tests)


def all_of(tests: list[Operand]) -> Operand:
    return lambda node, root, visits: all(test(node, root, visits) for test in tests)


def comparison(operator: str, left: Operand, right: Operand) -> Operand:
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

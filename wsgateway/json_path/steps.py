"""What does each step of a path find in a document?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A message of 128 KiB has 65,536 values at most. A deep scan looks at each up to three times: as
# what its container holds, as a container, and as what is selected.
VISITS_MAX: Final = 200_000


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


Step: TypeAlias = "Callable[[list[object], object, Visits], list[object]]"


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A compiled path.

    Attributes:
        text: As it was written.
        is_definite: Whether it finds one value, not a list.
    """

    text: str
    is_definite: bool
    _steps: tuple[Step, ...] = field(compare=False, repr=False)

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


def child(name: str) -> Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes))
        return [node[name] for node in nodes if isinstance(node, dict) and name in node]

    return step


def children(names: list[str]) -> Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes) * len(names))
        return [
            node[name] for node in nodes if isinstance(node, dict) for name in names if name in node
        ]

    return step


def members(names: list[str]) -> Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes) * len(names))
        return [
            {name: node[name] for name in names if name in node}
            for node in nodes
            if isinstance(node, dict)
        ]

    return step


def element(index: int) -> Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        visits.spend(len(nodes))
        return [
            node[index]
            for node in nodes
            if isinstance(node, list) and -len(node) <= index < len(node)
        ]

    return step


def elements(indexes: list[int]) -> Step:
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


def sliced(start: int | None, end: int | None) -> Step:
    def step(nodes: list[object], _root: object, visits: Visits) -> list[object]:
        found: list[object] = []
        for node in nodes:
            if isinstance(node, list):
                part = node[start:end]
                visits.spend(1 + len(part))
                found += part
        return found

    return step


def wildcard(nodes: list[object], _root: object, visits: Visits) -> list[object]:
    found: list[object] = []
    for node in nodes:
        inner = _inner(node)
        visits.spend(1 + len(inner))
        found += inner
    return found


def descend(nodes: list[object], _root: object, visits: Visits) -> list[object]:
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


def length(nodes: list[object], _root: object, visits: Visits) -> list[object]:
    visits.spend(len(nodes))
    return [len(node) if isinstance(node, dict | list | str) else None for node in nodes]

"""What one render has made so far, and what it may still do.

A template, and the message it is applied to, can ask for any amount of work. So a render has
budgets, counted and not timed: the same render always fits them or always fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wsgateway.vtl.errors import TemplateFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A step is a node of the template evaluated, or about a microsecond of work in a method. A loop
# over 1,000 elements with forty references is 80,000 steps. The dearest renders known take 0.2 s.
STEPS_MAX: Final = 200_000
# One value, or the output. A message has 128 KiB, and escaping it can make six of one character.
VALUE_SIZE_MAX: Final = 1024 * 1024
# All values that are ever made, whether still in use or not: building a list of a message's parts
# in a loop makes each beginning anew.
MADE_MAX: Final = 32 * 1024 * 1024
# `#define` within `#define`: 20, as Velocity bounds the depth of its macros.
DEFINE_DEPTH_MAX: Final = 20
# What a list's place or a map's entry counts.
ELEMENT_SIZE: Final = 64

# Below this a text's own bytes are not worth counting: the steps bound them.
_SMALL: Final = 64


class Rendering:
    """The variables and output of one render, and its budgets.

    Attributes:
        variables: What references resolve to.
        out: The pieces of the text being made: the output, or a value's.
        size: Their length.
        line: The line being rendered, for faults.
        depth: How many `#define`d blocks are being rendered within each other.
        patterns: The regular expressions that were paid for.
        is_lenient: Whether a reference without a value is the empty text.
    """

    __slots__ = (
        "depth",
        "is_lenient",
        "line",
        "made",
        "out",
        "patterns",
        "size",
        "steps",
        "variables",
    )

    def __init__(self, variables: Mapping[str, object], *, is_lenient: bool) -> None:
        self.variables: dict[str, object] = dict(variables)
        self.out: list[str] = []
        self.size = 0
        self.line = 1
        self.depth = 0
        self.is_lenient = is_lenient
        self.patterns: set[str] = set()
        self.steps = STEPS_MAX
        self.made = MADE_MAX

    def write(self, text: str) -> None:
        """Append to the output."""
        self.size += len(text)
        if self.size > VALUE_SIZE_MAX:
            raise self.fault(f"it makes a text of more than {VALUE_SIZE_MAX} characters")
        self.out.append(text)

    def capture(self, write: Callable[[Rendering], None]) -> str:
        """Return what a block writes, and leave the output as it is."""
        outer, self.out = self.out, []
        outer_size, self.size = self.size, 0
        try:
            write(self)
            return self.keep("".join(self.out))
        finally:
            self.out, self.size = outer, outer_size

    def spend(self, steps: int) -> None:
        """Count work."""
        self.steps -= steps
        if self.steps < 0:
            raise self.fault(f"it takes more than {STEPS_MAX} steps")

    def keep(self, text: str) -> str:
        """Count a text that was made, and return it."""
        if len(text) > _SMALL:
            self.check_size(len(text))
            self.make(len(text) if text.isascii() else 4 * len(text))
        return text

    def check_size(self, size: int) -> None:
        """Refuse a text of this many characters if it is too long; call it before making one."""
        if size > VALUE_SIZE_MAX:
            raise self.fault(f"it makes a text of more than {VALUE_SIZE_MAX} characters")

    def make(self, size: int) -> None:
        """Count bytes that are about to be made."""
        self.made -= size
        if self.made < 0:
            raise self.fault(f"the values it makes have more than {MADE_MAX} bytes")

    def make_elements(self, count: int) -> None:
        """Count places of a list or a map that are about to be made."""
        self.make(ELEMENT_SIZE * count)
        self.spend(count >> 4)

    def fault(self, problem: str) -> TemplateFault:
        """Return the fault of the line being rendered."""
        return TemplateFault(self.line, problem)

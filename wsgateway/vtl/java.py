"""How do values print, compare and calculate in Velocity, which is Java?

| Python | Java |
| --- | --- |
| str | String |
| int | Integer, Long or BigInteger, whichever has room |
| float | Double |
| bool, None | Boolean, null |
| dict | a map |
| `JavaList` | a list that the template made: prints `[a, b]` |
| list | an array of the message: prints as JSON, as json-smart's `JSONArray` does |
| `Block` | what `#define` made: prints what the block renders |

Lists and maps can hold themselves, and can be trees of a million leaves in twenty assignments. So
whatever walks them counts steps.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.vtl.rendering import Rendering

# More than any message nests; what the templates' own values nest deeper holds itself.
_DEPTH_MAX: Final = 64
# As an order of magnitude, 300 digits.
_BITS_MAX: Final = 1024
# `Double.toString` writes exponents from 10^7 on, and below 10^-3.
_PLAIN_MAX: Final = 1e7
_PLAIN_MIN: Final = 1e-3


class JavaList(list[object]):
    """A list that the template made, or that a method returned."""

    __slots__ = ()


class Entry:
    """A member of a map."""

    __slots__ = ("key", "value")

    def __init__(self, key: object, value: object) -> None:
        self.key = key
        self.value = value


class Block:
    """What `#define` made."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[Rendering], None]) -> None:
        self.write = write


class Printable:
    """What prints itself: the gateway's own variables."""

    __slots__ = ()

    def text(self) -> object:
        """Return the value to print in its place."""
        return ""


def to_text(rendering: Rendering, value: object) -> str:
    """Return what Java's `String.valueOf` makes of a value."""
    match value:
        case str():
            return value
        case bool() | int() | float() | None:
            return _scalar(rendering, value)
        case Block():
            return rendering.capture(value.write)
        case _:
            printer = _Printer(rendering)
            printer.print(value, 0, in_json=False)
            return rendering.keep("".join(printer.pieces))


def _scalar(rendering: Rendering, value: object) -> str:
    if isinstance(value, float):
        return _double(value)
    if value is None:
        return "null"
    if isinstance(value, int) and value.bit_length() > _BITS_MAX:
        # Digits of a message, up to Python's bound of 4,300; printing them takes 0.1 ms.
        rendering.spend(value.bit_length() >> 5)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _double(value: float) -> str:
    """Return a number as `Double.toString` does: `1.0`, `1.0E10`, `1.0E-4`, `NaN`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0 or _PLAIN_MIN <= abs(value) < _PLAIN_MAX:
        return repr(value)
    exact = Decimal(repr(value))
    digits = "".join(map(str, exact.as_tuple().digits)).rstrip("0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{exact.adjusted()}"


class _Printer:
    """Collects the text of a value, piece by piece."""

    def __init__(self, rendering: Rendering) -> None:
        self.rendering = rendering
        self.pieces: list[str] = []
        self.size = 0

    def print(self, value: object, depth: int, *, in_json: bool) -> None:
        self.rendering.spend(2)
        if depth > _DEPTH_MAX:
            raise self.rendering.fault(
                "a list or a map holds itself, or nests too deep to be printed"
            )
        match value:
            case str():
                self._add(self._json_text(value) if in_json else value)
            case bool() | int() | float() | None:
                self._add(_scalar(self.rendering, value))
            case JavaList() if not in_json:
                self._list(value, depth, ", ", in_json=False)
            case list():
                self._list(value, depth, ",", in_json=True)
            case dict():
                self._map(value, depth, in_json=in_json)
            case Entry():
                self.print(value.key, depth + 1, in_json=False)
                self._add("=")
                self.print(value.value, depth + 1, in_json=False)
            case Printable():
                self.print(value.text(), depth + 1, in_json=in_json)
            case Block():
                self._add(to_text(self.rendering, value))
            case _:
                pass

    def _list(self, value: list[object], depth: int, separator: str, *, in_json: bool) -> None:
        self._add("[")
        for index, item in enumerate(value):
            if index:
                self._add(separator)
            self.print(item, depth + 1, in_json=in_json)
        self._add("]")

    def _map(self, value: dict[object, object], depth: int, *, in_json: bool) -> None:
        self._add("{")
        for index, (key, item) in enumerate(value.items()):
            if index:
                self._add("," if in_json else ", ")
            self.print(key, depth + 1, in_json=in_json)
            self._add(":" if in_json else "=")
            self.print(item, depth + 1, in_json=in_json)
        self._add("}")

    def _json_text(self, value: str) -> str:
        """Return a text as json-smart writes it, which escapes `/` too."""
        self.rendering.spend(len(value) >> 4)
        return f'"{value.translate(_JSON_ESCAPES)}"'

    def _add(self, piece: str) -> None:
        self.size += len(piece)
        self.rendering.check_size(self.size)
        self.pieces.append(piece)


_JSON_ESCAPES: Final = str.maketrans(
    {
        '"': r"\"",
        "\\": r"\\",
        "/": r"\/",
        "\b": r"\b",
        "\f": r"\f",
        "\n": r"\n",
        "\r": r"\r",
        "\t": r"\t",
        **{
            chr(code): f"\\u{code:04X}"
            for code in (*range(0x20), *range(0x7F, 0xA0))
            if chr(code) not in "\b\f\n\r\t"
        },
    }
)


def are_equal(rendering: Rendering, left: object, right: object) -> bool:
    """Compare as `==` does: numbers by value, like with like, and anything else by its text."""
    if left is None or right is None:
        return left is right
    if _is_number(left) and _is_number(right):
        return left == right
    if isinstance(left, str) and isinstance(right, str):
        rendering.spend(len(left) >> 10)
        return left == right
    if isinstance(left, list | dict) and isinstance(right, list | dict):
        return equals(rendering, left, right)
    return to_text(rendering, left) == to_text(rendering, right)


def equals(rendering: Rendering, left: object, right: object, depth: int = 0) -> bool:
    """Compare as `equals` does: 1 is neither 1.0 nor "1"; lists and maps by what they hold."""
    rendering.spend(2)
    if depth > _DEPTH_MAX:
        raise rendering.fault("a list or a map holds itself, or nests too deep to be compared")
    match left:
        case list():
            return (
                isinstance(right, list)
                and len(left) == len(right)
                and all(
                    equals(rendering, mine, other, depth + 1)
                    for mine, other in zip(left, right, strict=False)
                )
            )
        case dict():
            return (
                isinstance(right, dict)
                and len(left) == len(right)
                and all(
                    key in right and equals(rendering, mine, right[key], depth + 1)
                    for key, mine in left.items()
                )
            )
        case str():
            rendering.spend(len(left) >> 10)
            return isinstance(right, str) and left == right
        case bool() | int() | float() | None:
            return type(left) is type(right) and left == right
        case _:
            return left is right


def compare(left: object, right: object) -> int | None:
    """Return which of two numbers is the greater: negative, 0, positive; None unless numbers."""
    if not (_is_number(left) and _is_number(right)):
        return None
    assert isinstance(left, int | float)
    assert isinstance(right, int | float)
    return (left > right) - (left < right)


def calculate(rendering: Rendering, operator: str, left: object, right: object) -> object:
    """Return the result of arithmetic, None when there is none; `+` joins texts too."""
    if operator == "add" and (isinstance(left, str) or isinstance(right, str)):
        first, second = to_text(rendering, left), to_text(rendering, right)
        rendering.check_size(len(first) + len(second))
        return rendering.keep(first + second)
    if not (_is_number(left) and _is_number(right)):
        return None
    assert isinstance(left, int | float)
    assert isinstance(right, int | float)
    try:
        result = _ARITHMETIC[operator](left, right)
    except ZeroDivisionError:
        return None
    except OverflowError:
        raise rendering.fault("a number is too large to calculate with") from None
    if isinstance(result, int) and result.bit_length() > _BITS_MAX:
        raise rendering.fault(f"it makes a number of more than {_BITS_MAX} bits")
    return result


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _divide(left: float, right: float) -> float:
    """Divide; integers towards zero."""
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _remainder(left: float, right: float) -> float:
    """Return what a division towards zero leaves."""
    if isinstance(left, int) and isinstance(right, int):
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return math.fmod(left, right) if right else left % right


_ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "add": lambda left, right: left + right,
    "subtract": lambda left, right: left - right,
    "multiply": lambda left, right: left * right,
    "divide": _divide,
    "remainder": _remainder,
}

"""Which methods and properties have the values of a template, and what do they do?

Nothing else can be reached: names are looked up in the tables below, never among Python's
attributes. A method that Java does not have, or not for these arguments, is no value, as in
Velocity. What throws in Java fails the render.

Texts are sequences of code points here, and of UTF-16 units in Java: beyond the Basic Multilingual
Plane, lengths and positions differ. And `1`, `1.0` and `true` are one key of a map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from wsgateway.vtl import regex
from wsgateway.vtl.java import Entry, JavaList, compare, equals, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wsgateway.vtl.rendering import Rendering

# What Velocity makes of a method that returns nothing.
_VOID: Final = ""


class Method(NamedTuple):
    """A method: the Python types of its parameters, and what it does."""

    parameters: tuple[type, ...]
    run: Callable[..., object]


Methods = dict[str, tuple[Method, ...]]


def call(rendering: Rendering, value: object, name: str, arguments: list[object]) -> object:
    """Return what a method returns, None if there is none of this name for these arguments."""
    methods = methods_of(value).get(name, ())
    for parameters, run in methods:
        if len(parameters) == len(arguments) and all(map(_fits, arguments, parameters)):
            return run(rendering, value, *arguments)
    if None in arguments and not isinstance(value, Object):
        # Java would call it, and fail.
        for parameters, _ in methods:
            if len(parameters) == len(arguments) and all(map(_could_fit, arguments, parameters)):
                raise rendering.fault(f"{name}() was given no value")
    return None


def property_of(value: object, name: str) -> object:
    """Return a property, None if there is none."""
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, Object):
        return value.member(name)
    if name == "empty" and isinstance(value, list | str):
        return not value
    if isinstance(value, Entry):
        return {"key": value.key, "value": value.value}.get(name)
    return None


def element_of(rendering: Rendering, value: object, index: object) -> object:
    """Return what an index in brackets names: the member of a map, the element of a list."""
    if isinstance(value, list):
        if isinstance(index, int) and not isinstance(index, bool):
            return _list_get(rendering, value, index + len(value) if index < 0 else index)
        return None
    if isinstance(value, dict):
        return value.get(index) if _is_key(index) else None
    if isinstance(value, Object) and isinstance(index, str):
        return value.member(index)
    return None


def set_member(rendering: Rendering, value: object, key: object, member: object) -> None:
    """Assign a member of a map or an element of a list; anything else stays as it is."""
    match value:
        case dict():
            _map_put(rendering, value, key, member)
        case list() if isinstance(key, int) and not isinstance(key, bool):
            _list_set(rendering, value, key + len(value) if key < 0 else key, member)
        case Object():
            raise rendering.fault("this variable of the gateway cannot be assigned to")
        case _:
            pass


class Object:
    """What has members and methods of its own: the gateway's variables, `$foreach`."""

    __slots__ = ()

    methods: Methods = {}  # noqa: RUF012

    def member(self, name: str) -> object:
        """Return a property, None if there is none."""
        raise NotImplementedError


def methods_of(value: object) -> Methods:
    """Return the methods of a value by their names."""
    if isinstance(value, Object):
        return value.methods
    return _METHODS.get(type(value), _NO_METHODS)


def _fits(argument: object, parameter: type) -> bool:
    if parameter is object:
        return True
    if parameter is int:
        return isinstance(argument, int) and not isinstance(argument, bool)
    return isinstance(argument, parameter)


def _could_fit(argument: object, parameter: type) -> bool:
    return argument is None or _fits(argument, parameter)


def _is_key(value: object) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _check_key(rendering: Rendering, key: object) -> None:
    if not _is_key(key):
        raise rendering.fault("a map's key is a list or a map")


def _bounds(rendering: Rendering, index: int, size: int) -> None:
    if not 0 <= index < size:
        raise rendering.fault(f"index {index} is out of bounds for length {size}")


# Texts.


def _scan(rendering: Rendering, text: str, *others: str) -> None:
    """Count the time that reading a text takes."""
    rendering.spend(1 + (len(text) >> 8) + sum(map(len, others)) // 4096)


def _substring(rendering: Rendering, text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= end <= len(text):
        raise rendering.fault(f"begin {start}, end {end}, length {len(text)} name no substring")
    return rendering.keep(text[start:end])


def _char_at(rendering: Rendering, text: str, index: int) -> str:
    _bounds(rendering, index, len(text))
    return text[index]


def _replace(rendering: Rendering, text: str, old: str, new: str) -> str:
    _scan(rendering, text)
    rendering.check_size(len(text) + text.count(old) * (len(new) - len(old)))
    return rendering.keep(text.replace(old, new))


def _concat(rendering: Rendering, text: str, other: str) -> str:
    rendering.check_size(len(text) + len(other))
    return rendering.keep(text + other)


def _hash_code(rendering: Rendering, text: str) -> int:
    code = 0
    rendering.spend(len(text))
    for character in text:
        code = (31 * code + ord(character)) & 0xFFFFFFFF
    return code - (1 << 32) if code >> 31 else code


def _cased(change: Callable[[str], str]) -> Callable[[Rendering, str], str]:
    def run(rendering: Rendering, text: str) -> str:
        _scan(rendering, text)
        return rendering.keep(change(text))

    return run


def _tested(test: Callable[[str, str], bool | int]) -> Callable[[Rendering, str, str], object]:
    def run(rendering: Rendering, text: str, other: str) -> object:
        _scan(rendering, text, other)
        return test(text, other)

    return run


def _equals_ignoring_case(rendering: Rendering, text: str, other: str) -> bool:
    if len(text) != len(other):
        return False
    rendering.spend(1 + (len(text) >> 4))
    return text.lower() == other.lower()


def _index_of(rendering: Rendering, text: str, other: str, start: int) -> int:
    _scan(rendering, text, other)
    return text.find(other, max(0, min(start, len(text))))


def _compare_texts(left: str, right: str) -> int:
    """Return how far apart the first two different characters are, else the two lengths."""
    same, different = 0, min(len(left), len(right))
    if left[:different] == right[:different]:
        return len(left) - len(right)
    while different - same > 1:
        middle = (same + different) // 2
        if left[same:middle] == right[same:middle]:
            same = middle
        else:
            different = middle
    return ord(left[same]) - ord(right[same])


def _replace_all(rendering: Rendering, text: str, pattern: str, replacement: str) -> str:
    return regex.replace(rendering, text, pattern, replacement, is_all=True)


def _replace_first(rendering: Rendering, text: str, pattern: str, replacement: str) -> str:
    return regex.replace(rendering, text, pattern, replacement, is_all=False)


def _split(rendering: Rendering, text: str, pattern: str) -> JavaList:
    return JavaList(regex.split(rendering, text, pattern))


def _trim(text: str) -> str:
    return text.strip("".join(map(chr, range(0x21))))


# Lists.


def _list_get(rendering: Rendering, values: list[object], index: int) -> object:
    _bounds(rendering, index, len(values))
    return values[index]


def _list_set(rendering: Rendering, values: list[object], index: int, value: object) -> object:
    _bounds(rendering, index, len(values))
    before = values[index]
    values[index] = value
    return before


def _list_add(rendering: Rendering, values: list[object], value: object) -> bool:
    rendering.make_elements(1)
    values.append(value)
    return True


def _list_insert(rendering: Rendering, values: list[object], index: int, value: object) -> str:
    _bounds(rendering, index, len(values) + 1)
    rendering.make_elements(1)
    rendering.spend(len(values) >> 8)
    values.insert(index, value)
    return _VOID


def _list_add_all(rendering: Rendering, values: list[object], more: list[object]) -> bool:
    rendering.make_elements(len(more))
    values.extend(list(more))
    return bool(more)


def _list_find(rendering: Rendering, values: list[object], value: object) -> int:
    for index, candidate in enumerate(values):
        if equals(rendering, candidate, value):
            return index
    return -1


def _list_find_last(rendering: Rendering, values: list[object], value: object) -> int:
    for index in range(len(values) - 1, -1, -1):
        if equals(rendering, values[index], value):
            return index
    return -1


def _list_contains(rendering: Rendering, values: list[object], value: object) -> bool:
    return _list_find(rendering, values, value) >= 0


def _list_remove_at(rendering: Rendering, values: list[object], index: int) -> object:
    _bounds(rendering, index, len(values))
    rendering.spend(len(values) >> 8)
    return values.pop(index)


def _list_remove(rendering: Rendering, values: list[object], value: object) -> bool:
    index = _list_find(rendering, values, value)
    if index >= 0:
        values.pop(index)
    return index >= 0


def _sub_list(rendering: Rendering, values: list[object], start: int, end: int) -> list[object]:
    if not 0 <= start <= end <= len(values):
        raise rendering.fault(f"from {start} to {end} of length {len(values)} is no part of a list")
    rendering.make_elements(end - start)
    return type(values)(values[start:end])


# Maps.


def _map_get(
    _rendering: Rendering, members: dict[object, object], key: object, default: object = None
) -> object:
    return members.get(key, default) if _is_key(key) else default


def _map_put(
    rendering: Rendering, members: dict[object, object], key: object, value: object
) -> object:
    _check_key(rendering, key)
    rendering.make_elements(2)
    before = members.get(key)
    members[key] = value
    return before


def _map_put_all(
    rendering: Rendering, members: dict[object, object], more: dict[object, object]
) -> str:
    rendering.make_elements(2 * len(more))
    members.update(more)
    return _VOID


def _clear(_rendering: Rendering, values: list[object] | dict[object, object]) -> str:
    values.clear()
    return _VOID


def _map_remove(_rendering: Rendering, members: dict[object, object], key: object) -> object:
    return members.pop(key, None) if _is_key(key) else None


def _map_contains_value(rendering: Rendering, members: dict[object, object], value: object) -> bool:
    return any(equals(rendering, candidate, value) for candidate in members.values())


def key_set(rendering: Rendering, members: Mapping[object, object]) -> JavaList:
    """Return the keys in their order."""
    rendering.make_elements(len(members))
    return JavaList(members)


def values_of(rendering: Rendering, members: Mapping[object, object]) -> JavaList:
    """Return the values in their order."""
    rendering.make_elements(len(members))
    return JavaList(members.values())


def entry_set(rendering: Rendering, members: Mapping[object, object]) -> JavaList:
    """Return the entries in their order."""
    rendering.make_elements(2 * len(members))
    return JavaList(Entry(key, value) for key, value in members.items())


# Numbers.


def _wrap(bits: int) -> Callable[[Rendering, float], int]:
    """Return the conversion to an integer of so many bits; it saturates a float, as Java's does."""
    top = 1 << (bits - 1)

    def run(_rendering: Rendering, number: float) -> int:
        if isinstance(number, int):
            return (number + top) % (2 * top) - top
        if number != number:  # noqa: PLR0124 - that is NaN
            return 0
        return max(-top, min(top - 1, int(max(-(2.0**bits), min(2.0**bits, number)))))

    return run


def _to_double(rendering: Rendering, number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        raise rendering.fault("a number is too large to calculate with") from None


def _compare_numbers(_rendering: Rendering, number: float, other: float) -> int | None:
    return compare(number, other) if type(number) is type(other) else None


def _size(_rendering: Rendering, value: list[object] | dict[object, object] | str) -> int:
    return len(value)


def _is_empty(_rendering: Rendering, value: object) -> bool:
    return not value


_NO_METHODS: Final[Methods] = {}

# What every value has.
_ANY: Final[Methods] = {
    "toString": (Method((), to_text),),
    "equals": (Method((object,), equals),),
}

_TEXT: Final[Methods] = _ANY | {
    "charAt": (Method((int,), _char_at),),
    "compareTo": (Method((str,), _tested(_compare_texts)),),
    "concat": (Method((str,), _concat),),
    "contains": (Method((str,), _tested(lambda text, other: other in text)),),
    "endsWith": (Method((str,), _tested(str.endswith)),),
    "equalsIgnoreCase": (Method((str,), _equals_ignoring_case),),
    "hashCode": (Method((), _hash_code),),
    "indexOf": (Method((str,), _tested(str.find)), Method((str, int), _index_of)),
    "isEmpty": (Method((), _is_empty),),
    "lastIndexOf": (Method((str,), _tested(str.rfind)),),
    "length": (Method((), _size),),
    "matches": (Method((str,), regex.matches),),
    "replace": (Method((str, str), _replace),),
    "replaceAll": (Method((str, str), _replace_all),),
    "replaceFirst": (Method((str, str), _replace_first),),
    "split": (Method((str,), _split),),
    "startsWith": (Method((str,), _tested(str.startswith)),),
    "substring": (Method((int,), _substring), Method((int, int), _substring)),
    "toLowerCase": (Method((), _cased(str.lower)),),
    "toUpperCase": (Method((), _cased(str.upper)),),
    "trim": (Method((), _cased(_trim)),),
}

_LIST: Final[Methods] = _ANY | {
    "add": (Method((object,), _list_add), Method((int, object), _list_insert)),
    "addAll": (Method((list,), _list_add_all),),
    "clear": (Method((), _clear),),
    "contains": (Method((object,), _list_contains),),
    "get": (Method((int,), _list_get),),
    "indexOf": (Method((object,), _list_find),),
    "isEmpty": (Method((), _is_empty),),
    # Velocity's #foreach takes an iterator for what it iterates over.
    "iterator": (Method((), lambda _rendering, values: values),),
    "lastIndexOf": (Method((object,), _list_find_last),),
    "remove": (Method((int,), _list_remove_at), Method((object,), _list_remove)),
    "set": (Method((int, object), _list_set),),
    "size": (Method((), _size),),
    "subList": (Method((int, int), _sub_list),),
}

_MAP: Final[Methods] = _ANY | {
    "clear": (Method((), _clear),),
    "containsKey": (
        Method((object,), lambda _rendering, members, key: _is_key(key) and key in members),
    ),
    "containsValue": (Method((object,), _map_contains_value),),
    "entrySet": (Method((), entry_set),),
    "get": (Method((object,), _map_get),),
    "getOrDefault": (Method((object, object), _map_get),),
    "isEmpty": (Method((), _is_empty),),
    "keySet": (Method((), key_set),),
    "put": (Method((object, object), _map_put),),
    "putAll": (Method((dict,), _map_put_all),),
    "remove": (Method((object,), _map_remove),),
    "size": (Method((), _size),),
    "values": (Method((), values_of),),
}

_NUMBER: Final[Methods] = _ANY | {
    "compareTo": (Method((int,), _compare_numbers), Method((float,), _compare_numbers)),
    "doubleValue": (Method((), _to_double),),
    "floatValue": (Method((), _to_double),),
    "intValue": (Method((), _wrap(32)),),
    "longValue": (Method((), _wrap(64)),),
}

_METHODS: Final[dict[type, Methods]] = {
    str: _TEXT,
    list: _LIST,
    JavaList: _LIST,
    dict: _MAP,
    int: _NUMBER,
    float: _NUMBER,
    bool: _ANY | {"booleanValue": (Method((), lambda _rendering, value: value),)},
    Entry: _ANY
    | {
        "getKey": (Method((), lambda _rendering, entry: entry.key),),
        "getValue": (Method((), lambda _rendering, entry: entry.value),),
    },
}

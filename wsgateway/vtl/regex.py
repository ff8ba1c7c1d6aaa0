r"""Java's regular expressions, as far as they can be matched in linear time.

RE2 does the matching: no pattern and no text make it backtrack. What it cannot do it refuses, and
so do we: looking ahead and behind, references back to groups, possessive repetition. It reads all
else as Java does, except nested and intersected character classes, which are refused too.

Even so a replacement can take quadratic time: `a.*z|a` looks at the whole rest of a text before
each match. How far RE2 looks it does not tell, so a search counts the whole rest, unless the
pattern shows that it stops where its match does.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import re2  # type: ignore[import-untyped]  # it has no types of its own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wsgateway.vtl.rendering import Rendering

_PATTERN_SIZE_MAX: Final = 1000
# RE2's program for a pattern of ordinary size has some dozens of instructions. The worst patterns
# make it simulate them all for each byte.
_PROGRAM_SIZE_MAX: Final = 2000
_MEMORY_MAX: Final = 256 * 1024
# Steps for each pattern of a render, and for each of its characters: the dearest take 20 ms.
_COMPILING: Final = 5_000
_COMPILING_CHARACTER: Final = 20
# Bytes times instructions for one step of the budget, as measured for the worst patterns.
_WORK_PER_STEP: Final = 128
# UTF-8: 10xxxxxx continues a character.
_CONTINUATION_MASK: Final = 0xC0
_CONTINUATION: Final = 0x80

# Patterns that say one text: most of those in real templates.
_PLAIN_PATTERN = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\[^A-Za-z0-9])*", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# A class that holds an opening bracket or an intersection.
_NESTED_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\\[&]|&(?!&))*(\[|&&)?", re.DOTALL)
# One repeated atom at the end, and nothing but single characters and classes before it.
_ATOM = r"(?:\\[dDsSwW]|\\[^A-Za-z0-9]|\[(?:\\.|[^\]\\])+\]|[^\\^$.|?*+()\[\]{}])"
_STOPS_AT_ITS_END = re.compile(rf"{_ATOM}*(?:{_ATOM}[*+])?", re.DOTALL)
_GROUP_REFERENCE = re.compile(
    r"\\(.)|\$([0-9]{1,4})|\$\{([A-Za-z][A-Za-z0-9]*)\}|([\\$])", re.DOTALL
)


class _Pattern:
    """A compiled pattern.

    Attributes:
        compiled: What RE2 made of it.
        cost: Instructions simulated for each byte, at worst.
        stops_at_its_end: Whether a search looks no further than its match.
    """

    __slots__ = ("compiled", "cost", "stops_at_its_end")

    def __init__(self, text: str) -> None:
        options = re2.Options()
        options.max_mem = _MEMORY_MAX
        options.log_errors = False
        self.compiled = re2.compile(text, options)
        self.cost = self.compiled.programsize
        self.stops_at_its_end = bool(_STOPS_AT_ITS_END.fullmatch(text))


def _plain(rendering: Rendering, text: str) -> str | None:
    """Return the one text that a pattern matches, if it is as simple as that."""
    if len(text) > _PATTERN_SIZE_MAX:
        raise rendering.fault(f"a regular expression has more than {_PATTERN_SIZE_MAX} characters")
    rendering.spend(1 + (len(text) >> 4))
    return _ESCAPED.sub(r"\1", text) if text and _PLAIN_PATTERN.fullmatch(text) else None


def _pattern(rendering: Rendering, text: str) -> _Pattern:
    if text not in rendering.patterns:
        # As if it were compiled every time, so that what others render changes nothing.
        rendering.spend(_COMPILING + _COMPILING_CHARACTER * len(text))
        rendering.patterns.add(text)
    pattern = _compile(text)
    if isinstance(pattern, str):
        raise rendering.fault(f'the regular expression "{text}" {pattern}')
    return pattern


@lru_cache(maxsize=256)
def _compile(text: str) -> _Pattern | str:
    """Return the pattern, or why it is refused."""
    if any(match[1] for match in _NESTED_CLASS.finditer(text)):
        return "nests or intersects character classes"
    try:
        pattern = _Pattern(text)
    except (re2.error, UnicodeEncodeError):
        return "is none, looks around, refers back to a group, or repeats possessively"
    return pattern if pattern.cost <= _PROGRAM_SIZE_MAX else "is too large"


def matches(rendering: Rendering, text: str, pattern: str) -> bool:
    """Whether the whole text matches."""
    plain = _plain(rendering, pattern)
    if plain is not None:
        return text == plain
    compiled = _pattern(rendering, pattern)
    encoded = _encode(rendering, text)
    rendering.spend(len(encoded) * compiled.cost // _WORK_PER_STEP)
    return compiled.compiled.fullmatch(encoded) is not None


def replace(
    rendering: Rendering, text: str, pattern: str, replacement: str, *, is_all: bool
) -> str:
    """Return the text with matches replaced: all, or the first."""
    rendering.spend(len(text) >> 8)
    plain = _plain(rendering, pattern)
    if plain is not None and "\\" not in replacement and "$" not in replacement:
        count = text.count(plain) if is_all else 1
        rendering.check_size(len(text) + count * (len(replacement) - len(plain)))
        return rendering.keep(text.replace(plain, replacement, -1 if is_all else 1))
    compiled = _pattern(rendering, pattern)
    encoded = _encode(rendering, text)
    parts = _replacement_parts(rendering, compiled, replacement)
    pieces: list[bytes] = []
    size = 0
    kept_to = 0
    for match in _matches(rendering, compiled, encoded):
        start, kept_from = match.span()
        pieces.append(encoded[kept_to:start])
        for part in parts:
            piece = part if isinstance(part, bytes) else match.group(part) or b""
            pieces.append(piece)
            size += len(piece)
        rendering.spend(len(parts))
        rendering.check_size(size)
        kept_to = kept_from
        if not is_all:
            break
    pieces.append(encoded[kept_to:])
    return rendering.keep(b"".join(pieces).decode())


def split(rendering: Rendering, text: str, pattern: str) -> list[object]:
    """Return the parts between matches as Java does: empty ones at the end are left out."""
    rendering.spend(len(text) >> 8)
    plain = _plain(rendering, pattern)
    parts: list[object]
    if plain is not None:
        rendering.make_elements(text.count(plain) + 1)
        parts = list(text.split(plain))
    else:
        compiled = _pattern(rendering, pattern)
        encoded = _encode(rendering, text)
        parts = []
        kept_to = 0
        for match in _matches(rendering, compiled, encoded):
            start, end = match.span()
            # Java: a match without width at the beginning makes no part.
            if end > 0:
                rendering.make_elements(1)
                parts.append(encoded[kept_to:start].decode())
                kept_to = end
        parts.append(encoded[kept_to:].decode())
    if len(parts) > 1:
        while parts and parts[-1] == "":
            parts.pop()
    return parts


def _matches(rendering: Rendering, pattern: _Pattern, text: bytes) -> Iterator[re2._Match]:
    """Yield the matches from the left, each once, and none amid a character."""
    found = pattern.compiled.finditer(text)
    position = 0
    before = (-1, -1)
    while True:
        # Counted before the search, given back if it did not look so far.
        most = 1 + (len(text) - position) * pattern.cost // _WORK_PER_STEP
        rendering.spend(most)
        match = next(found, None)
        if match is None:
            return
        start, end = span = match.span()
        if pattern.stops_at_its_end:
            rendering.steps += most - 1 - (end - position) * pattern.cost // _WORK_PER_STEP
        if span == before:
            continue
        position, before = end, span
        if start == end < len(text) and text[start] & _CONTINUATION_MASK == _CONTINUATION:
            continue
        rendering.spend(2)
        yield match


def _replacement_parts(
    rendering: Rendering, pattern: _Pattern, replacement: str
) -> list[bytes | int]:
    """Return the texts and the numbers of groups that a replacement consists of."""
    rendering.spend(1 + len(replacement))
    parts: list[bytes | int] = []
    position = 0
    for match in _GROUP_REFERENCE.finditer(replacement):
        parts.append(_encode(rendering, replacement[position : match.start()]))
        position = match.end()
        escaped, digits, name, stray = match.groups()
        if escaped is not None:
            parts.append(_encode(rendering, escaped))
        elif digits is not None:
            number, rest = _group_number(digits, pattern.compiled.groups)
            if number > pattern.compiled.groups:
                raise rendering.fault(f"there is no group {number} to put in")
            parts += [number, rest.encode()]
        elif name is not None and name in pattern.compiled.groupindex:
            parts.append(pattern.compiled.groupindex[name])
        else:
            raise rendering.fault(f'"{stray or match[0]}" refers to no group')
    parts.append(_encode(rendering, replacement[position:]))
    return parts


def _group_number(digits: str, groups: int) -> tuple[int, str]:
    """Return the group that `$12` means, and the digits that are none of it."""
    taken = 1
    while taken < len(digits) and int(digits[: taken + 1]) <= groups:
        taken += 1
    return int(digits[:taken]), digits[taken:]


def _encode(rendering: Rendering, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise rendering.fault("half a surrogate pair cannot be searched in") from None

"""What does a message say, when it is JSON as API Gateway's permissive Java parser reads it?

Beyond RFC 8259 these are accepted, and nothing else:

- keys without quotes: `{action: "join"}`
- strings in single quotes: `{'action': 'join'}`
- a comma after the last member or element: `{"action": "join",}`
- a word as a value, inside an object or a list: `{"action": join}`. On its own it is no value: the
  message `ping` is not JSON.

A word is `[A-Za-z_$][A-Za-z0-9_$.-]*`; as a value it is none of `true`, `false`, `null`.

Libraries do not read this language. Those for JSON5 (pyjson5 is the well-kept one) know no words
as values, and accept what is not JSON here: comments, hexadecimal numbers, `+1`, `.5`.

Each relaxation concerns a single token. So those tokens are replaced by their strict counterparts,
and the parser of the standard library, unlike orjson able to keep the text of a number, does the
rest. That takes linear time: see the comments at `_TOKEN`.
"""

from __future__ import annotations

import re
from itertools import accumulate
from json import JSONDecodeError, JSONDecoder
from typing import Final, TypeAlias

# AWS documents no bound. This one is the gateway's, and keeps whatever walks a message's value
# far from Python's recursion limit.
DEPTH_MAX: Final = 32


class NotJson(ValueError):
    """The text is not JSON, or nests deeper than `DEPTH_MAX`."""


class NumberText(str):
    """A number as the client wrote it: `-0`, `1.0`, `1e5`, an integer of thirty digits."""

    __slots__ = ()


JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | NumberText | bool | None"

_DECODER = JSONDecoder(parse_int=NumberText, parse_float=NumberText)

# RFC 8259, section 2. Python's own idea of white space has more.
_SPACE = " \t\n\r"
_LITERALS = frozenset({"true", "false", "null"})
# Not the `e5` of `1e5`.
_WORD = r"(?<![0-9])[A-Za-z_$][A-Za-z0-9_$.-]*+"
_BARE_WORD = re.compile(_WORD)

# What must change on the way to strict JSON, and strings, so that nothing inside them is taken for
# a token. Two things keep it linear: every repetition is possessive, so nothing is matched a
# second time in another way; and the first quote without a partner ends the parse, so only one
# search for a partner can run to the end in vain. What is looked ahead over is white space.
_TOKEN = re.compile(
    rf"""
      (?P<string>    "[^"\\]*+(?:\\.[^"\\]*+)*+" )
    | (?P<single>    '[^'\\]*+(?:\\.[^'\\]*+)*+' )
    | (?P<key>       {_WORD}(?=[{_SPACE}]*+:) )
    | (?P<word>      {_WORD} )
    | (?P<trailing>  ,(?=[{_SPACE}]*+[\]}}]) )
    | (?P<fault>     ["'] | [\[{{][{_SPACE}]*+, )
    """,
    re.DOTALL | re.VERBOSE,
)

# A string that does not end takes the rest, so that no character is looked at twice.
_NOT_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.?+[^"\\]*+)*+"?+|[^"\[\]{}]++', re.DOTALL)
_DEPTH_STEPS = {"{": 1, "[": 1, "]": -1, "}": -1}


def parse(text: str) -> JsonValue:
    r"""Return what the text says; of equal keys the last one counts.

    Strings may hold lone surrogates, as in Java: `"\ud800"` is accepted, and is no UTF-8.

    Raises:
        NotJson: It is not JSON, or nests deeper than `DEPTH_MAX`.
    """
    text = text.strip(_SPACE)
    if _BARE_WORD.match(text) and text not in _LITERALS:
        raise NotJson("a word is a value only inside an object or a list")
    strict = _TOKEN.sub(_strict_token, text)
    if nests_too_deep(strict):
        raise NotJson(f"nests deeper than {DEPTH_MAX}")
    try:
        value: JsonValue = _DECODER.decode(strict)
    except JSONDecodeError as error:
        raise NotJson(error.msg) from error
    return value


def nests_too_deep(text: str) -> bool:
    """Whether strict JSON nests deeper than `DEPTH_MAX`; cheap when it has few brackets."""
    if text.count("{") + text.count("[") <= DEPTH_MAX:
        return False
    brackets = _NOT_BRACKETS.sub("", text)
    depths = accumulate(map(_DEPTH_STEPS.__getitem__, brackets), initial=0)
    return max(depths) > DEPTH_MAX


def _strict_token(match: re.Match[str]) -> str:
    token = match[0]
    match match.lastgroup:
        case "string":
            return token
        case "word" if token in _LITERALS:
            return token
        case "word" | "key":
            return f'"{token}"'
        case "single":
            return f'"{_requoted(token[1:-1])}"'
        case "trailing":
            return ""
        case _:
            raise NotJson("a comma follows no value" if token[-1] == "," else "a string has no end")


def _requoted(content: str) -> str:
    r"""Return the content of a single-quoted string as that of a double-quoted one.

    Between pairs of backslashes each backslash belongs to the character after it: `\'` may only
    stand between single quotes, a bare `"` only there too, and all other escapes are the same.
    """
    return r"\\".join(
        part.replace(r"\'", "'").replace(r"\"", '"').replace('"', r"\"")
        for part in content.split(r"\\")
    )

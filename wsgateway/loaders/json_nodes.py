"""Reading JSON with the line of every value, as the nodes that PyYAML makes of YAML.

YAML is said to contain JSON, but PyYAML refuses tabs before a value, and makes two characters of
what JSON writes as a pair of surrogates.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder

import yaml

_DECODER = JSONDecoder()
_TAG = "tag:yaml.org,2002:"
_SPACE = re.compile(r"[ \t\n\r]*+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?P<float>(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?)")
_LITERAL = re.compile(r"true|false|null")
_LITERAL_TAGS = {"true": "bool", "false": "bool", "null": "null"}


def compose_json(text: str) -> yaml.Node:
    """Return the node of a document.

    Raises:
        JSONDecodeError: It is not JSON.
        RecursionError: It is nested too deep.
    """
    composer = _Composer(text.removeprefix("\ufeff"))
    node = composer.value()
    composer.end()
    return node


class _Composer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 0
        self._skip_space()

    def value(self) -> yaml.Node:
        mark = self._mark()
        match self._text[self._at : self._at + 1]:
            case "{":
                return self._object(mark)
            case "[":
                return self._array(mark)
            case '"':
                return self._string(mark)
            case _:
                pass
        for pattern in (_LITERAL, _NUMBER):
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                self._skip_space()
                if pattern is _LITERAL:
                    return _scalar(_LITERAL_TAGS[match[0]], match[0], mark)
                return _scalar("float" if match["float"] else "int", match[0], mark)
        raise self._fault("a value is missing")

    def end(self) -> None:
        if self._at < len(self._text):
            raise self._fault("something follows the end")

    def _object(self, mark: yaml.Mark) -> yaml.Node:
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        self._take("{")
        while not self._taken("}"):
            if pairs:
                self._take(",")
            if not self._text.startswith('"', self._at):
                raise self._fault("a name in double quotes is missing")
            key = self._string(self._mark())
            self._take(":")
            pairs.append((key, self.value()))
        return yaml.MappingNode(f"{_TAG}map", pairs, mark)

    def _array(self, mark: yaml.Mark) -> yaml.Node:
        elements: list[yaml.Node] = []
        self._take("[")
        while not self._taken("]"):
            if elements:
                self._take(",")
            elements.append(self.value())
        return yaml.SequenceNode(f"{_TAG}seq", elements, mark)

    def _string(self, mark: yaml.Mark) -> yaml.ScalarNode:
        string, self._at = _DECODER.raw_decode(self._text, self._at)
        self._skip_space()
        return _scalar("str", string, mark)

    def _take(self, sign: str) -> None:
        if not self._taken(sign):
            raise self._fault(f"{sign} is missing")

    def _taken(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += 1
        self._skip_space()
        return True

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None, "it may be empty"
        self._at = space.end()
        # Nothing but space holds the end of a line.
        self._line += space[0].count("\n")

    def _mark(self) -> yaml.Mark:
        return yaml.Mark("", self._at, self._line, 0, None, 0)

    def _fault(self, problem: str) -> JSONDecodeError:
        return JSONDecodeError(problem, self._text, self._at)


def _scalar(kind: str, text: str, mark: yaml.Mark) -> yaml.ScalarNode:
    return yaml.ScalarNode(f"{_TAG}{kind}", text, mark)

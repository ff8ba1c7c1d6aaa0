"""The lenient parser: what it accepts, what it refuses, and that no text can keep it busy."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import example, given, settings, strategies as st

from wsgateway.api import lenient_json
from wsgateway.api.lenient_json import (
    JsonValue,
    NotJson,
    NumberText,
    nests_too_deep,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

T = TypeVar("T")

MESSAGE_SIZE_MAX = 128 * 1024

any_text = st.text(st.characters(exclude_categories=()))
# Everything that has a meaning in the grammar, so that examples come close to being JSON.
json_like_text = st.lists(
    st.sampled_from([*"{}[]:,'\"\\ \nabtu$-.0159eE+/é", "true", "null", "NaN", "a:", "'x'", '"y"'])
).map("".join)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
json_values = st.recursive(
    scalars | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=10,
)


def tagged(value: object) -> object:
    """The value with its types, because `NumberText("1") == "1"` and `True == 1`."""
    match value:
        case list():
            return [tagged(item) for item in value]
        case dict():
            return {name: tagged(member) for name, member in value.items()}
        case _:
            return type(value), value


def number_texts(value: object) -> object:
    """The value with each number as the text `json.dumps` gives it."""
    match value:
        case bool():
            return value
        case int() | float():
            return NumberText(json.dumps(value))
        case list():
            return [number_texts(item) for item in value]
        case dict():
            return {name: number_texts(member) for name, member in value.items()}
        case _:
            return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"action": "join"}', {"action": "join"}),
        (' \t\r\n{ "a" :\n[ ] } ', {"a": []}),
        ("[]", []),
        ("{}", {}),
        ('"join"', "join"),
        ("true", True),
        ("false", False),
        ("null", None),
        ('[true, false, null, "null"]', [True, False, None, "null"]),
        (r'"\"\\\/\b\f\n\r\t\u00e9"', '"\\/\b\f\n\r\té'),
        ('"\x7f\u2028"', "\x7f\u2028"),
    ],
)
def test_strict_json_is_accepted(text: str, value: JsonValue) -> None:
    assert tagged(parse(text)) == tagged(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{action: "test", data: "x"}', {"action": "test", "data": "x"}),
        ('{"action":"sendMessage", body:"hi"}', {"action": "sendMessage", "body": "hi"}),
        (
            '{ a_1 :1,$b:"c",_d-e.f\n: 2}',
            {"a_1": NumberText("1"), "$b": "c", "_d-e.f": NumberText("2")},
        ),
        ("{true: 1}", {"true": NumberText("1")}),
    ],
)
def test_keys_need_no_quotes(text: str, value: JsonValue) -> None:
    assert tagged(parse(text)) == tagged(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'action': 'join'}", {"action": "join"}),
        ("'join'", "join"),
        ("''", ""),
        (r"'it\'s'", "it's"),
        ("""'say "hi"'""", 'say "hi"'),
        (r"""'say \"hi\"'""", 'say "hi"'),
        (r"""'\\"\\\'\\\\'""", r"""\"\'\\"""),
        (r"'\u00e9\n'", "é\n"),
        ("""["it's", 'a: {b,]']""", ["it's", "a: {b,]"]),
    ],
)
def test_strings_may_have_single_quotes(text: str, value: JsonValue) -> None:
    assert tagged(parse(text)) == tagged(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["a",]', ["a"]),
        ('{"a":"b",}', {"a": "b"}),
        ('{"a": ["b" , \n ] , }', {"a": ["b"]}),
        ("""[",]", ',}',]""", [",]", ",}"]),
    ],
)
def test_a_comma_may_follow_the_last_element(text: str, value: JsonValue) -> None:
    assert tagged(parse(text)) == tagged(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{action: join}", {"action": "join"}),
        ("[send-message, $x, a.b, _1]", ["send-message", "$x", "a.b", "_1"]),
        ("[truest, true.x, True, NULL]", ["truest", "true.x", "True", "NULL"]),
        ("[NaN, Infinity, undefined]", ["NaN", "Infinity", "undefined"]),
        ("{a: true, b: null}", {"a": True, "b": None}),
    ],
)
def test_a_word_is_a_string_value(text: str, value: JsonValue) -> None:
    assert tagged(parse(text)) == tagged(value)


@pytest.mark.parametrize(
    "text",
    ["", " ", "hello", "ping", "join ", "true false", "True", "NaN", "hello {}", "nullify"],
)
def test_words_alone_are_no_message(text: str) -> None:
    with pytest.raises(NotJson):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("// c\n{}", "{}// c", "/* c */ {}", "[1 /* c */]", "# c\n{}"),
        *(
            "[0x1F]",
            "[+1]",
            "[.5]",
            "[5.]",
            "[01]",
            "[-]",
            "[1e]",
            "[1.e5]",
            "[-Infinity]",
            "[-NaN]",
        ),
        *("[,]", "{,}", "[ ,1]", "[1,,]", "[1,,2]", '{"a":,}', '{"a",}', '{"a":1,,}', "[}", "{]"),
        *("[a b]", "{a b: 1}", '["a" "b"]', "[1 2]", "[1a]", "[1 a]", "{1: 2}", "{a-: -b}", "[é]"),
        *("[http://x]", "{a}", "{a:}", "{:a}", "{a: b: c}", "[a: b]", '{"a": 1} x', "{} {}"),
        *('["', "['", "['\"]", "[\"']", r'["\"]', r"['\']", r"""["\'a']""", r"[\"a\"]", r"[\'a\']"),
        *(
            r'["\x41"]',
            r'["\'"]',
            r'["\u12"]',
            r"['\u12']",
            r"['\q']",
            '["\n"]',
            "['\t']",
            '["\x00"]',
        ),
        *("[", "{", "]", "}", "[1", '{"a":1', "[\u00a01]", "[\x0b1]", "\ufeff{}", "`a`", "[`a`]"),
    ],
)
def test_everything_else_is_not_json(text: str) -> None:
    with pytest.raises(NotJson):
        parse(text)


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "1", "1.0", "-1.50", "1e5", "1E+05", "1e400", "0.1e-7", "9" * 30, "-" + "9" * 30],
)
def test_numbers_keep_the_text_of_the_client(number: str) -> None:
    assert tagged(parse(number)) == (NumberText, number)
    assert tagged(parse(f"{{n: [ {number} ]}}")) == {"n": [(NumberText, number)]}


def test_an_integer_of_any_length_is_a_number() -> None:
    digits = "9" * 10_000  # More than Python's `int` would convert.

    assert parse(digits) == digits


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', "{a:1,'a':2}", '{a:1,"\\u0061":2}'])
def test_of_equal_keys_the_last_counts(text: str) -> None:
    assert parse(text) == {"a": NumberText("2")}


def test_lone_surrogates_are_accepted_and_pairs_are_joined() -> None:
    assert parse(r'["\ud800", "\udc00x", "\ud83d\ude00", "\ude00\ud83d"]') == [
        "\ud800",
        "\udc00x",
        "\U0001f600",
        "\ude00\ud83d",
    ]


@pytest.mark.parametrize(
    "deepest",
    [
        "[" * 32 + "]" * 32,
        "{a:" * 32 + "1" + "}" * 32,
        "[{'a':" * 16 + "1" + "}]" * 16,
        "[[]," * 31 + "[]" + "]" * 31,
    ],
)
def test_nesting_ends_at_32(deepest: str) -> None:
    parse(deepest)
    with pytest.raises(NotJson, match="nests deeper than 32"):
        parse(f"[{deepest}]")


@pytest.mark.parametrize(
    "string", ['"' + "[{" * 99 + '"', '"\\"' + "[" * 99 + '"', "'\"" + "{" * 99 + "'"]
)
def test_brackets_in_strings_do_not_nest(string: str) -> None:
    parse(f"[{string}]")


@pytest.mark.parametrize(
    ("text", "too_deep"),
    [
        ("[" * 32 + "]" * 32, False),
        ("[" * 33 + "]" * 33, True),
        ("[]" * 99, False),
        ('{"' + "[" * 99 + '":1}', False),
        ('["\\\\",' + "[" * 32 + "]" * 32 + "]", True),
    ],
)
def test_depth_is_counted_outside_strings(text: str, too_deep: bool) -> None:
    assert nests_too_deep(text) is too_deep


@pytest.mark.slow
@settings(deadline=None)
@given(json_values)
def test_json_means_the_same_as_to_the_standard_library(value: object) -> None:
    text = json.dumps(value)

    assert tagged(parse(text)) == tagged(number_texts(json.loads(text)))


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_is_a_round_trip(number: float) -> None:
    text = json.dumps(number)

    assert tagged(parse(text)) == (NumberText, text)
    assert type(number)(text) == number


class Reference:
    """The grammar written down once more, as a parser that recurses from character to character."""

    def __init__(self, text: str) -> None:
        self.rest = text.strip(" \t\n\r")

    def message(self) -> object:
        if re.match(r"[A-Za-z_$]", self.rest) and self.rest not in ("true", "false", "null"):
            raise NotJson
        value = self.value(1)
        return value if not self.rest else self.refuse()

    def value(self, depth: int) -> object:
        if self.rest[:1] in ("[", "{") and depth > 32:
            raise NotJson
        if self.take(r"\["):
            return self.items(r"\]", lambda: self.value(depth + 1))
        if self.take(r"\{"):
            return dict(self.items(r"\}", lambda: self.member(depth + 1)))
        if number := self.take(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"):
            return NumberText(number)
        if word := self.take(r"[A-Za-z_$][A-Za-z0-9_$.-]*"):
            return {"true": True, "false": False, "null": None}.get(word, word)
        return self.string()

    def items(self, end: str, item: Callable[[], T]) -> list[T]:
        items: list[T] = []
        while not self.take(end):
            items.append(item())
            if not self.take(","):
                return items if self.take(end) else self.refuse()
        return items

    def member(self, depth: int) -> tuple[str, object]:
        name = self.take(r"[A-Za-z_$][A-Za-z0-9_$.-]*") or self.string()
        if not self.take(":"):
            raise NotJson
        return name, self.value(depth)

    def string(self) -> str:
        escape = r"\\(?:[\\/bfnrt\"]|u[0-9a-fA-F]{4})"
        if token := self.take(rf'"(?:{escape}|[^"\\\x00-\x1f])*"'):
            return str(json.loads(token))
        if token := self.take(rf"'(?:{escape}|\\'|[^'\\\x00-\x1f])*'"):
            characters = re.findall(r"\\?.", token[1:-1])
            strict = {"\\'": "'", '"': '\\"'}
            return str(json.loads('"' + "".join(strict.get(c, c) for c in characters) + '"'))
        return self.refuse()

    def take(self, pattern: str) -> str:
        found = re.match(rf"(?:{pattern})(?=(.|\Z))", self.rest, re.DOTALL)
        if found is None:
            return ""
        self.rest = self.rest[found.end() :].lstrip(" \t\n\r")
        return found[0]

    def refuse(self) -> NoReturn:
        raise NotJson


def outcome(parser: Callable[[], object]) -> object:
    try:
        return tagged(parser())
    except NotJson:
        return NotJson


@pytest.mark.slow
@settings(deadline=None, max_examples=1000)
@given(json_like_text | any_text)
@example("[ \",\" ,',',]")
@example("['\"', \"'\"]")
@example("[\"a:'b'\", {a:[b,],},]")
@example(r"""['\\\'\\"',"\\"]""")
@example("[1true]")
@example("{1:2}")
@example("{a}")
@example("[" * 33)
def test_every_text_is_read_as_the_grammar_says(text: str) -> None:
    assert outcome(lambda: parse(text)) == outcome(Reference(text).message)


def quantifiers(pattern: str) -> list[str]:
    """The quantifiers of a pattern, without character classes and the `(?` of groups."""
    bare = re.sub(r"\\.|\[\^?(?:\\.|[^\]\\])+\]|\(\?", "x", pattern)
    return re.findall(r"[*+?}]\+?|\{", bare)


@pytest.mark.parametrize("pattern", [lenient_json._TOKEN, lenient_json._NOT_BRACKETS])
def test_nothing_is_matched_a_second_time_in_another_way(pattern: re.Pattern[str]) -> None:
    """Backtracking is what takes a regular expression more than linear time."""
    found = quantifiers(pattern.pattern)

    assert found
    assert all(quantifier in ("*+", "++", "?+") for quantifier in found)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_the_first_quote_without_a_partner_ends_the_parse(
    quote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for a partner that fails has run to the end, so there may be only one."""
    tokens: list[str] = []
    strict_token = lenient_json._strict_token

    def counted(match: re.Match[str]) -> str:
        tokens.append(match[0])
        return strict_token(match)

    monkeypatch.setattr(lenient_json, "_strict_token", counted)

    with pytest.raises(NotJson, match="a string has no end"):
        parse("[" + quote + f"\\{quote}" * 1000)
    assert tokens == [quote]


@pytest.mark.parametrize(
    "unit",
    [
        *("[", "{", "]", "[[],", "{a:", '{"a":[', "[{},", ",", "[ ,", "[,", ", ", "a:", "a ", "a,"),
        *('"', "'", '\\"', "\\'", "\\", '"\\', "'\\", "'\",", "\"',", "'',", "'\\\\',"),
        *("1", "-", "1a", "1e", "1.", "0a0", " ", "\n ", "\u2028", "\x00", "é", "\ud800", "/*"),
    ],
)
@pytest.mark.parametrize("before", ["", "[", "['"])
def test_a_message_full_of_anything_is_answered(before: str, unit: str) -> None:
    """128 KiB of it; a parser that recurses or takes quadratic time does not get through these."""
    text = (before + unit * (MESSAGE_SIZE_MAX // len(unit)))[:MESSAGE_SIZE_MAX]

    assert outcome(lambda: parse(text)) is NotJson or text == "1" * MESSAGE_SIZE_MAX

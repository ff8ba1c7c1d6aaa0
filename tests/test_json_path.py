"""JSONPath: what Jayway finds, what is refused, and that no document makes it dear."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import example, given, settings, strategies as st

from wsgateway.json_path import (
    MISSING,
    VISITS_MAX,
    CostlyPath,
    InvalidPath,
    Visits,
    compile_path,
)

DOCUMENT = json.loads("""{
    "a": 1, "b": [1, "x", null, true, 1.5], "c": {"d": "q", "a": {"a": 7}, "x y": 2},
    "store": {"book": [
        {"t": "A", "p": 8, "i": "1"}, {"t": "B", "p": 12.5}, {"t": "C", "p": 3, "s": [1, 2]}
    ]},
    "n": null, "user-id": 5, "e": [], "0": "zero"
}""")
BOOKS = DOCUMENT["store"]["book"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", DOCUMENT),
        ("$.a", 1),
        ("a", 1),
        ("c.d", "q"),
        ("$.c.a.a", 7),
        ("$['a']", 1),
        ('$["a"]', 1),
        ("$[ 'a' ]", 1),
        ("$['c']['x y']", 2),
        ("$.user-id", 5),
        ("$.0", "zero"),
        ("$.n", None),
        ("$.b", DOCUMENT["b"]),
        ("$.b[0]", 1),
        ("$.b[-1]", 1.5),
        ("$.store.book[0].t", "A"),
        ("$.store.book.length()", 3),
        ("$.c.size()", 3),
        ("$.a.length()", None),
        # Several names at the end make an object of those that exist.
        ("$['a', 'n']", {"a": 1, "n": None}),
        ("$['a','zz']", {"a": 1}),
    ],
)
def test_a_definite_path_finds_a_value(path: str, value: object) -> None:
    compiled = compile_path(path)

    assert compiled.is_definite
    assert compiled.find(DOCUMENT) == value


@pytest.mark.parametrize(
    "path",
    ["$.nope", "$.nope.x", "$.n.x", "$.a.x", "$.b.x", "$.a[0]", "$.b[9]", "$.b[-9]", "$.e[0]", "$[0]"],
)  # fmt: skip
def test_what_is_not_there_is_missing(path: str) -> None:
    assert compile_path(path).find(DOCUMENT) is MISSING


def test_missing_is_false_and_names_itself() -> None:
    assert not MISSING
    assert repr(MISSING) == "MISSING"


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$.b[0,1]", [1, "x"]),
        ("$.b[0 , 9]", [1]),
        ("$.b[1:3]", ["x", None]),
        ("$.b[:2]", [1, "x"]),
        ("$.b[-2:]", [True, 1.5]),
        ("$.b[ 1 : ]", ["x", None, True, 1.5]),
        ("$.a[:]", []),
        ("$.b[*]", DOCUMENT["b"]),
        ("$.c.*", ["q", {"a": 7}, 2]),
        ("$.c[*]", ["q", {"a": 7}, 2]),
        ("$.a.*", []),
        ("$.*.a", [{"a": 7}]),
        ("$.e[*]", []),
        ("$..a", [1, {"a": 7}, 7]),
        ("$..nope", []),
        ("$..[0]", [1, BOOKS[0], 1]),
        ("$..book[*].t", ["A", "B", "C"]),
        ("$.store..p", [8, 12.5, 3]),
        ("$.c.a..*", [7]),
        ("$['c','store']['d']", ["q"]),
        ("$.store.book[?(@.p < 10)].t", ["A", "C"]),
        ("$.store.book[?(@.p <= 8)].t", ["A", "C"]),
        ("$.store.book[?(@.p > $.a)].t", ["A", "B", "C"]),
        ("$.store.book[?(@.p >= 12.5)].t", ["B"]),
        ("$.store.book[?(@.p != 8)].t", ["B", "C"]),
        ("$.store.book[?(@.t > 'A')].t", ["B", "C"]),
        ("$.store.book[?(@.i)].t", ["A"]),
        ("$.store.book[?(!@.i)].t", ["B", "C"]),
        ("$.store.book[?(!(@.i))].t", ["B", "C"]),
        ("$.store.book[?(@.t == 'B' || @.p==3)].t", ["B", "C"]),
        ("$.store.book[?(@.t == 'B' && @.p==3)].t", []),
        ("$.store.book[?((@.t == 'A' || @.t == \"C\") && @.p < 5)].t", ["C"]),
        ("$.store.book[?(@.s[0] == 1)].t", ["C"]),
        ("$.store.book[?(@['t']=='A')].p", [8]),
        ("$.store.book[?(@.i == 1)].t", ["A"]),
        ("$.store.book[?(1 == @.i)].t", ["A"]),
        ("$.store.book[?(@.t == 1)].t", []),
        ("$.store.book[?(@.nope == null)].t", []),
        ("$.store.book[?(@.s == @.s)].t", []),
        ("$.b[?(@ == 'x')]", ["x"]),
        ("$.b[?(@ == null)]", [None]),
        ("$.b[?(@ == true)]", [True]),
        ("$.b[?(@ > 1)]", [1.5]),
        ("$.b[?(@ > false)]", []),
        ("$.c[?(@.d=='q')]", [DOCUMENT["c"]]),
        ("$.a[?(@.d=='q')]", []),
    ],
)
def test_an_indefinite_path_finds_a_list(path: str, values: list[object]) -> None:
    compiled = compile_path(path)

    assert not compiled.is_definite
    assert compiled.find(DOCUMENT) == values


def test_a_deep_scan_finds_everything_in_order() -> None:
    document = {"a": [{"b": 1}, 2], "c": {"b": [3]}}

    assert compile_path("$..*").find(document) == [
        [{"b": 1}, 2], {"b": [3]}, {"b": 1}, 2, 1, [3], 3
    ]  # fmt: skip
    assert compile_path("$..b").find(document) == [1, [3]]


def test_escaped_quotes_are_part_of_a_name() -> None:
    assert compile_path(r"$['it\'s']").find({"it's": 1}) == 1
    assert compile_path(r'$["a\\b"]').find({"a\\b": 1}) == 1


@pytest.mark.parametrize(
    ("path", "column", "problem"),
    [
        ("", 1, "a path begins with $"),
        ("@.a", 1, "a path begins with $"),
        ("[0]", 1, "a path begins with $"),
        ("$a", 2, "a step begins with a dot or a bracket"),
        ("$ .a", 2, "a step begins with a dot or a bracket"),
        ("$.", 3, "a name is missing"),
        ("$..", 4, "a name is missing"),
        ("$.a.", 5, "a name is missing"),
        ("$.c.x y", 6, "a name with blanks stands in brackets, as in ['a b']"),
        ("$.a.max()", 8, "the function max() is not supported"),
        ("$[", 3, "this bracket begins none of ['name'], [n], [n:m], [*], [?()]"),
        ("$[a]", 3, "this bracket begins none of ['name'], [n], [n:m], [*], [?()]"),
        ("$[(@.length-1)]", 3, "this bracket begins none of ['name'], [n], [n:m], [*], [?()]"),
        ("$[0", 4, "what begins with this bracket is none of ['name'], [n], [*], [?()]"),
        ("$['a", 3, "a name between quotes is missing, or its quote is not closed"),
        ("$[1234567890]", 3, "this bracket begins none of ['name'], [n], [n:m], [*], [?()]"),
        ("$[*", 4, "this bracket is not closed"),
        ("$[?@.a]", 4, "a filter stands between parentheses, as in [?(@.a == 1)]"),
        ("$[?(@.a == 1]", 13, "this filter is not closed"),
        ("$[?(@.a =~ /x/)]", 9, "this filter is not closed"),
        ("$[?(@.a in [1])]", 9, "this filter is not closed"),
        ("$[?((@.a)]", 10, "this filter is not closed"),
        ("$[?((@.a]", 9, "this parenthesis is not closed"),
        ("$[?(!= 1)]", 5, "a filter compares @.name, numbers, 'texts', true, false and null"),
        ("$[?(x)]", 5, "a filter compares @.name, numbers, 'texts', true, false and null"),
        ("$[?(@..a)]", 6, "a filter's own paths name one value: no deep scan"),
        ("$[?(@[*])]", 9, "a filter's own paths name one value"),
        ("$[?(@.length() > 1)]", 13, "the function length() is not supported"),
        ("$[?(" + "(" * 16 + "@.a", 21, "this filter nests deeper than 16"),
        ("$" + ".a" * 600, 1025, "it is longer than 1024 characters"),
    ],
)
def test_a_refusal_says_where_and_why(path: str, column: int, problem: str) -> None:
    with pytest.raises(InvalidPath) as caught:
        compile_path(path)

    assert (caught.value.column, caught.value.problem) == (column, problem)


def test_a_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(InvalidPath) as caught:
        compile_path("$.a.")

    sentence = 'the JSONPath "$.a." goes wrong at column 5: a name is missing'
    assert str(caught.value) == sentence
    assert str(pickle.loads(pickle.dumps(caught.value))) == sentence


def test_equal_paths_are_one() -> None:
    assert compile_path("$.a") is compile_path("$.a")
    assert repr(compile_path("$.a")) == "JsonPath(text='$.a', is_definite=True)"


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("$..*..*", nested(2000)),
        ("$..*..*..*", nested(200)),
        ("$..a..a..a", json.loads('{"a":' * 500 + "1" + "}" * 500)),
        ("$[" + ",".join("0" * 500) + "]..*", [[1] * 1000]),
        ("$..[?(@.a == 1)]", [[{"b": 1}] * 200000]),
    ],
)
def test_a_costly_path_is_cut_short(path: str, document: object) -> None:
    with pytest.raises(CostlyPath, match="visits too many values of this document"):
        compile_path(path).find(document)


def test_one_deep_scan_of_the_largest_message_is_allowed() -> None:
    widest = [0] * 65535
    emptiest = [[]] * 43000  # type: ignore[var-annotated]

    assert compile_path("$..*").find(widest) == widest
    assert compile_path("$..*").find(emptiest) == emptiest


def test_finds_can_share_their_visits() -> None:
    visits = Visits(10)

    assert compile_path("$[*]").find([1, 2, 3], visits) == [1, 2, 3]
    assert visits.left == 6
    with pytest.raises(CostlyPath):
        compile_path("$[*]").find([1] * 6, visits)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=30,
)
FRAGMENTS = """
$ . .. [ ] ( ) ? @ * ' " , : == != < && || ! a b 'a' [0] [-1] [*] [?(@.a)] .length() 1 -
"""


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS.split()) | st.text(), max_size=12).map("".join), documents
)
@example("$[?(@.a == 'nan')]", [{"a": 1}])
def test_a_path_is_refused_or_finds(path: str, document: object) -> None:
    for text in (path, f"${path}"):
        try:
            compiled = compile_path(text)
        except InvalidPath:
            continue
        visits = Visits()
        found = compiled.find(document, visits)
        assert compiled.is_definite or isinstance(found, list)
        assert 0 <= visits.left <= VISITS_MAX

"""How mapped parameters stand in a URI."""

from __future__ import annotations

import pytest

from wsgateway.errors import TransformationFailed
from wsgateway.integrations.uri_parameters import UriText, check_path, escaped, query_pairs


def test_text_without_placeholders_is_encoded_once() -> None:
    text = UriText("a/b", str.upper)

    assert text.constant == "A/B"
    assert text.filled({}) == "A/B"


def test_values_are_escaped_and_text_between_them_is_encoded() -> None:
    text = UriText("/a/{b}-{c.d}/e{b}", str.upper)

    assert text.constant is None
    assert text.filled({"b": "1/2 é", "c.d": "x"}) == "/A/1%2F2%20%C3%A9-x/E1%2F2%20%C3%A9"
    assert text.filled({"b": "1/2", "c.d": "x"}, safe="/") == "/A/1/2-x/E1/2"


@pytest.mark.parametrize("text", ["{}", "{a b}", "{proxy+}", "{a", "a}"])
def test_braces_around_what_is_no_name_are_text(text: str) -> None:
    assert UriText(text, str).constant == text


@pytest.mark.parametrize("values", [{}, {"a": ""}, {"A": "x"}])
def test_a_placeholder_without_a_value_would_make_it_another_uri(values: dict[str, str]) -> None:
    with pytest.raises(TransformationFailed, match=r"^the path parameter a has no value$"):
        UriText("/x/{a}", str).filled(values)


@pytest.mark.parametrize("path", ["/a/..", "/./b", "../c"])
def test_a_path_leads_nowhere_else(path: str) -> None:
    with pytest.raises(TransformationFailed, match=r"^a path parameter leads elsewhere: "):
        check_path(path)


@pytest.mark.parametrize("path", ["/", "/a/b..c/...", "/%2E%2E"])
def test_dots_may_be_part_of_a_name(path: str) -> None:
    check_path(path)


def test_query_string_parameters_are_escaped() -> None:
    assert query_pairs([("a", "1"), ("b$", "c&d=é/"), ("a", "")]) == [
        "a=1",
        "b%24=c%26d%3D%C3%A9%2F",
        "a=",
    ]


def test_a_lone_surrogate_is_a_question_mark() -> None:
    assert escaped("a\ud800") == "a%3F"

"""Keys of integration responses: which one is for an answer, and which cannot be compiled."""

from __future__ import annotations

import time

import pytest

from wsgateway.api.response_keys import InvalidResponseKey, ResponseKeys, check_response_key


@pytest.mark.parametrize(
    ("keys", "value", "key"),
    [
        (["$default"], "200", "$default"),
        (["$default"], None, "$default"),
        ([], "200", None),
        ([r"/2\d\d/"], "200", r"/2\d\d/"),
        ([r"/2\d\d/"], "404", None),
        ([r"/2\d\d/"], None, None),
        # The whole value.
        ([r"/2\d\d/"], "2000", None),
        ([r"/2\d\d/"], "1200", None),
        ([r"/2\d\d/"], "200\n", None),
        (["/not found/"], "item not found", None),
        (["/.*not found.*/"], "item not found", "/.*not found.*/"),
        # Digits are ASCII, as in Java.
        ([r"/\d+/"], "\u0663", None),
        # A dot is no end of a line, as in Java, unless it is told so.
        (["/.*Error.*/"], "first\nan Error", None),
        (["/(?s).*Error.*/"], "first\nan Error", "/(?s).*Error.*/"),
        (["/(?i)error/"], "ERROR", "/(?i)error/"),
        ([r"/\QA.B\E/"], "A.B", r"/\QA.B\E/"),
        ([r"/\Q(?!\E/"], "(?!", r"/\Q(?!\E/"),
        ([r"/a\\1/"], r"a\1", r"/a\\1/"),
        (["/caf\u00e9/"], "caf\u00e9", "/caf\u00e9/"),
        # The first that matches, in the order declared; `$default` last wherever it stands.
        (["$default", "/4../", "/404/"], "404", "/4../"),
        (["/404/", "/4../"], "404", "/404/"),
        (["/404/", "/4../"], "403", "/4../"),
        (["$default", "/404/"], "500", "$default"),
        # JSON may bring lone surrogates.
        (["/.*/", "$default"], "\ud800", "/.*/"),
    ],
)
def test_an_answer_selects_a_key(keys: list[str], value: str | None, key: str | None) -> None:
    assert ResponseKeys(iter(keys)).select(value) == key


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (
            "200",
            (
                "a key is $default or a regular expression between slashes; "
                r"write $default, or one such as /4\d\d/, not '200'"
            ),
        ),
        ("", None),
        ("/", None),
        ("//", None),
        ("default", None),
        (
            "/(/",
            (
                "/(/ is not a regular expression: missing ): (; "
                r"write one such as /4\d\d/ or /.*not found.*/"
            ),
        ),
        (r"/\p{Alpha}/", None),
        ("/a{1001}/", None),
        ("/\ud800/", None),
        (
            "/(?!.*Error).*/",
            (
                "/(?!.*Error).*/ cannot be matched in bounded time: it looks around; "
                "write a key for what should match"
            ),
        ),
        ("/(?<=a)b/", None),
        (
            r"/(a)\1/",
            (
                r"/(a)\1/ cannot be matched in bounded time: it refers to a group; "
                "write out what the group matches"
            ),
        ),
        ("/a++/", None),
        ("/(?>a)/", None),
        ("/[a-z&&[^b]]/", None),
        (f"/{'a' * 511}/", "a key has at most 512 characters; write a shorter one"),
    ],
)
def test_what_is_no_key(key: str, told: str | None) -> None:
    with pytest.raises(InvalidResponseKey) as caught:
        check_response_key(key)

    assert told is None or str(caught.value) == told
    assert str(caught.value) == f"{caught.value.problem}; {caught.value.remedy}"
    with pytest.raises(InvalidResponseKey):
        ResponseKeys([key])


@pytest.mark.parametrize(
    "key", ["/(a+)+b/", "/(a|aa)+b/", "/(a|a?)+b/", "/(.*a){12}b/", "/a*a*a*a*a*a*a*b/"]
)
def test_an_expression_that_would_backtrack_for_ever_does_not(key: str) -> None:
    keys = ResponseKeys([key])
    value = "a" * 100_000

    started_s = time.perf_counter()

    assert keys.select(value) is None
    assert time.perf_counter() - started_s < 1

r"""Which integration response is for an answer?

A key is `$default` or a regular expression between slashes, `/4\d\d/`, which has to match all of
what is looked at: the status of an HTTP or MOCK answer, the `errorMessage` of a function's. The
first that matches wins, in the order in which they are declared, then `$default`.

AWS's expressions are Java's. What is matched is the backend's to choose and may be megabytes, so
that an engine which backtracks could be kept busy for ever. RE2 takes linear time, and what it
cannot do (looking around, references to groups) is refused when the definition is read. Nearly all
else is written as in Java.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-responses.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import re2  # type: ignore[import-untyped]  # it has no types of its own

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_KEY: Final = "$default"
_SIZE_MAX: Final = 512
"""AWS documents no bound for keys; this one is that of other expressions."""

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
# Of what one expression may be compiled into; RE2's own default is eight times this.
_OPTIONS.max_mem = 1 << 20

_REFUSED = tuple(
    (re.compile(pattern), problem, remedy)
    for pattern, problem, remedy in (
        (r"\(\?<?[=!]", "it looks around", "write a key for what should match"),
        (r"\\[1-9]|\\k<", "it refers to a group", "write out what the group matches"),
        (r"[*+?}]\+", "a possessive quantifier is not known here", "leave out the second +"),
        (r"\(\?>", "an atomic group is not known here", "write (?:...)"),
        (r"\[[^\]]*&&", "an intersection of classes is not known here", "write one class"),
    )
)
# What a backslash takes its meaning from, and what stands for itself between \Q and \E.
_ESCAPED = re.compile(r"\\Q.*?(?:\\E|\Z)|\\[^1-9k]", re.DOTALL)


class InvalidResponseKey(ValueError):
    """A key that is neither `$default` nor a regular expression that can be matched in time.

    Attributes:
        problem: What is wrong.
        remedy: What would be right.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class ResponseKeys:
    """The compiled keys of one integration.

    Args:
        keys: In the order in which they are declared.

    Raises:
        InvalidResponseKey: One of them cannot be compiled.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        declared = dict.fromkeys(keys)
        self._patterns = {key: _compile(key) for key in declared if key != DEFAULT_KEY}
        self._default = DEFAULT_KEY if DEFAULT_KEY in declared else None

    def select(self, value: str | None) -> str | None:
        """Return the key of the integration response for an answer; None when none is for it.

        Args:
            value: The status or `errorMessage`; None when there is none, as in a function's result.
        """
        if value is not None and self._patterns:
            # Lone surrogates, which JSON may bring, are no UTF-8 for RE2 to read.
            text = value.encode(errors="replace").decode()
            for key, pattern in self._patterns.items():
                if pattern.fullmatch(text) is not None:
                    return key
        return self._default


def check_response_key(key: str) -> None:
    """Check that a key can be compiled.

    Raises:
        InvalidResponseKey: It cannot; says why, and what would be right.
    """
    if key != DEFAULT_KEY:
        _compile(key)


def _compile(key: str) -> re2._Regexp:
    if len(key) > _SIZE_MAX:
        raise InvalidResponseKey(f"a key has at most {_SIZE_MAX} characters", "write a shorter one")
    if len(key) <= len("//") or not (key.startswith("/") and key.endswith("/")):
        raise InvalidResponseKey(
            "a key is $default or a regular expression between slashes",
            rf"write $default, or one such as /4\d\d/, not {key!r}",
        )
    text = key[1:-1]
    telling = _ESCAPED.sub("", text)
    for refused, problem, remedy in _REFUSED:
        if refused.search(telling):
            raise InvalidResponseKey(f"{key} cannot be matched in bounded time: {problem}", remedy)
    try:
        return re2.compile(text, _OPTIONS)
    # A lone surrogate is no UTF-8.
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0]
        told = reason.decode(errors="replace") if isinstance(reason, bytes) else "it is no UTF-8"
        raise InvalidResponseKey(
            f"{key} is not a regular expression: {told}",
            r"write one such as /4\d\d/ or /.*not found.*/",
        ) from error

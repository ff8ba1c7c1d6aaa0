"""What does an `integrationUri` name?

Four things: an HTTP backend, a function on AWS, an action of an AWS service, or a function of this
process, `python:_module.handler`, which API Gateway does not have.

https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-integrations.html
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from wsgateway.arns import FunctionArn, ServiceUri, parse_integration_uri

PYTHON: Final = "python:"

# What path parameters are put for.
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z0-9._$-]+)\}")
_NOT_IN_URLS = re.compile(r"[^!-~]|[\"<>\\^`|{}]")
_PYTHON = re.compile(
    r"python:(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*)\.(?P<name>[^\W\d]\w*)", re.ASCII
)


class InvalidUri(ValueError):
    """A text that names none of them.

    Attributes:
        problem: What is wrong.
        remedy: What would be right.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class HttpUrl(NamedTuple):
    """The URL of an HTTP backend.

    Attributes:
        path: Its path, which may have placeholders in braces.
    """

    url: str
    path: str


class PythonReference(NamedTuple):
    """A function of this process.

    Attributes:
        module: As an `import` statement names it.
        name: Of what the module defines.
    """

    module: str
    name: str


Uri: TypeAlias = HttpUrl | FunctionArn | ServiceUri | PythonReference


def parse_uri(text: str) -> Uri:
    """Tell what a URI names, once its stage variables are in place.

    Raises:
        InvalidUri: Nothing that is known here.
    """
    if text.startswith(PYTHON):
        return _python(text)
    if text.startswith("arn:") or ":function:" in text:
        try:
            return parse_integration_uri(text)
        except ValueError as error:
            raise InvalidUri(str(error), "write one of that form") from error
    if re.match(r"https?:", text, re.IGNORECASE):
        return _http(text)
    raise InvalidUri(
        f"{_in_short(text)} is no URI that is known here",
        "write http://..., https://..., arn:aws:... or python:_module.handler",
    )


def placeholders(uri: Uri) -> frozenset[str]:
    """Return the names in braces in a URI: in its path, and for a service in its query string."""
    match uri:
        case HttpUrl(path=path):
            return frozenset(PLACEHOLDER.findall(path))
        case ServiceUri(target=target, query=query):
            values = [pair.partition("=")[2] for pair in query.split("&")]
            return frozenset(PLACEHOLDER.findall(" ".join([target, *values])))
        case _:
            return frozenset()


def _http(text: str) -> HttpUrl:
    example = "write one such as http://127.0.0.1:3000/path"
    bare = PLACEHOLDER.sub("", text)
    if wrong := _NOT_IN_URLS.search(bare):
        raise InvalidUri(
            f"no URL holds {wrong[0]!r}", f"percent-encode it: {_percent_encoded(wrong[0])}"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidUri(f"{_in_short(text)} is no URL: {error}", example) from error
    if not parts.hostname:
        raise InvalidUri(f"{_in_short(text)} names no host", example)
    if port == 0:
        raise InvalidUri("nobody listens on port 0", "name the backend's port")
    if parts.username is not None or parts.password is not None:
        raise InvalidUri(
            "a URL here has no user and password",
            "map integration.request.header.Authorization instead",
        )
    if parts.fragment:
        raise InvalidUri("a fragment is never sent", "leave out what begins with #")
    if PLACEHOLDER.search(parts.netloc + parts.query):
        raise InvalidUri("only the path has placeholders in braces", "use a stage variable there")
    return HttpUrl(text, parts.path)


def _python(text: str) -> PythonReference:
    reference = _PYTHON.fullmatch(text)
    if reference is None:
        raise InvalidUri(
            f"{_in_short(text)} names no function",
            "write python:_module.handler for handler(event, context) in _module.py",
        )
    return PythonReference(reference["module"], reference["name"])


def _percent_encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="replace"))


def _in_short(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:97]}...")  # noqa: PLR2004 - enough to tell

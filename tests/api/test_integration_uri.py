"""What an integrationUri names."""

from __future__ import annotations

import pytest

from wsgateway.api.integration_uri import (
    HttpUrl,
    InvalidUri,
    PythonReference,
    parse_uri,
    placeholders,
)
from wsgateway.arns import FunctionArn, ServiceUri

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:send"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("http://127.0.0.1:3000", ""),
        ("https://example.com/a/b?c=d", "/a/b"),
        ("HTTP://[::1]:80/", "/"),
        ("http://localhost/{id}/x", "/{id}/x"),
        ("http://localhost/%20", "/%20"),
    ],
)
def test_a_url(uri: str, path: str) -> None:
    assert parse_uri(uri) == HttpUrl(uri, path)


@pytest.mark.parametrize("uri", [FUNCTION, f"{FUNCTION}:v1", f"{FUNCTION}:$LATEST"])
def test_a_function_by_its_arn(uri: str) -> None:
    assert isinstance(parse_uri(uri), FunctionArn)
    invocation = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{uri}/invocations"
    assert isinstance(parse_uri(invocation), FunctionArn)


def test_an_action_of_a_service() -> None:
    uri = parse_uri("arn:aws:apigateway:us-east-1:dynamodb:action/PutItem")

    assert isinstance(uri, ServiceUri)
    assert (uri.service, uri.target) == ("dynamodb", "PutItem")


@pytest.mark.parametrize(
    ("uri", "module", "name"),
    [
        ("python:_local.handler", "_local", "handler"),
        ("python:_a.b.c.on_message", "_a.b.c", "on_message"),
    ],
)
def test_a_function_of_this_process(uri: str, module: str, name: str) -> None:
    assert parse_uri(uri) == PythonReference(module, name)


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("http://h/{a}/x-{b.c}?d=e", {"a", "b.c"}),
        ("http://h/", set()),
        ("arn:aws:apigateway:us-east-1:s3:path/{bucket}/{key}", {"bucket", "key"}),
        ("arn:aws:apigateway:us-east-1:s3:path/{bucket}?prefix=a{b}&{c}=d", {"bucket", "b"}),
        ("arn:aws:apigateway:us-east-1:sqs:action/SendMessage", set()),
        ("arn:aws:apigateway:us-east-1:sqs:action/SendMessage?a={b}", {"b"}),
        (FUNCTION, set()),
        ("python:_a.b", set()),
    ],
)
def test_placeholders(uri: str, names: set[str]) -> None:
    assert placeholders(parse_uri(uri)) == names


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        (
            "ftp://example.com",
            (
                "'ftp://example.com' is no URI that is known here; "
                "write http://..., https://..., arn:aws:... or python:_module.handler"
            ),
        ),
        ("", None),
        ("//example.com/", None),
        (
            "http:///path",
            "'http:///path' names no host; write one such as http://127.0.0.1:3000/path",
        ),
        ("http:example.com", None),
        ("http://example.com/a b", "no URL holds ' '; percent-encode it: %20"),
        ("http://example.com/\u00e9", "no URL holds '\u00e9'; percent-encode it: %C3%A9"),
        ("http://example.com/\r\nHost: x", None),
        ("http://example.com/{a", None),
        ("http://example.com/\ud800", None),
        ("http://example.com:99999/", None),
        ("http://example.com:x/", None),
        ("http://example.com:0/", "nobody listens on port 0; name the backend's port"),
        ("http://[::1/", None),
        (
            "http://ada:secret@example.com/",
            (
                "a URL here has no user and password; "
                "map integration.request.header.Authorization instead"
            ),
        ),
        (
            "http://example.com/#top",
            "a fragment is never sent; leave out what begins with #",
        ),
        (
            "http://{host}/",
            "only the path has placeholders in braces; use a stage variable there",
        ),
        (
            "http://example.com/?a={b}",
            "only the path has placeholders in braces; use a stage variable there",
        ),
        (
            "python:handler",
            (
                "'python:handler' names no function; "
                "write python:_module.handler for handler(event, context) in _module.py"
            ),
        ),
        ("python:", None),
        ("python:_a/b.handler", None),
        ("python:..a.handler", None),
        ("python:_a.1", None),
        ("python:_caf\u00e9.handler", None),
        ("arn:aws:lambda:us-east-1:123:function:send", None),
        ("arn:aws:s3:::bucket", None),
        (f"python:{'x' * 200}", None),
    ],
)
def test_what_names_nothing(uri: str, told: str | None) -> None:
    with pytest.raises(InvalidUri) as caught:
        parse_uri(uri)

    assert told is None or str(caught.value) == told
    assert str(caught.value) == f"{caught.value.problem}; {caught.value.remedy}"

r"""What may the value of one property be?

Each function returns its argument, or raises `Refused`. Where API Gateway has a text for it, that is
what is said. What concerns several properties is in `checks`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wsgateway.api.expressions import (
    InvalidExpression,
    compile_model_selection,
    compile_response_selection,
    compile_selection,
    compile_template_selection,
)
from wsgateway.api.response_keys import InvalidResponseKey, check_response_key
from wsgateway.json_path import InvalidPath, compile_path
from wsgateway.vtl import InvalidTemplate, compile_template

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_MS_MIN: Final = 50
TIMEOUT_MS_MAX: Final = 29_000
TEMPLATE_SIZE_MAX: Final = 300 * 1024
"""As the limits page has it; the field of the control plane holds 32,768 characters."""
SOURCE_SIZE_MAX: Final = 512

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

PREDEFINED_ROUTE_KEYS: Final = ("$connect", "$disconnect", "$default")
# Not documented for routes; the bound of stage names.
_ROUTE_KEY_SIZE_MAX: Final = 128

# What NAME of a parameter can be (DG websocket-api-data-mapping).
_NAME = r"[a-zA-Z0-9._$-]+"
# RFC 9110, 5.1: the name of a header is a token; of the above, a dot, a dollar and so on are.
REQUEST_PARAMETER: Final = rf"^integration\.request\.(header|querystring|path)\.{_NAME}$"
ROUTE_PARAMETER: Final = rf"^route\.request\.(multivalue)?(header|querystring)\.{_NAME}$"
RESPONSE_PARAMETER: Final = rf"^(method|route)\.response\.header\.{_NAME}$"
_HANDSHAKE_SOURCE = re.compile(rf"route\.request\.(?:multivalue)?(?:header|querystring)\.{_NAME}")
_CONTEXT_SOURCE = re.compile(r"context\.[A-Za-z0-9_]+(?:\.[A-Za-z0-9_$-]+)*")
_VARIABLE_SOURCE = re.compile(r"stageVariables\.[A-Za-z0-9_]{1,64}")
_RESPONSE_HEADER_SOURCE = re.compile(rf"integration\.response\.header\.{_NAME}")

_STAGE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_INTEGRATION_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
_MODEL_NAME = re.compile(r"[A-Za-z0-9]{1,128}", re.ASCII)


class Refused(ValueError):
    """A value that a property cannot have.

    Attributes:
        problem: What is wrong.
        remedy: What would be right; None if that goes without saying.
    """

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem if remedy is None else f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


def optional(rule: Callable[[str], str]) -> Callable[[str | None], str | None]:
    """Return the rule of a property that may be left out."""
    return lambda text: None if text is None else rule(text)


# --- names


def route_key(key: str) -> str:
    if key.startswith("$") and key not in PREDEFINED_ROUTE_KEYS:
        predefined = ", ".join(PREDEFINED_ROUTE_KEYS)
        raise Refused(f"a route key that begins with $ is one of {predefined}")
    if not 1 <= len(key) <= _ROUTE_KEY_SIZE_MAX:
        raise Refused(f"a route key has 1 to {_ROUTE_KEY_SIZE_MAX} characters")
    return key


def stage_name(name: str) -> str:
    """Return the name if a stage can have it.

    Raises:
        Refused: It cannot; the message says why.
    """
    if name == "_wsgateway":
        raise Refused("_wsgateway is reserved for the gateway's own paths")
    if not _STAGE_NAME.fullmatch(name):
        raise Refused("a stage name has 1 to 128 letters, digits, hyphens and underscores")
    return name


def integration_name(name: str) -> str:
    if not _INTEGRATION_NAME.fullmatch(name):
        raise Refused(
            "an integration's name has 1 to 128 letters, digits, hyphens, underscores and dots"
        )
    return name


def model_name(name: str) -> str:
    if not _MODEL_NAME.fullmatch(name):
        raise Refused(
            f"Model name must be alphanumeric: {name}", "give it 1 to 128 letters and digits"
        )
    return name


def target(text: str) -> str:
    """Return the name of the integration, which AWS writes after `integrations/`."""
    name = text.removeprefix("integrations/")
    if not _INTEGRATION_NAME.fullmatch(name):
        raise Refused(
            "Unexpected or malformed target in route. "
            "Correct format should be integrations/<integration_id>",
            f"write the name of an integration, not {text!r}",
        )
    return name


# --- authorization


def authorization_type(value: object) -> object:
    if isinstance(value, str) and value != "NONE":
        raise Refused(
            f"{value} is not served yet",
            "write NONE, and decide in the function of $connect, whose status is the answer",
        )
    return value


def api_key_required(*, required: bool) -> bool:
    if required:
        raise Refused("API keys are not served yet", "write false, or remove it")
    return required


# --- models


def schema(value: object) -> object:
    if not isinstance(value, dict | str):
        raise Refused("is neither a mapping nor JSON text", "write one such as {type: object}")
    return value


# --- expressions


def _compiled(compile_: Callable[[str], object], text: str) -> str:
    try:
        compile_(text)
    except InvalidExpression as error:
        problem = str(error).removesuffix(f"; {error.remedy}")
        raise Refused(problem, error.remedy) from error
    return text


def route_selection(text: str) -> str:
    return _compiled(compile_selection, text)


def template_selection(text: str) -> str:
    return _compiled(compile_template_selection, text)


def model_selection(text: str) -> str:
    return _compiled(compile_model_selection, text)


def response_selection(text: str) -> str:
    return _compiled(compile_response_selection, text)


# --- integrations


def connection_type(value: object) -> object:
    if value == "VPC_LINK":
        raise Refused(
            "VPC_LINK is not served yet",
            "write the address of its Network Load Balancer into integrationUri",
        )
    return value


def payload_format_version(value: object) -> object:
    if isinstance(value, str) and value != "1.0":
        raise Refused(f"Unsupported PayloadFormatVersion: {value}", 'write "1.0", or remove it')
    return value


def integration_method(method: str) -> str:
    if method not in METHODS:
        raise Refused(f"{method!r} is no HTTP method", f"write one of {', '.join(METHODS)}")
    return method


def timeout_in_millis(timeout: int) -> int:
    if not TIMEOUT_MS_MIN <= timeout <= TIMEOUT_MS_MAX:
        raise Refused(
            f"Timeout should be between {TIMEOUT_MS_MIN} ms and {TIMEOUT_MS_MAX} ms",
            f"write a number in between, not {timeout}",
        )
    return timeout


def template(text: str) -> str:
    size = len(text.encode(errors="replace"))
    if size > TEMPLATE_SIZE_MAX:
        raise Refused(
            f"a template has at most {TEMPLATE_SIZE_MAX} bytes, not {size}", "write a shorter one"
        )
    try:
        compile_template(text)
    except InvalidTemplate as error:
        place = f"line {error.line}, column {error.column}"
        raise Refused(
            f"the mapping template goes wrong at its {place}: {error.problem}", error.remedy
        ) from error
    return text


def response_key(key: str) -> str:
    try:
        check_response_key(key)
    except InvalidResponseKey as error:
        raise Refused(error.problem, error.remedy) from error
    return key


# --- parameters


def request_parameter(key: str) -> str:
    if not re.fullmatch(REQUEST_PARAMETER, key, re.ASCII):
        raise Refused(
            f"{key!r} is no parameter of a request",
            "write integration.request.header.NAME, integration.request.querystring.NAME "
            "or integration.request.path.NAME",
        )
    return key


def request_source(source: str) -> str:
    _check_source_size(source)
    body = _after("route.request.body", source)
    if body is not None:
        if body:
            _json_path(body)
    elif not (
        _is_constant(source)
        or _HANDSHAKE_SOURCE.fullmatch(source)
        or _CONTEXT_SOURCE.fullmatch(source)
        or _VARIABLE_SOURCE.fullmatch(source)
    ):
        raise Refused(
            f"Invalid mapping expression specified: {source}",
            "write route.request.body.PATH, route.request.header.NAME, "
            "route.request.querystring.NAME, context.NAME (without $), stageVariables.NAME "
            "or a constant in single quotes",
        )
    return source


def is_handshake_source(source: str) -> bool:
    """Whether only a handshake has this: a header or a query string parameter."""
    return _HANDSHAKE_SOURCE.fullmatch(source) is not None


def route_parameter(key: str) -> str:
    if not re.fullmatch(ROUTE_PARAMETER, key, re.ASCII):
        raise Refused(
            f"{key!r} is no parameter of a handshake",
            "write route.request.header.NAME or route.request.querystring.NAME",
        )
    return key


def response_parameter(key: str) -> str:
    if not re.fullmatch(RESPONSE_PARAMETER, key, re.ASCII):
        raise Refused(
            f"{key!r} is no parameter of a response",
            "write route.response.header.NAME; "
            "Sec-WebSocket-Protocol is the only one that reaches a client",
        )
    return key


def response_source(source: str) -> str:
    _check_source_size(source)
    body = _after("integration.response.body", source)
    if body:
        _json_path(body)
    elif not (_is_constant(source) or _RESPONSE_HEADER_SOURCE.fullmatch(source)):
        raise Refused(
            f"Invalid mapping expression specified: {source}",
            "write integration.response.header.NAME, integration.response.body.PATH "
            "or a constant in single quotes",
        )
    return source


def _check_source_size(source: str) -> None:
    if not 1 <= len(source) <= SOURCE_SIZE_MAX:
        raise Refused(f"the source of a parameter has 1 to {SOURCE_SIZE_MAX} characters")


def _is_constant(source: str) -> bool:
    return len(source) >= len("''") and source[0] == source[-1] == "'"


def _after(prefix: str, source: str) -> str | None:
    """Return the path after a prefix, as JSONPath: empty if there is none; None if it differs."""
    if not source.startswith(prefix):
        return None
    rest = source[len(prefix) :]
    if not rest:
        return ""
    return rest[1:] if rest.startswith(".") and rest != "." else None


def _json_path(path: str) -> None:
    try:
        compile_path(path if path.startswith("$") else f"$.{path}")
    except InvalidPath as error:
        raise Refused(str(error), "write one such as data.room") from error

"""What do the mapped parameters of a request or an answer hold?

`requestParameters` of an integration name a header, a query string parameter or a part of the path
of what the backend is sent, and where its value comes from; `responseParameters` of an integration
response name a header of the handshake's answer.

A source that has no value here leaves its parameter out: on messages there are no headers and no
query string, a body may be no JSON.

https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-data-mapping.html
"""

from __future__ import annotations

import json
import re
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from wsgateway.api.lenient_json import NotJson, NumberText, parse
from wsgateway.context import context_for, lookup
from wsgateway.errors import TransformationFailed
from wsgateway.events import ConnectRequest, MessageRequest, forwarded_headers, parse_query
from wsgateway.json_path import MISSING, CostlyPath, compile_path

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from wsgateway.contracts import HttpResponse
    from wsgateway.events import RouteRequest

# RFC 9110, 5.5: what has no place in a header's value is replaced with a space.
_NOT_IN_HEADERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# AWS: "Total combined size of request line and header values 10240 Bytes".
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
VALUE_SIZE_MAX: Final = 10_240
_SUBPROTOCOL_KEYS = frozenset(
    {
        "method.response.header.sec-websocket-protocol",
        "route.response.header.sec-websocket-protocol",
    }
)


class Parameters(NamedTuple):
    """The mapped parameters of one request; texts as they are, nothing is percent-encoded.

    Attributes:
        headers: In the order in which they are declared; no value can end its line.
        querystring: Likewise; a multi-value source makes several of one name.
        path: By the name of the placeholder.
    """

    headers: Sequence[tuple[str, str]]
    querystring: Sequence[tuple[str, str]]
    path: Mapping[str, str]


class RequestFacts:
    """What the sources of a request's parameters, and its templates, look at; read once."""

    def __init__(self, request: RouteRequest) -> None:
        self.request = request
        self._context: Mapping[str, object] | None = None

    @property
    def context(self) -> Mapping[str, object]:
        # Nearly every mapping asks for it; a cached_property takes a lock.
        if self._context is None:
            self._context = context_for(self.request)
        return self._context

    @property
    def body(self) -> str:
        return self.request.body if isinstance(self.request, MessageRequest) else ""

    @cached_property
    def json(self) -> object:
        """The body's value; `MISSING` if it is not JSON."""
        return _parsed(self.body)

    @cached_property
    def headers(self) -> Mapping[str, list[str]]:
        """The handshake's headers as the CONNECT event has them; none on other routes."""
        if isinstance(self.request, ConnectRequest):
            return forwarded_headers(self.request.handshake, trace_id=self.request.trace_id)
        return {}

    @cached_property
    def querystring(self) -> Mapping[str, list[str]]:
        """The handshake's query string; none on other routes."""
        if isinstance(self.request, ConnectRequest):
            return parse_query(self.request.handshake.target.partition("?")[2])
        return {}


class ResponseFacts:
    """What the sources of an answer's parameters look at."""

    def __init__(self, response: HttpResponse) -> None:
        self.response = response

    @cached_property
    def json(self) -> object:
        """The body's value; `MISSING` if it is not JSON."""
        try:
            return _parsed(self.response.body.decode())
        except UnicodeDecodeError:
            return MISSING


_Source: TypeAlias = "Callable[[RequestFacts], Sequence[str]]"
_ResponseSource: TypeAlias = "Callable[[ResponseFacts], Sequence[str]]"


class RequestParameters:
    """The compiled `requestParameters` of an integration.

    Args:
        declared: Where each value comes from, by parameter.
        unmapped_headers: What is left out, in lower case.

    Attributes:
        header_names: Of the mapped headers, in lower case.
        querystring_names: Of the mapped query string parameters.
    """

    def __init__(self, declared: Mapping[str, str], unmapped_headers: Container[str]) -> None:
        self._sources: dict[str, list[tuple[str, _Source]]] = {
            "header": [],
            "querystring": [],
            "path": [],
        }
        for key, source in declared.items():
            place, _, name = key.removeprefix("integration.request.").partition(".")
            if place == "header" and name.lower() in unmapped_headers:
                continue
            self._sources[place].append((name, _request_source(source)))
        self.header_names = frozenset(name.lower() for name, _ in self._sources["header"])
        self.querystring_names = frozenset(name for name, _ in self._sources["querystring"])

    def evaluate(self, facts: RequestFacts) -> Parameters:
        """Return the parameters of a request.

        Raises:
            TransformationFailed: A value is too large, or takes too long to find.
        """
        if not (self._sources["header"] or self._sources["querystring"] or self._sources["path"]):
            return _NO_PARAMETERS
        return Parameters(
            headers=[
                (name, header_value(value))
                for name, source in self._sources["header"]
                for value in _bounded(source(facts))
            ],
            querystring=[
                (name, value)
                for name, source in self._sources["querystring"]
                for value in _bounded(source(facts))
            ],
            path={
                name: ",".join(values)
                for name, source in self._sources["path"]
                if (values := _bounded(source(facts)))
            },
        )


class ResponseParameters:
    """The compiled `responseParameters` of an integration response.

    One header of a handshake's answer is an integration's to choose, `Sec-WebSocket-Protocol`.
    """

    def __init__(self, declared: Mapping[str, str]) -> None:
        self._subprotocol: _ResponseSource | None = None
        for key, source in declared.items():
            if key.lower() in _SUBPROTOCOL_KEYS:
                self._subprotocol = _response_source(source)

    def subprotocol(self, response: HttpResponse) -> str | None:
        """Return the value of `Sec-WebSocket-Protocol`; None where there is none."""
        if self._subprotocol is None:
            return None
        values = self._subprotocol(ResponseFacts(response))
        return values[-1] if values else None


def header_value(value: str) -> str:
    """Return a value that stays on its header's line."""
    if value.isascii() and value.isprintable():
        return value.strip(" ")
    value = _NOT_IN_HEADERS.sub(" ", value).strip(" \t")
    # Lone surrogates, which JSON may bring, are no UTF-8; Java writes a question mark.
    return value.encode(errors="replace").decode()


_NO_PARAMETERS = Parameters((), (), {})


def _request_source(source: str) -> _Source:
    if source.startswith("'"):
        return _constant(source)
    for prefix, compiled in _REQUEST_SOURCES:
        if source == prefix or source.startswith(f"{prefix}."):
            return compiled(source[len(prefix) + 1 :])
    raise ValueError(f"{source} is not a source of parameters")


def _response_source(source: str) -> _ResponseSource:
    if source.startswith("'"):
        constant = (source[1:-1],)
        return lambda _: constant
    kind, _, name = source.removeprefix("integration.response.").partition(".")
    match kind:
        case "header":
            folded = name.lower()
            return lambda facts: [v for n, v in facts.response.headers if n.lower() == folded]
        case "body":
            find = _finder(name)
            return lambda facts: find(facts.json)
        case _:
            raise ValueError(f"{source} is not a source of an answer's parameters")


def _constant(source: str) -> _Source:
    constant = (source[1:-1],)
    return lambda _: constant


def _context(name: str) -> _Source:
    def find(facts: RequestFacts) -> Sequence[str]:
        value = lookup(facts.context, name)
        return (value,) if value else ()

    return find


def _stage_variable(name: str) -> _Source:
    def find(facts: RequestFacts) -> Sequence[str]:
        value = facts.request.stage_variables.get(name)
        return () if value is None else (value,)

    return find


def _header(name: str, *, last: bool) -> _Source:
    folded = name.lower()

    def find(facts: RequestFacts) -> Sequence[str]:
        for written, values in facts.headers.items():
            if written.lower() == folded:
                return values[-1:] if last else values
        return ()

    return find


def _querystring(name: str, *, last: bool) -> _Source:
    def find(facts: RequestFacts) -> Sequence[str]:
        values = facts.querystring.get(name, ())
        return values[-1:] if last else values

    return find


def _body(path: str) -> _Source:
    if not path:
        return lambda facts: (facts.body,) if facts.body else ()
    find = _finder(path)
    return lambda facts: find(facts.json)


_REQUEST_SOURCES: Sequence[tuple[str, Callable[[str], _Source]]] = (
    ("context", _context),
    ("stageVariables", _stage_variable),
    ("route.request.header", partial(_header, last=True)),
    ("route.request.multivalueheader", partial(_header, last=False)),
    ("route.request.querystring", partial(_querystring, last=True)),
    ("route.request.multivaluequerystring", partial(_querystring, last=False)),
    ("route.request.body", _body),
)


def _finder(path: str) -> Callable[[object], Sequence[str]]:
    compiled = compile_path(path if path.startswith("$") else f"$.{path}")

    def find(value: object) -> Sequence[str]:
        if value is MISSING:
            return ()
        try:
            found = compiled.find(value)
        except CostlyPath as error:
            raise TransformationFailed(f"{path}: {error}") from error
        return () if found is MISSING or found is None else (_text(found),)

    return find


def _parsed(text: str) -> object:
    try:
        return parse(text)
    except NotJson:
        return MISSING


def _text(value: object) -> str:
    """Return a JSON value as text: strings without quotes, anything else as JSON."""
    return value if isinstance(value, str) else "".join(_json(value))


def _json(value: object) -> Iterator[str]:
    match value:
        case NumberText():
            yield value
        case dict():
            comma = "{"
            for name, member in value.items():
                yield f"{comma}{_scalar(name)}:"
                yield from _json(member)
                comma = ","
            yield "}" if value else "{}"
        case list():
            comma = "["
            for element in value:
                yield comma
                yield from _json(element)
                comma = ","
            yield "]" if value else "[]"
        case _:
            yield _scalar(value)


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _bounded(values: Sequence[str]) -> Sequence[str]:
    if sum(map(len, values)) > VALUE_SIZE_MAX:
        raise TransformationFailed(f"a parameter has more than {VALUE_SIZE_MAX} characters")
    return values

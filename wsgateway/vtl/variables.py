"""What are `$input`, `$util`, `$context` and `$stageVariables` in a mapping template?

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus, unquote_to_bytes

import orjson

from wsgateway.json_path import (
    MISSING,
    PATH_SIZE_MAX,
    VISITS_MAX,
    CostlyPath,
    InvalidPath,
    JsonPath,
    Visits,
    compile_path,
)
from wsgateway.vtl.java import Printable, to_text
from wsgateway.vtl.methods import (
    Method,
    Methods,
    Object,
    entry_set,
    key_set,
    values_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.vtl.rendering import Rendering

# A value of JSON is at most this many times as large in memory as in its text: `[[],[],[]]`.
_PARSED_SIZE: Final = 24
# An escape of JSON, and the code it has if it has one.
_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|.)")


class GatewayVariable(Object, Printable):
    """A variable of the gateway. What it does not have prints as nothing, not as its name."""

    __slots__ = ()


class _Mapping(GatewayVariable):
    """A mapping that a template reads and cannot change, and its mappings likewise."""

    __slots__ = ("source",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self.source = values

    def member(self, name: str) -> object:
        return self._wrap(self.source.get(name))

    def text(self) -> object:
        return self.members()

    def members(self) -> dict[object, object]:
        """Return what the mapping holds, for iteration."""
        return {name: self._wrap(value) for name, value in self.source.items()}

    def _wrap(self, value: object) -> object:
        return _Mapping(value) if isinstance(value, Mapping) else value

    methods: Methods = {  # noqa: RUF012
        "containsKey": (Method((str,), lambda _rendering, mapping, name: name in mapping.source),),
        "entrySet": (
            Method((), lambda rendering, mapping: entry_set(rendering, mapping.members())),
        ),
        "get": (Method((str,), lambda _rendering, mapping, name: mapping.member(name)),),
        "isEmpty": (Method((), lambda _rendering, mapping: not mapping.source),),
        "keySet": (Method((), lambda rendering, mapping: key_set(rendering, mapping.members())),),
        "size": (Method((), lambda _rendering, mapping: len(mapping.source)),),
        "toString": (Method((), to_text),),
        "values": (Method((), lambda rendering, mapping: values_of(rendering, mapping.members())),),
    }


class _Input(GatewayVariable):
    """`$input`.

    The body is parsed when a path is first looked up. `json` has a value of its own, which no
    template can change: what it prints has the size of the body.
    """

    __slots__ = ("_body", "_kept", "_params", "_parse", "_shared")

    def __init__(
        self, body: str, params: dict[str, _Mapping], parse: Callable[[str], object]
    ) -> None:
        self._body = body
        self._params = params
        self._parse = parse
        self._shared: object = MISSING
        self._kept: object = MISSING

    def member(self, name: str) -> object:
        return self.body if name == "body" else None

    @property
    def body(self) -> str:
        """The payload, `{}` if it is empty, as observed of API Gateway."""
        return self._body or "{}"

    def path(self, rendering: Rendering, path: str) -> object:
        """Return what a path finds: a value that the template can use, and change."""
        if self._shared is MISSING:
            self._shared = self._value(rendering)
        found = _find(rendering, _compile(rendering, path), self._shared)
        return None if found is MISSING else found

    def json(self, rendering: Rendering, path: str) -> str:
        """Return what a path finds as JSON; `""` when it finds nothing."""
        if self._kept is MISSING:
            self._kept = self._value(rendering)
        compiled = _compile(rendering, path)
        found = _find(rendering, compiled, self._kept)
        if found is MISSING:
            return '""'
        if compiled.is_definite or not isinstance(found, list):
            return rendering.keep(_to_json(rendering, found))
        # A deep scan can find a value and all that it holds.
        pieces: list[str] = []
        size = 0
        for value in found:
            pieces.append(_to_json(rendering, value))
            size += len(pieces[-1]) + 1
            rendering.check_size(size)
        return rendering.keep(f"[{','.join(pieces)}]")

    def params(self, _rendering: Rendering) -> _Mapping:
        return _Mapping(self._params)

    def param(self, _rendering: Rendering, name: str) -> str:
        """Return the parameter from path, query string or header, empty when there is none."""
        for values in self._params.values():
            value = values.member(name)
            if isinstance(value, str):
                return value
        return ""

    def _value(self, rendering: Rendering) -> object:
        """Return what the body says; a body that is no JSON says itself, as a text."""
        _charge_parsing(rendering, self.body)
        try:
            return self._parse(self.body)
        except (ValueError, RecursionError):
            return self.body

    methods: Methods = {  # noqa: RUF012
        "getBody": (Method((), lambda _rendering, input_: input_.body),),
        "json": (Method((str,), lambda rendering, input_, path: input_.json(rendering, path)),),
        "params": (
            Method((), lambda rendering, input_: input_.params(rendering)),
            Method((str,), lambda rendering, input_, name: input_.param(rendering, name)),
        ),
        "path": (Method((str,), lambda rendering, input_, path: input_.path(rendering, path)),),
    }


def _charge_parsing(rendering: Rendering, text: str) -> None:
    rendering.spend(len(text) >> 6)
    rendering.make(_PARSED_SIZE * len(text))


def _compile(rendering: Rendering, path: str) -> JsonPath:
    # As if it were compiled every time, so that what others render changes nothing.
    rendering.spend(1 + min(len(path), PATH_SIZE_MAX))
    try:
        return compile_path(path)
    except InvalidPath as error:
        raise rendering.fault(str(error)) from None


def _find(rendering: Rendering, path: JsonPath, value: object) -> object:
    # A visit takes half as long as a step.
    allowed = min(VISITS_MAX, 2 * rendering.steps)
    visits = Visits(allowed)
    try:
        found = path.find(value, visits)
    except CostlyPath as error:
        raise rendering.fault(str(error)) from None
    rendering.spend((allowed - visits.left) // 2)
    if not path.is_definite and isinstance(found, list):
        rendering.make_elements(len(found))
    return found


def _to_json(rendering: Rendering, value: object) -> str:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        # An integer of over 64 bits, or half a surrogate pair.
        try:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError):
            raise rendering.fault("this value has no JSON") from None
    rendering.spend(1 + (len(text) >> 8))
    return text


def _escape_java_script(rendering: Rendering, value: object) -> str | None:
    r"""Escape a text for JavaScript as commons-lang does: `'` and `/` too, `é` as `\u00E9`."""
    if value is None:
        return None
    text = to_text(rendering, value)
    rendering.spend(1 + (len(text) >> 7))
    # JSON's escapes are the same but for these two, and for the case of the codes.
    escaped = json.dumps(text)[1:-1].replace("'", r"\'").replace("/", r"\/")
    if r"\u" in escaped:
        rendering.spend(escaped.count("\\"))
        escaped = _ESCAPE.sub(_with_upper_code, escaped)
    return rendering.keep(escaped)


def _with_upper_code(escape: re.Match[str]) -> str:
    code: str | None = escape[1]
    return escape[0] if code is None else f"\\u{code.upper()}"


def _parse_json(rendering: Rendering, text: str) -> object:
    _charge_parsing(rendering, text)
    try:
        return orjson.loads(text)
    except ValueError:
        raise rendering.fault("$util.parseJson was given what is not JSON") from None


def _url_encode(rendering: Rendering, value: object) -> str | None:
    if value is None:
        return None
    text = to_text(rendering, value)
    rendering.spend(1 + (len(text) >> (3 if text.isascii() else 1)))
    # Java leaves `*` alone and encodes `~`. Half a surrogate pair is `?` to it.
    encoded = quote_plus(text.encode(errors="replace"), safe="*")
    return rendering.keep(encoded.replace("~", "%7E"))


def _url_decode(rendering: Rendering, text: str) -> str:
    rendering.spend(1 + (len(text) >> 3))
    if _BAD_PERCENT.search(text):
        raise rendering.fault("$util.urlDecode was given a % that begins no escape")
    plain = text.replace("+", " ").encode(errors="replace")
    return rendering.keep(unquote_to_bytes(plain).decode(errors="replace"))


_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _base64_encode(rendering: Rendering, value: object) -> str | None:
    if value is None:
        return None
    text = to_text(rendering, value)
    rendering.spend(1 + (len(text) >> 8))
    return rendering.keep(base64.b64encode(text.encode(errors="replace")).decode())


def _base64_decode(rendering: Rendering, text: str) -> str:
    rendering.spend(1 + (len(text) >> 8))
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise rendering.fault("$util.base64Decode was given what is not base64") from None
    return rendering.keep(decoded.decode(errors="replace"))


class _Util(GatewayVariable):
    """`$util`."""

    __slots__ = ()

    def member(self, name: str) -> object:  # noqa: ARG002
        return None

    methods: Methods = {  # noqa: RUF012
        "base64Decode": (
            Method((str,), lambda rendering, _util, text: _base64_decode(rendering, text)),
        ),
        "base64Encode": (
            Method((object,), lambda rendering, _util, value: _base64_encode(rendering, value)),
        ),
        "escapeJavaScript": (
            Method(
                (object,), lambda rendering, _util, value: _escape_java_script(rendering, value)
            ),
        ),
        "parseJson": (Method((str,), lambda rendering, _util, text: _parse_json(rendering, text)),),
        "urlDecode": (Method((str,), lambda rendering, _util, text: _url_decode(rendering, text)),),
        "urlEncode": (
            Method((object,), lambda rendering, _util, value: _url_encode(rendering, value)),
        ),
    }


# It has no state: every render can share it.
UTIL: Final = _Util()


def input_variable(
    body: str,
    *,
    path: Mapping[str, str],
    querystring: Mapping[str, str],
    header: Mapping[str, str],
    parse: Callable[[str], object] = orjson.loads,
) -> object:
    """Return `$input` for one render.

    Args:
        body: The payload. `$input.body` is its text, of an empty one `{}`.
        path: Parameters, in the order that `$input.params('x')` looks them up.
        querystring: Likewise.
        header: Likewise.
        parse: Makes JSON's values of the body when a path is first looked up: dict, list, str,
            int, float, bool, None. It raises a ValueError for what is not JSON; then the body is
            a text, which `$` finds and no other path.
    """
    params = {
        "path": _Mapping(path),
        "querystring": _Mapping(querystring),
        "header": _Mapping(header),
    }
    return _Input(body, params, parse)


def mapping_variable(values: Mapping[str, object]) -> object:
    """Return `$context` or `$stageVariables`: what they do not name prints as nothing."""
    return _Mapping(values)

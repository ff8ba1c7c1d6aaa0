"""Which messages does a route's model let pass?

A model is a JSON Schema of draft 4. It may refer to other models of the API by AWS's URLs,
`https://apigateway.amazonaws.com/restapis/{api}/models/{name}`, with any API's id; nothing is ever
fetched. What is said about a message is said in the words of the validator that AWS uses.

https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-request-validation.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby, islice
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Final, Protocol

import orjson
from jsonschema_rs import Draft4Validator, FancyRegexOptions, ValidationError, ValidationErrorKind

from wsgateway.api.expressions import DEFAULT_KEY, compile_model_selection
from wsgateway.api.lenient_json import nests_too_deep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wsgateway.api.definition import ApiDefinition, ModelDefinition, RouteDefinition
    from wsgateway.api.expressions import SelectionExpression

    Schema = dict[str, object]

SCHEMA_SIZE_MAX: Final = 32_768
"""Of a schema as JSON text (CreateModel in the service model)."""
_DRAFT: Final = "http://json-schema.org/draft-04/schema#"
_MODEL_URL: Final = re.compile(
    r"https://apigateway\.amazonaws\.com/restapis/[A-Za-z0-9_-]+/models/(?P<name>[A-Za-z0-9]+)"
)
# Patterns run in linear time. Those that look around or refer to a group cannot; they are given up
# after this many steps back, and then do not match. For the worst pattern known and a message of
# 128 KiB that is 0.1 s.
_PATTERNS: Final = FancyRegexOptions(backtrack_limit=300)

# What is told of one message. AWS tells all; the message may have as many faults as elements.
_FAULTS_MAX = 10
_TEXT_SIZE_MAX = 1024
_VALUE_SIZE_MAX = 100
# Beyond this, looking for all faults costs too much, and only the first one is told.
_THOROUGH_SIZE_MAX = 8 * 1024

# orjson makes floats of integers over 64 bits.
_LONG_INTEGER = re.compile(r"[0-9]{19}")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_EXACT_DECODER = JSONDecoder(parse_constant=_no_constant)


class InvalidModel(ValueError):
    """A model whose schema cannot be compiled.

    Attributes:
        problem: What is wrong.
        remedy: What would be right.
        missing: The model that is referred to and is not there, if it is that.
    """

    def __init__(self, problem: str, remedy: str, *, missing: str | None = None) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy
        self.missing = missing


class RequestValidator(Protocol):
    """Checks the messages of one route."""

    def check(self, message: str) -> str | None:
        """Return what is wrong with a message, as `$context.error.validationErrorString`, or None.

        It never raises.
        """
        ...


def compile_validator(definition: ApiDefinition, route: RouteDefinition) -> RequestValidator | None:
    """Compile a route's models; None where messages are not checked.

    With `disableSchemaValidation` a model that cannot be compiled lets no message pass.

    Raises:
        InvalidModel: A model cannot be compiled.
    """
    if route.model_selection_expression is None:
        return None
    compiled: dict[str, Model | None] = {}
    for key, name in route.request_models.items():
        try:
            compiled[key] = compile_model(name, definition.models)
        except InvalidModel:
            if not definition.disable_schema_validation:
                raise
            compiled[key] = None
    return _Validator(compile_model_selection(route.model_selection_expression), compiled)


@dataclass(frozen=True, slots=True)
class Model:
    """A compiled schema.

    Attributes:
        tells: Whether it can be told why not. Where references and choices meet, the validator
            tries every choice at every depth to find out: 20 s for a message of 16 levels.
    """

    _validator: Draft4Validator
    tells: bool

    def fits(self, value: object) -> bool:
        """Whether a value fits, which never takes long to say."""
        return self._validator.is_valid(value)

    def faults(self, value: object, *, thorough: bool) -> list[ValidationError]:
        """Return why a value does not fit: all that is wrong, or the first."""
        if thorough:
            return list(islice(self._validator.iter_errors(value), _FAULTS_MAX))
        try:
            self._validator.validate(value)
        except ValidationError as error:
            return [error]
        return []


def compile_model(name: str, models: Mapping[str, ModelDefinition]) -> Model:
    """Compile a model, with those it refers to.

    Raises:
        InvalidModel: It is not there, or is not a schema of draft 4; says what would be right.
    """
    if name not in models:
        raise InvalidModel(f"there is no model {name!r}", _known(models), missing=name)
    schema = schema_of(models[name])

    def retrieve(uri: str) -> Schema:
        other = _MODEL_URL.fullmatch(uri.partition("#")[0])
        if other is None or other["name"] not in models:
            raise LookupError(uri)
        return schema_of(models[other["name"]])

    schemas = [schema, *_referenced(schema, models)]
    keywords = {keyword for part in schemas for keyword in _keywords(part)}
    try:
        validator = Draft4Validator(schema, retriever=retrieve, pattern_options=_PATTERNS)
    except ValidationError as error:
        raise InvalidModel(*_explained(error)) from error
    # Nested beyond its bound, or a value that JSON does not have.
    except ValueError as error:
        raise InvalidModel(f"is not a JSON Schema: {error}", "write JSON, and nest less") from error
    return Model(validator, tells="$ref" not in keywords or not keywords & {"oneOf", "anyOf"})


def schema_of(model: ModelDefinition) -> Schema:
    """Return a model's schema, parsed if it is written as text.

    Raises:
        InvalidModel: It is not JSON, no object, too large, or of another draft than 4.
    """
    schema = model.schema_
    if isinstance(schema, str):
        size = len(schema)
        try:
            parsed: object = _EXACT_DECODER.decode(schema)
        # Also an integer of more digits than Python reads.
        except (ValueError, RecursionError) as error:
            raise InvalidModel(f"is not JSON: {error}", "mend it, or write YAML") from error
        if not isinstance(parsed, dict):
            raise InvalidModel("is not a JSON object", 'write one, such as {"type": "object"}')
        schema = parsed
    else:
        size = _size(schema)
    if size > SCHEMA_SIZE_MAX:
        raise InvalidModel(
            f"has {size} characters as JSON, over {SCHEMA_SIZE_MAX}",
            "move parts of it into models of their own, and refer to them",
        )
    draft = schema.get("$schema", _DRAFT)
    if not isinstance(draft, str) or draft.rstrip("#") != _DRAFT.rstrip("#"):
        raise InvalidModel("is of another draft than 4", f'write "$schema": "{_DRAFT}"')
    return schema


def _size(schema: Schema) -> int:
    try:
        return len(json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    # A date of YAML's, infinity, an integer of more digits than Python writes.
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidModel(
            f"has a value that JSON does not have: {error}", "put dates into quotes"
        ) from error


def _known(models: Mapping[str, ModelDefinition]) -> str:
    return f"declared are: {', '.join(models)}" if models else "declare it under models"


def _referenced(schema: Schema, models: Mapping[str, ModelDefinition]) -> list[Schema]:
    """Return the schemas of the models that one refers to.

    Raises:
        InvalidModel: One of them is not there. The compiler's own messages say less.
    """
    found: dict[str, Schema] = {}
    queue = [schema]
    while queue:
        for reference in _references(queue.pop()):
            if reference.startswith("#"):
                continue
            model = _MODEL_URL.fullmatch(reference.partition("#")[0])
            if model is None:
                raise InvalidModel(
                    f"refers to {reference}, and nothing is fetched",
                    "refer to #/definitions/NAME, or to a model by "
                    "https://apigateway.amazonaws.com/restapis/API/models/NAME",
                )
            name = model["name"]
            if name not in models:
                problem = f"refers to {name!r}, which is no model"
                raise InvalidModel(problem, _known(models), missing=name)
            if name not in found:
                found[name] = schema_of(models[name])
                queue.append(found[name])
    return list(found.values())


def _keywords(schema: object) -> Iterable[str]:
    """Return all names in a schema, those of properties included."""
    queue = [schema]
    while queue:
        match queue.pop():
            case dict() as mapping:
                yield from mapping
                queue.extend(mapping.values())
            case list() as elements:
                queue.extend(elements)
            case _:
                pass


def _references(schema: object) -> Iterable[str]:
    queue = [schema]
    while queue:
        match queue.pop():
            case dict() as mapping:
                if isinstance(reference := mapping.get("$ref"), str):
                    yield reference
                queue.extend(value for key, value in mapping.items() if key not in _NO_SCHEMAS)
            case list() as elements:
                queue.extend(elements)
            case _:
                pass


# Their values are data, in which `$ref` means nothing.
_NO_SCHEMAS = frozenset({"enum", "default"})


def _explained(error: ValidationError) -> tuple[str, str]:
    place = "/".join(map(str, error.instance_path))
    where = f" at {place}" if place else ""
    remedy = "see https://json-schema.org/draft-04"
    if isinstance(error.kind, ValidationErrorKind.Referencing):
        return f"is not a JSON Schema of draft 4: {error.message}", "mend the $ref"
    return f"is not a JSON Schema of draft 4{where}: {_in_short(error.message, 200)}", remedy


class _Validator:
    """What `compile_validator` makes.

    Args:
        selection: Gives the key of a message's model.
        models: By key; None lets nothing pass.
    """

    def __init__(self, selection: SelectionExpression, models: Mapping[str, Model | None]) -> None:
        self._select = selection.evaluate
        self._models = models

    def check(self, message: str) -> str | None:
        models = self._models
        key = self._select(message)
        if key is None or key not in models:
            key = DEFAULT_KEY
        if key not in models:
            return "[no model is for this message]"
        model = models[key]
        if model is None:
            return "[the model is not a valid schema]"
        try:
            value = _parsed(message)
            if model.fits(value):
                return None
        # Not JSON, nested too deep, an integer of more digits than Python reads, lone surrogates.
        except ValueError as error:
            return f"[the message is not JSON: {error}]"
        if not model.tells:
            return "[the message does not fit the model]"
        return _told(model.faults(value, thorough=len(message) <= _THOROUGH_SIZE_MAX))


def _parsed(message: str) -> object:
    """Return what strict JSON says.

    Routes are selected more leniently. The validator that AWS uses parses with Jackson, which by
    itself is strict.

    Raises:
        ValueError: It is not JSON, or nests too deep.
    """
    if nests_too_deep(message):
        raise ValueError("it nests too deep")
    try:
        value: object = (
            _EXACT_DECODER.decode(message)
            if _LONG_INTEGER.search(message)
            else orjson.loads(message)
        )
    except JSONDecodeError as error:
        raise ValueError(error.msg) from error
    return value


def _told(faults: list[ValidationError]) -> str:
    texts: list[str] = []
    for place, group in groupby(faults, key=lambda fault: (fault.instance_path, type(fault.kind))):
        same = list(group)
        if issubclass(place[1], ValidationErrorKind.Required):
            names = sorted(f'"{fault.kind.property}"' for fault in same)  # type: ignore[attr-defined]
            texts.append(f"object has missing required properties ([{','.join(names)}])")
        else:
            texts += map(_sentence, same)
    return f"[{_in_short(', '.join(texts), _TEXT_SIZE_MAX)}]"


# The sentences of AWS's validator, so far as they are known, by keyword.
_SENTENCES = {
    "type": ("instance type ({type}) does not match any allowed primitive type (allowed: {types})"),
    "enum": "instance value ({found}) not found in enum (possible values: {options})",
    "additionalProperties": (
        "object instance has properties which are not allowed by the schema: {unexpected}"
    ),
    "minLength": "string {found} is too short (length: {length}, required minimum: {limit})",
    "maxLength": "string {found} is too long (length: {length}, maximum allowed: {limit})",
    "minimum": (
        "numeric instance is lower than the required minimum (minimum: {limit}, found: {found})"
    ),
    "maximum": (
        "numeric instance is greater than the required maximum (maximum: {limit}, found: {found})"
    ),
    "exclusiveMinimum": (
        "numeric instance is not strictly greater than the required minimum {limit}"
    ),
    "exclusiveMaximum": "numeric instance is not strictly lower than the required maximum {limit}",
    "minItems": (
        "array is too short: must have at least {limit} elements but instance has {length} elements"
    ),
    "maxItems": (
        "array is too long: must have at most {limit} elements but instance has {length} elements"
    ),
    "uniqueItems": "array must not contain duplicate elements",
    "pattern": "ECMA 262 regex {pattern} does not match input string {found}",
}
_SORTED = frozenset({"types", "unexpected"})
_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _sentence(fault: ValidationError) -> str:
    sentence = _SENTENCES.get(fault.kind.name)
    if isinstance(fault.kind, ValidationErrorKind.BacktrackLimitExceeded):
        return f"string {_json(fault.instance)} takes too long to match"
    if sentence is None:
        return _in_short(fault.message, _VALUE_SIZE_MAX)
    found = fault.instance
    return sentence.format(
        found=_json(found),
        type=_TYPES.get(type(found), "number"),
        length=len(found) if isinstance(found, str | list) else 0,
        **{
            name: _json(sorted(value) if name in _SORTED else value)
            for name, value in fault.kind.as_dict().items()
        },
    )


def _json(value: object) -> str:
    try:
        return _in_short(orjson.dumps(value).decode(), _VALUE_SIZE_MAX)
    # An integer over 64 bits.
    except TypeError:
        return _in_short(str(value), _VALUE_SIZE_MAX)


def _in_short(text: str, size_max: int) -> str:
    return text if len(text) <= size_max else f"{text[: size_max - 3]}..."

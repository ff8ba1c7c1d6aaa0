"""Does what an API declares fit together?

What one property can be is checked where it is declared. This is about several of them: names that
lead somewhere, what a type of integration needs and cannot use, what only handshakes have.

Nothing that is merely unused is refused. What would do nothing although it looks as if it did is,
unless API Gateway is known to take it; then it is warned of.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from wsgateway.api.definition import CONNECT, DISCONNECT, IntegrationType, StageDefinition
from wsgateway.api.integration_uri import (
    HttpUrl,
    InvalidUri,
    PythonReference,
    parse_uri,
    placeholders,
)
from wsgateway.api.models import InvalidModel, compile_model
from wsgateway.api.rules import is_handshake_source
from wsgateway.api.stage_variables import MissingStageVariable, references, resolve
from wsgateway.api.unmapped_headers import CONNECTION_HEADERS, unmapped_headers
from wsgateway.arns import FunctionArn, ServiceUri, check_role_arn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from wsgateway.api.definition import ApiDefinition, IntegrationDefinition, RouteDefinition
    from wsgateway.api.integration_uri import Uri

Location: TypeAlias = tuple[str | int, ...]

_EVERY_STAGE = ""


class Finding(NamedTuple):
    """One thing that does not fit.

    Attributes:
        location: Where, in property names.
        problem: What is wrong.
        remedy: What would be right.
    """

    location: Location
    problem: str
    remedy: str


def check(definition: ApiDefinition, at_fault: Collection[Location] = ()) -> list[Finding]:
    """Return everything that does not fit together.

    Args:
        definition: With all routes, those of handlers' files included.
        at_fault: What is declared but not in the definition, because it is at fault by itself:
            sections, and entries of them, or everything. Nothing is said of what refers to it.
    """
    return list(dict.fromkeys(_Check(definition, frozenset(at_fault)).findings()))


def without_effect(definition: ApiDefinition) -> list[Finding]:
    """Return what is declared in vain, and taken all the same because API Gateway takes it."""
    return [
        finding
        for name, integration in definition.integrations.items()
        for finding in _not_sent(("integrations", name, "requestParameters"), integration)
    ]


class _Check:
    def __init__(self, definition: ApiDefinition, at_fault: frozenset[Location]) -> None:
        self._definition = definition
        self._at_fault = at_fault
        # Those of an API that declares none: there is one then, without variables.
        self._stages = definition.stages or (
            {} if self._is_any_at_fault("stages") else {_EVERY_STAGE: StageDefinition()}
        )

    def findings(self) -> Iterator[Finding]:
        definition = self._definition
        for name, integration in definition.integrations.items():
            yield from self._integration(("integrations", name), name, integration)
        if not definition.disable_schema_validation:
            for name in definition.models:
                try:
                    compile_model(name, definition.models)
                except InvalidModel as error:
                    if error.missing is None or not self._is_at_fault("models", error.missing):
                        place = ("models", name, "schema")
                        yield Finding(place, error.problem, error.remedy)
        for key, route in definition.routes.items():
            yield from self._route(("routes", key), key, route)
        yield from self._settings()

    # --- integrations

    def _integration(
        self, at: Location, name: str, integration: IntegrationDefinition
    ) -> Iterator[Finding]:
        kind = integration.integration_type
        uris = dict(self._uris(at, integration))
        for uri in uris.values():
            if isinstance(uri, Finding):
                yield uri
        parsed = [uri for uri in uris.values() if not isinstance(uri, Finding)]
        yield from _method(at, integration, parsed)
        yield from self._credentials(at, integration, parsed)
        yield from _unused(at, integration)
        yield from _parameters(at, integration, parsed)
        yield from self._handshake_sources(at, name, integration)
        if kind is IntegrationType.MOCK and not integration.request_templates:
            yield Finding(
                (*at, "requestTemplates"),
                "a MOCK integration has no template that gives its status",
                "add requestTemplates: {$default: '{\"statusCode\": 200}'}",
            )
        if (
            kind in {IntegrationType.AWS, IntegrationType.HTTP}
            and not integration.integration_responses
        ):
            yield Finding(
                (*at, "integrationResponses"),
                f"{kind} has no integration response, so that every answer would be an error",
                "add integrationResponses: {$default: {}}",
            )

    def _uris(
        self, at: Location, integration: IntegrationDefinition
    ) -> Iterator[tuple[str, Uri | Finding]]:
        """Return what the URI names, by stage."""
        kind, text = integration.integration_type, integration.integration_uri
        place = (*at, "integrationUri")
        if kind is IntegrationType.MOCK:
            if text is not None:
                yield "", Finding(place, "MOCK asks nobody", "remove it")
            return
        if text is None:
            yield "", Finding(place, f"{kind} needs one", f"add integrationUri: {_EXAMPLES[kind]}")
            return
        if stray := re.search(r"\$\{(?!stageVariables\.[A-Za-z0-9_]{1,64}\})[^}]*\}?", text):
            yield (
                "",
                Finding(place, f"{stray[0]} is no stage variable", "write ${stageVariables.NAME}"),
            )
            return
        for stage, resolved in self._resolved(place, text):
            if isinstance(resolved, Finding):
                yield stage, resolved
                continue
            try:
                uri = parse_uri(resolved)
            except InvalidUri as error:
                where = f" on the stage {stage}" if resolved != text else ""
                yield stage, Finding(place, f"{error.problem}{where}", error.remedy)
                continue
            yield stage, _fits(place, kind, uri) or uri

    def _resolved(self, place: Location, text: str) -> Iterator[tuple[str, str | Finding]]:
        for stage, declared in self._stages.items():
            try:
                yield stage, resolve(text, declared.stage_variables)
            except MissingStageVariable:
                missing = [n for n in references(text) if n not in declared.stage_variables]
                if self._is_at_fault("stages", stage):
                    continue
                for name in missing:
                    yield stage, _no_variable(place, stage, name)

    def _credentials(
        self, at: Location, integration: IntegrationDefinition, uris: Iterable[Uri]
    ) -> Iterator[Finding]:
        text = integration.credentials_arn
        place = (*at, "credentialsArn")
        if text is None:
            return
        kind = integration.integration_type
        if kind.is_http or kind is IntegrationType.MOCK:
            yield Finding(place, f"{kind} is called without AWS credentials", "remove it")
            return
        if any(isinstance(uri, PythonReference) for uri in uris):
            yield Finding(place, "a function of this process is called without them", "remove it")
            return
        for _, resolved in self._resolved(place, text):
            if isinstance(resolved, Finding):
                yield resolved
                continue
            try:
                check_role_arn(resolved)
            except ValueError as error:
                yield Finding(place, str(error), "name a role, or remove it for the gateway's own")

    def _handshake_sources(
        self, at: Location, name: str, integration: IntegrationDefinition
    ) -> Iterator[Finding]:
        """Find sources that only `$connect` has where other routes alone would look for them."""
        users = [key for key, route in self._definition.routes.items() if route.target == name]
        if not users or CONNECT in users or self._is_at_fault("routes", CONNECT):
            return
        for key, source in integration.request_parameters.items():
            if is_handshake_source(source):
                yield Finding(
                    (*at, "requestParameters", key),
                    f"only handshakes have {source}, and $connect does not use this integration",
                    "use it for $connect, and keep what it says by context.connectionId",
                )

    # --- routes

    def _route(self, at: Location, key: str, route: RouteDefinition) -> Iterator[Finding]:
        if route.target is not None and not self._knows("integrations", route.target):
            yield Finding(
                (*at, "target"),
                f"there is no integration {route.target!r}",
                self._meant(route.target, "integrations"),
            )
        for selected, model in route.request_models.items():
            if not self._knows("models", model):
                yield Finding(
                    (*at, "requestModels", selected),
                    f"there is no model {model!r}",
                    self._meant(model, "models"),
                )
        yield from _models(at, key, route)
        if route.request_parameters and key != CONNECT:
            yield Finding(
                (*at, "requestParameters"),
                "only handshakes have headers and a query string",
                "declare them for $connect",
            )

    # --- stages

    def _settings(self) -> Iterator[Finding]:
        for name, stage in self._definition.stages.items():
            for key in stage.route_settings:
                if not self._knows("routes", key):
                    yield Finding(
                        ("stages", name, "routeSettings", key),
                        f"Unable to find Route by key {key} within the provided RouteSettings",
                        self._meant(key, "routes"),
                    )

    # --- what is declared

    def _knows(self, section: str, name: str) -> bool:
        return name in getattr(self._definition, section) or self._is_at_fault(section, name)

    def _is_at_fault(self, section: str, name: str) -> bool:
        """Whether this is declared although it is not in the definition."""
        return bool({(), (section,), (section, name)} & self._at_fault)

    def _is_any_at_fault(self, section: str) -> bool:
        return any(location[:1] in {(), (section,)} for location in self._at_fault)

    def _meant(self, name: str, section: str) -> str:
        declared = [
            *getattr(self._definition, section),
            *(str(at[1]) for at in sorted(self._at_fault, key=str) if at[:1] == (section,) != at),
        ]
        close = get_close_matches(name, declared, n=1)
        if close:
            return f"did you mean {close[0]}?"
        return f"declared are: {', '.join(declared)}" if declared else f"declare it under {section}"


def _no_variable(place: Location, stage: str, name: str) -> Finding:
    problem = f"there is no stage variable {name}"
    if stage == _EVERY_STAGE:
        remedy = f"declare it, stages: {{dev: {{stageVariables: {{{name}: ...}}}}}}"
        return Finding(place, problem, remedy)
    return Finding(
        ("stages", stage, "stageVariables"),
        f"{problem}, which {'.'.join(map(str, place))} refers to",
        "add it",
    )


_EXAMPLES = {
    IntegrationType.AWS_PROXY: "arn:aws:lambda:REGION:ACCOUNT:function:NAME",
    IntegrationType.AWS: "arn:aws:apigateway:REGION:SERVICE:action/ACTION",
    IntegrationType.HTTP_PROXY: "http://127.0.0.1:3000/",
    IntegrationType.HTTP: "http://127.0.0.1:3000/",
}


def _fits(place: Location, kind: IntegrationType, uri: Uri) -> Finding | None:
    """Return why a type of integration cannot have this URI."""
    match uri:
        case HttpUrl() if not kind.is_http:
            remedy = "write HTTP_PROXY" if kind.is_proxy else "write HTTP"
            return Finding(place, f"{kind} cannot call a URL", f"{remedy}, or name a function")
        case HttpUrl():
            return None
        case _ if kind.is_http:
            remedy = "write AWS_PROXY" if kind.is_proxy else "write AWS"
            return Finding(place, f"{kind} calls nothing but URLs", f"{remedy}, or name a URL")
        case ServiceUri() if kind.is_proxy:
            return Finding(
                place, "AWS_PROXY is for functions", "write AWS, whose templates make the request"
            )
        case _:
            return None


def _method(
    at: Location, integration: IntegrationDefinition, uris: Collection[Uri]
) -> Iterator[Finding]:
    kind, method = integration.integration_type, integration.integration_method
    place = (*at, "integrationMethod")
    if kind is IntegrationType.MOCK:
        if method is not None:
            yield Finding(place, "MOCK asks nobody", "remove it")
        return
    if any(isinstance(uri, FunctionArn | PythonReference) for uri in uris):
        if method not in {None, "POST"}:
            yield Finding(place, "functions are invoked with POST", "write POST, or remove it")
        return
    is_action = any(isinstance(uri, ServiceUri) for uri in uris)
    if method is None and (kind.is_http or is_action):
        yield Finding(
            place,
            "HttpMethod parameter method must be specified for integrationType "
            f"{kind.replace('_', '')}",
            "add integrationMethod: POST",
        )


def _unused(at: Location, integration: IntegrationDefinition) -> Iterator[Finding]:
    """Find what an integration of this type would not look at."""
    kind = integration.integration_type
    if kind.is_proxy:
        other = "AWS" if kind is IntegrationType.AWS_PROXY else "HTTP"
        for name, value in (
            ("templateSelectionExpression", integration.template_selection_expression),
            ("requestTemplates", integration.request_templates),
            ("integrationResponses", integration.integration_responses),
        ):
            if value:
                yield Finding(
                    (*at, name),
                    f"{kind} passes messages and answers as they are",
                    f"remove it, or write integrationType: {other}",
                )
    if kind is IntegrationType.MOCK and integration.request_parameters:
        yield Finding((*at, "requestParameters"), "MOCK sends no request", "remove it")


def _parameters(
    at: Location, integration: IntegrationDefinition, uris: Iterable[Uri]
) -> Iterator[Finding]:
    """Find path parameters without a placeholder, placeholders without one, and lost parameters."""
    prefix = "integration.request.path."
    mapped = {
        key.removeprefix(prefix): key
        for key in integration.request_parameters
        if key.startswith(prefix)
    }
    for uri in uris:
        if isinstance(uri, PythonReference) and integration.request_parameters:
            yield Finding(
                (*at, "requestParameters"),
                "a function of this process gets no request, only its event",
                "remove it",
            )
        if not isinstance(uri, HttpUrl | ServiceUri):
            continue
        known = placeholders(uri)
        for name, key in mapped.items():
            if name not in known:
                yield Finding(
                    (*at, "requestParameters", key),
                    f"the path of integrationUri has no {{{name}}}",
                    f"write {{{name}}} where it belongs",
                )
        for name in sorted(known - mapped.keys()):
            yield Finding(
                (*at, "integrationUri"),
                f"nothing is mapped to {{{name}}}",
                f"add integration.request.path.{name} to requestParameters",
            )


def _not_sent(at: Location, integration: IntegrationDefinition) -> Iterator[Finding]:
    kind = integration.integration_type
    if kind is IntegrationType.AWS_PROXY:
        if integration.request_parameters:
            yield Finding(
                at,
                "is without effect: AWS_PROXY sends the event alone",
                "remove it, or write integrationType: AWS",
            )
        return
    prefix = "integration.request.header."
    unmapped = unmapped_headers(kind)
    for key in integration.request_parameters:
        name = key.removeprefix(prefix).lower()
        if not key.startswith(prefix) or name not in unmapped:
            continue
        why = (
            "it is about the connection or the length of the body"
            if name in CONNECTION_HEADERS
            else "requests to AWS are signed, and it belongs to that"
        )
        yield Finding((*at, key), f"is not sent: {why}", "remove it")


def _models(at: Location, key: str, route: RouteDefinition) -> Iterator[Finding]:
    selects = route.model_selection_expression is not None
    if key in {CONNECT, DISCONNECT} and (selects or route.request_models):
        name = "modelSelectionExpression" if selects else "requestModels"
        yield Finding((*at, name), f"{key} has no body that a model could check", "remove it")
    elif selects and not route.request_models:
        yield Finding(
            (*at, "modelSelectionExpression"),
            "there is no model to select, so that every message would fail",
            "add requestModels: {$default: NAME}",
        )
    elif route.request_models and not selects:
        yield Finding(
            (*at, "requestModels"),
            "without modelSelectionExpression no message is checked",
            "add modelSelectionExpression: $default",
        )

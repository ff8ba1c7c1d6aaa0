"""Makes what serves routes of what is declared, and keeps what the integrations share."""

from __future__ import annotations

import ssl
from functools import cached_property
from typing import TYPE_CHECKING, assert_never

from wsgateway.api.definition import ContentHandling, IntegrationType
from wsgateway.api.integration_uri import HttpUrl, PythonReference, parse_uri
from wsgateway.api.stage_variables import resolve_integration
from wsgateway.arns import FunctionArn, ServiceUri
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.functions.python import FunctionHost, PythonFunction
from wsgateway.functions.remote import LambdaFunction
from wsgateway.integrations.aws import ActionIntegration, FromText, LambdaIntegration
from wsgateway.integrations.http import HttpIntegration
from wsgateway.integrations.mock import MockIntegration
from wsgateway.integrations.proxy import ProxyIntegration
from wsgateway.limits import BACKEND_KEEP_ALIVE_S, KIB, RESPONSE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from wsgateway.api.definition import IntegrationDefinition
    from wsgateway.api.deployment import Deployment
    from wsgateway.aws.client import Aws
    from wsgateway.contracts import HttpClient, Integration, Invoker
    from wsgateway.loaders.source import LoadedApi
    from wsgateway.observer import Observer
    from wsgateway.settings import Settings

# Room for what is over Lambda's own bound of 6 MB, so that it is known for what it is.
_AWS_RESPONSE_SIZE_MAX = 8 * KIB * KIB
# AWS's SDKs keep connections for as long: its services close them after 20 s and more.
_AWS_KEEP_ALIVE_S = 12.0


def check_ca_file(settings: Settings) -> None:
    """See whether the authorities to trust can be read.

    Raises:
        OperatorFaults: They cannot.
    """
    file = settings.ca_file
    if file is None:
        return
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        problem = f"{file} cannot be used: {getattr(error, 'strerror', None) or error}"
        fault = Fault(settings.place("ca_file"), problem, "name a PEM file of certificates")
        raise OperatorFaults([fault]) from error


class Backends:
    """Functions, HTTP backends and AWS, as one gateway reaches them.

    Nothing is opened before the first request to it.

    Args:
        settings: Bounds, time-outs, certificates.
        environ: The process's variables, without those that are set for handlers.
        observer: Sees calls of functions and requests.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], observer: Observer) -> None:
        self._settings = settings
        self._observer = observer
        self._functions = FunctionHost(
            threads_max=settings.handler_threads,
            concurrency_max=settings.function_concurrency_max,
            region=settings.region,
            account_id=settings.account_id,
        )
        self._environ = environ
        self._closing: list[Callable[[], Awaitable[None]]] = []

    @cached_property
    def _http(self) -> HttpClient:
        return self._client(RESPONSE_SIZE_MAX, keep_alive_s=BACKEND_KEEP_ALIVE_S)

    @cached_property
    def _aws(self) -> Aws:
        # A third of a second and 20 MB, which only those pay who have AWS behind a route.
        from wsgateway.aws.client import Aws  # noqa: PLC0415

        aws = Aws(
            self._environ,
            http=self._client(_AWS_RESPONSE_SIZE_MAX, keep_alive_s=_AWS_KEEP_ALIVE_S),
            account_id=self._settings.account_id,
            region=self._settings.region,
        )
        self._closing.append(aws.close)
        return aws

    def _client(self, response_size_max: int, *, keep_alive_s: float) -> HttpClient:
        # Likewise: a fifth of a second and 10 MB.
        from wsgateway.integrations.client import AioHttpClient  # noqa: PLC0415

        client = AioHttpClient(
            ca_file=self._settings.ca_file,
            response_size_max=response_size_max,
            keep_alive_s=keep_alive_s,
        )
        self._closing.append(client.close)
        return self._observer.http(client)

    @property
    def functions_running(self) -> int:
        """Calls of functions of this process that have not ended."""
        return self._functions.running

    def integrations(
        self, api: LoadedApi, deployment: Deployment, variables: Mapping[str, str]
    ) -> dict[str, Integration]:
        """Return what serves each route on a stage, by route key.

        Args:
            api: What is declared, and the handlers.
            deployment: Its routes.
            variables: The stage's.
        """
        return {
            key: self._handler(api, key)
            if route.target is None
            else self._declared(api, key, route.target, variables)
            for key, route in deployment.routes.items()
        }

    async def close(self) -> None:
        """Close all connections and give up what still runs."""
        self._functions.close()
        for close in reversed(self._closing):
            await close()

    def _handler(self, api: LoadedApi, key: str) -> Integration:
        function = PythonFunction(api.function_names[key], api.handlers[key], self._functions)
        return ProxyIntegration(
            self._observer.function(key, function),
            timeout_s=self._settings.integration_timeout_ms / 1000,
        )

    def _declared(
        self, api: LoadedApi, key: str, name: str, variables: Mapping[str, str]
    ) -> Integration:
        definition = resolve_integration(api.definition.integrations[name], variables)
        if "timeout_in_millis" not in definition.model_fields_set:
            update = {"timeout_in_millis": self._settings.integration_timeout_ms}
            definition = definition.model_copy(update=update)
        match definition.integration_type:
            case IntegrationType.MOCK:
                return MockIntegration(definition)
            case IntegrationType.HTTP | IntegrationType.HTTP_PROXY:
                return HttpIntegration(definition, self._http)
            case IntegrationType.AWS_PROXY:
                return ProxyIntegration(
                    self._observer.function(key, self._function(api, name, definition)),
                    timeout_s=definition.timeout_in_millis / 1000,
                    to_binary=definition.content_handling_strategy
                    is ContentHandling.CONVERT_TO_BINARY,
                )
            case IntegrationType.AWS:
                return self._aws_integration(api, key, name, definition)
            case _:
                assert_never(definition.integration_type)

    def _function(self, api: LoadedApi, name: str, definition: IntegrationDefinition) -> Invoker:
        match parse_uri(definition.integration_uri or ""):
            case PythonReference() as reference:
                return PythonFunction(reference.name, api.functions[name], self._functions)
            case FunctionArn() as arn:
                return LambdaFunction(arn, self._aws, role_arn=definition.credentials_arn)
            case ServiceUri() | HttpUrl():
                raise AssertionError("checked with the definition")

    def _aws_integration(
        self, api: LoadedApi, key: str, name: str, definition: IntegrationDefinition
    ) -> Integration:
        match parse_uri(definition.integration_uri or ""):
            case PythonReference():
                function = self._observer.function(key, self._function(api, name, definition))
                return LambdaIntegration(definition, FromText(function))
            case FunctionArn() as arn:
                return LambdaIntegration(
                    definition, LambdaFunction(arn, self._aws, role_arn=definition.credentials_arn)
                )
            case ServiceUri():
                return ActionIntegration(definition, self._aws)
            case HttpUrl():
                raise AssertionError("checked with the definition")

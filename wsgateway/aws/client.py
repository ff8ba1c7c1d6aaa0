"""Signed requests to AWS's services."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from wsgateway.arns import route_arn
from wsgateway.aws.credentials import Credentials
from wsgateway.aws.services import load_service
from wsgateway.aws.session import Session
from wsgateway.errors import IntegrationTimeout, InvokeRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from botocore.credentials import ReadOnlyCredentials

    from wsgateway.aws.services import Service
    from wsgateway.contracts import HttpClient, HttpResponse

Headers: TypeAlias = "Sequence[tuple[str, str]]"
_Key: TypeAlias = tuple[str, str | None]


class Ready(NamedTuple):
    """All that a request needs to be sent.

    Attributes:
        service: What is called.
        credentials: What it is signed with.
        timeout_s: What is left of the time.
    """

    service: Service
    credentials: ReadOnlyCredentials
    timeout_s: float


class Aws:
    """The services of AWS, as this gateway reaches them.

    Nothing is read or opened before the first request; `close` ends what was, but not `http`.

    Args:
        environ: The environment, without what is set for handlers.
        http: What sends the requests.
        account_id: The gateway's, for the ARNs of its routes.
        region: Likewise; also where functions are whose ARN names no region, if neither variables
            nor the profile do.
        endpoint_url: What is called instead of AWS.
        endpoint_urls: The same by service, as boto3 names its clients: `lambda`, `stepfunctions`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        http: HttpClient,
        account_id: str,
        region: str,
        endpoint_url: str | None = None,
        endpoint_urls: Mapping[str, str] | None = None,
    ) -> None:
        self._session = Session(
            environ, region=region, endpoint_url=endpoint_url, endpoint_urls=endpoint_urls
        )
        self._credentials = Credentials(self._session)
        self._http = http
        self._account_id = account_id
        self._region = region
        self._services: dict[_Key, Service] = {}
        self._loading: dict[_Key, asyncio.Task[None]] = {}
        self._unknown: dict[_Key, str] = {}

    async def close(self) -> None:
        """Close the clients that fetch credentials."""
        await self._credentials.close()
        if self._loading:
            await asyncio.wait(self._loading.values())

    def caller_headers(
        self, api_id: str, stage: str, route_key: str, request_id: str
    ) -> list[tuple[str, str]]:
        """Return the headers that tell a function who invokes it, as API Gateway sends them.

        AWS takes `X-Amz-Source-Arn` for true from its own services only; emulators and proxies can
        tell routes apart by it.
        """
        return [
            ("Accept", "application/json"),
            ("User-Agent", f"AmazonAPIGateway_{api_id}"),
            ("x-amzn-apigateway-api-id", api_id),
            ("x-amzn-lambda-integration-tag", request_id),
            (
                "X-Amz-Source-Arn",
                route_arn(self._region, self._account_id, api_id, stage, route_key),
            ),
        ]

    async def ready(
        self, service: str, region: str | None, *, role_arn: str | None, timeout_s: float
    ) -> Ready:
        """Get what a request to a service needs; without waiting once it is there.

        Args:
            service: As URIs name it.
            region: Where it is called; None for the one that variables or the profile name.
            role_arn: The role to assume; None to use the gateway's own credentials.
            timeout_s: For this and for `send`.

        Raises:
            InvokeRefused: There are no credentials, or no such service.
            IntegrationTimeout: It took longer than `timeout_s`.
        """
        known = self._services.get((service, region))
        if known is not None:
            credentials = self._credentials.source(role_arn, known.region).current()
            if credentials is not None:
                return Ready(known, credentials, timeout_s)
        clock = asyncio.get_running_loop().time
        due_at = clock() + timeout_s
        try:
            async with asyncio.timeout_at(due_at):
                known = await self._service(service, region)
                credentials = await self._credentials.source(role_arn, known.region).get()
        except TimeoutError as error:
            raise IntegrationTimeout(
                f"credentials and model of {service} took longer than {timeout_s:g} s"
            ) from error
        return Ready(known, credentials, max(due_at - clock(), 0.0))

    async def send(
        self,
        ready: Ready,
        method: str,
        path: str,
        *,
        headers: Headers,
        body: bytes,
        query: str = "",
        host_prefix: str = "",
    ) -> HttpResponse:
        """Sign a request, send it once, and read the whole answer, whatever its status.

        Args:
            ready: What `ready` returned, just now.
            method: In capitals.
            path: Percent-encoded, with its first slash.
            headers: With those of the signature they are all that is sent.
            body: Signed, too.
            query: Percent-encoded.
            host_prefix: What stands before the host's name.

        Raises:
            IntegrationTimeout: There was no whole answer in time.
            IntegrationFault: There is no answer, or one that is too large.
        """
        scheme, _, rest = ready.service.endpoint.partition("://")
        url = f"{scheme}://{host_prefix}{rest}{path}"
        if query:
            url = f"{url}?{query}"
        request = AWSRequest(method=method, url=url, data=body)
        for name, value in headers:
            request.headers[name] = value
        signer = S3SigV4Auth if ready.service.is_s3 else SigV4Auth
        signer(
            ready.credentials, ready.service.signing_name, ready.service.signing_region
        ).add_auth(request)
        return await self._http.send(
            method, url, headers=request.headers.items(), body=body, timeout_s=ready.timeout_s
        )

    async def _service(self, name: str, region: str | None) -> Service:
        key = name, region
        if key not in self._services and key not in self._unknown:
            if key not in self._loading:
                self._loading[key] = asyncio.create_task(self._load(key))
            # Who gives up waiting leaves the task to the others.
            await asyncio.wait([self._loading[key]])
        if (service := self._services.get(key)) is not None:
            return service
        raise InvokeRefused(f"AWS cannot be called: {self._unknown.get(key, 'the gateway stops')}")

    async def _load(self, key: _Key) -> None:
        name, region = key
        try:
            self._services[key] = await asyncio.to_thread(
                load_service, self._session, name, region or self._session.region
            )
        # What is configured does not change: it is not looked at again for each message.
        except (ValueError, OSError, BotoCoreError) as error:
            self._unknown[key] = str(error)
        finally:
            del self._loading[key]

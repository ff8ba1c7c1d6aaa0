"""How is a service of AWS called: by which protocol, where, signed for whom?

botocore's models of the services say so. They are files of up to ten megabytes, of which little is
kept; reading one takes 5 to 300 ms, so it happens in a thread, once per service and region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import botocore
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wsgateway.arns import ServiceUri
    from wsgateway.aws.session import Session

# URIs name services as their hosts do, botocore often differently.
_BY_HOST: Final = {
    "email": "ses",
    "elasticloadbalancing": "elbv2",
    "elasticmapreduce": "emr",
    "execute-api": "apigatewaymanagementapi",
    "ingest.timestream": "timestream-write",
    "iotdata": "iot-data",
    "monitoring": "cloudwatch",
    "query.timestream": "timestream-query",
    "runtime.lex": "lex-runtime",
    "runtime.sagemaker": "sagemaker-runtime",
    "states": "stepfunctions",
    "streams.dynamodb": "dynamodbstreams",
    "tagging": "resourcegroupstaggingapi",
}


FORM: Final = "application/x-www-form-urlencoded"
QUERY_PROTOCOLS: Final = frozenset({"query", "ec2"})


class Service(NamedTuple):
    """What is known of a service in one region.

    Attributes:
        region: Where it is called.
        protocol: `json`, `query`, `ec2`, or one whose actions are paths.
        target_prefix: What stands before an action's name in `X-Amz-Target`; empty without one.
        content_type: Of a request in that protocol.
        api_version: `Version` of the query protocols.
        endpoint: URL without a slash at its end.
        host_prefixes: What an action's host begins with, for the few that have their own.
        signing_name: What signatures are for.
        signing_region: Likewise.
        is_s3: Whether it is signed for as only S3 is: with an escape that counts once, and a hash.
    """

    region: str
    protocol: str
    target_prefix: str
    content_type: str
    api_version: str
    endpoint: str
    host_prefixes: Mapping[str, str]
    signing_name: str
    signing_region: str
    is_s3: bool

    @property
    def has_actions(self) -> bool:
        """Whether a request names its action; the others have a path for each."""
        return _has_actions(self.protocol)


def load_service(session: Session, name: str, region: str) -> Service:
    """Read what is known of a service; blocks.

    Args:
        session: What may say that something else is called instead.
        name: As a URI has it.
        region: Where it is called.

    Raises:
        ValueError: botocore knows no such service, or not in that region.
    """
    # One of its own: a session's keeps all that it has ever read.
    loader = Loader()
    botocore_name, subdomain = _names(name, frozenset(loader.list_available_services("service-2")))
    model = loader.load_service_model(botocore_name, "service-2")
    metadata = model["metadata"]
    signing_name = metadata.get("signingName", metadata["endpointPrefix"])
    signing_region = region
    schemes: Sequence[Mapping[str, str]] = ()
    endpoint = session.endpoint_url(botocore_name, metadata["serviceId"])
    host_prefixes: Mapping[str, str] = {}
    if endpoint is None:
        rules = EndpointProvider(
            loader.load_service_model(botocore_name, "endpoint-rule-set-1"),
            loader.load_data("partitions"),
        )
        try:
            resolved = rules.resolve_endpoint(
                Region=region,
                UseFIPS=bool(session.get_config_variable("use_fips_endpoint")),
                UseDualStack=bool(session.get_config_variable("use_dualstack_endpoint")),
            )
        except BotoCoreError as error:
            raise ValueError(f"{name} cannot be called in {region}: {error}") from error
        endpoint = _with_subdomain(resolved.url, botocore_name, subdomain)
        schemes = resolved.properties.get("authSchemes", ())
        # What is called instead of AWS may have no other names than its own.
        host_prefixes = {
            action: operation["endpoint"]["hostPrefix"]
            for action, operation in model["operations"].items()
            if "hostPrefix" in operation.get("endpoint", ())
        }
    for scheme in schemes:
        if scheme["name"] == "sigv4":
            signing_name = scheme.get("signingName", signing_name)
            signing_region = scheme.get("signingRegion", signing_region)
    protocol = metadata["protocol"]
    return Service(
        region=region,
        protocol=protocol,
        target_prefix=metadata.get("targetPrefix", ""),
        content_type=(
            f"application/x-amz-json-{metadata['jsonVersion']}"
            if protocol == "json"
            else FORM
            if protocol in QUERY_PROTOCOLS
            else "application/json"
        ),
        api_version=metadata["apiVersion"],
        endpoint=endpoint.rstrip("/"),
        host_prefixes=host_prefixes,
        signing_name=signing_name,
        signing_region=signing_region,
        is_s3=botocore_name == "s3",
    )


def check_service(uri: ServiceUri) -> None:
    """Check that a URI can be called; blocks as long as reading the service's model takes.

    Raises:
        ValueError: There is no such service, or its actions are paths.
    """
    loader = Loader()
    name, _ = _names(uri.service, frozenset(loader.list_available_services("service-2")))
    if uri.kind == "action":
        metadata = loader.load_service_model(name, "service-2")["metadata"]
        if not _has_actions(metadata["protocol"]):
            raise ValueError(
                f"{uri.service} has a path for each of its actions, and no action/{uri.target}"
            )


def _has_actions(protocol: str) -> bool:
    return protocol == "json" or protocol in QUERY_PROTOCOLS


def _names(name: str, known: frozenset[str]) -> tuple[str, str]:
    """Return botocore's name of a service, and the subdomain before it."""
    subdomain, rest = "", name
    while True:
        if (botocore_name := _BY_HOST.get(rest, rest)) in known:
            return botocore_name, subdomain
        label, dot, rest = rest.partition(".")
        if not dot:
            raise ValueError(
                f"there is no AWS service {name!r} that botocore {botocore.__version__} knows"
            )
        subdomain = f"{subdomain}.{label}" if subdomain else label


def _with_subdomain(url: str, botocore_name: str, subdomain: str) -> str:
    if not subdomain:
        return url
    host = urlsplit(url).netloc
    if botocore_name == "iot-data":
        # An account's own endpoint, abc-ats.iot.REGION, stands in the place of data-ats.iot.REGION.
        host = host[host.index("iot.") :]
    return f"https://{subdomain}.{host}"

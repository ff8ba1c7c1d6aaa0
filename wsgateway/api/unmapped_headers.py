"""Which headers of requests does no mapping set?

API Gateway takes a mapping of any header when it is declared. What its REST APIs make of it then has
been recorded, in July 2024:

| | to HTTP backends | to AWS |
| --- | --- | --- |
| `Content-Length`, `Transfer-Encoding` | every request fails | every request fails |
| `Connection`, `Expect`, `Proxy-Authenticate`, `TE` | not sent | every request fails |
| `Authorization` | sent | every request fails |
| `Trailer`, `Upgrade` | sent | not seen |

Here those below are not sent, and the log warns of what declares one.

https://github.com/localstack/localstack, tests/aws/services/apigateway/
test_apigateway_integrations.snapshot.json, `TestApiGatewayHeaderRemapping`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wsgateway.api.definition import IntegrationType

# What is about one connection, not about a request (RFC 9110, 7.6.1), and how long a body is. A
# mapping would say something else than what is sent.
CONNECTION_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SIGNED: Final = CONNECTION_HEADERS | {
    "authorization",
    "date",
    "host",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
}


def unmapped_headers(kind: IntegrationType) -> frozenset[str]:
    """Return them in lower case, for a type of integration."""
    return CONNECTION_HEADERS if kind.is_http else _SIGNED

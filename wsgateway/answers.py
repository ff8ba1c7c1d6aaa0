"""How an error looks on the wire, over HTTP and in a frame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wsgateway.connection_id import new_request_id

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST_ID_ENTROPY_SIZE = 26
"""Random bytes that one set of id headers takes."""


def error_body(
    message: str, connection_id: str | None = None, request_id: str | None = None
) -> bytes:
    """Return an error as clients see it, with API Gateway's own irregular spacing.

    Without ids it is the form for errors before an API is known.
    """
    if connection_id is None:
        return f'{{"message":{json.dumps(message)}}}'.encode()
    return (
        f'{{"message": {json.dumps(message)}, '
        f'"connectionId":"{connection_id}", "requestId":"{request_id}"}}'
    ).encode()


def id_headers(
    entropy: Callable[[int], bytes], request_id: str | None = None
) -> list[tuple[bytes, bytes]]:
    """Return the two headers that name a request in every answer of API Gateway.

    Args:
        entropy: Returns that many random bytes.
        request_id: The extended request id, when the request has one already.
    """
    raw = entropy(REQUEST_ID_ENTROPY_SIZE)
    digits = raw[:16].hex()
    # A version 4 UUID (RFC 9562, 5.4); uuid.uuid4() costs three times as much.
    uuid = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    return [
        (b"x-amzn-RequestId", uuid.encode()),
        (b"x-amz-apigw-id", (request_id or new_request_id(raw[16:])).encode()),
    ]

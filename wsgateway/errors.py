"""Everything that can go wrong, split by whose fault it is.

```
GatewayError
├── RequestRefused             the client's or the backend's request
│   ├── BadRequest             400 BadRequestException
│   │   ├── InvalidConnectionId
│   │   ├── InvalidRequestBody
│   │   └── MissingParameters
│   ├── Forbidden              403 ForbiddenException
│   ├── MethodNotFound         404 NotFoundException
│   ├── RequestTimeout         408
│   ├── Gone                   410 GoneException
│   ├── PayloadTooLarge        413 PayloadTooLargeException
│   ├── UriTooLong             414
│   ├── UpgradeRequired        426
│   ├── LimitExceeded          429 LimitExceededException
│   ├── HeadTooLarge           431
│   ├── Unavailable            503
│   └── ShuttingDown           503
├── IntegrationFault           the integration's
│   ├── UnsupportedMediaType   415
│   ├── BackendUnreachable     504
│   ├── TransformationFailed   500
│   ├── InvokeRefused          500
│   ├── FunctionFailed         502
│   ├── MalformedResponse      502
│   └── IntegrationTimeout     504
├── DeliveryFailed         500 another node's, or Redis's
└── OperatorFaults             the operator's definition or settings, all of them at once
```

What AWS answers (`status`, `error_type`, `message`) is a class attribute, and is written to the
wire in two places only: `listener.handshake` and `management` for HTTP, `dispatch` for frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class GatewayError(Exception):
    """The root of every error this package raises."""


class RequestRefused(GatewayError):
    """A request that is answered with an error, and is the sender's fault.

    Attributes:
        status: HTTP status code.
        error_type: Value of `x-amzn-ErrorType`.
        message: The `message` of the JSON body.
    """

    status: ClassVar[int]
    error_type: ClassVar[str]
    message: str


class BadRequest(RequestRefused):
    """The request is not one that RFC 9112 or RFC 6455 allows."""

    status = 400
    error_type = "BadRequestException"
    message = "Bad Request"


class InvalidConnectionId(BadRequest):
    """`@connections/{id}` with an id that does not have the form of one."""

    def __init__(self, connection_id: str) -> None:
        super().__init__(connection_id)
        self.message = f"Invalid connectionId: {connection_id}"


class InvalidRequestBody(BadRequest):
    """A message that the route's model rejects; `str()` says why, for the log."""

    message = "Invalid request body"


class MissingParameters(BadRequest):
    """A handshake without what `$connect` declares as required."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(*names)
        self.message = f"Missing required request parameters: [{', '.join(names)}]"


class Forbidden(RequestRefused):
    """No such stage, or no route for the message."""

    status = 403
    error_type = "ForbiddenException"
    message = "Forbidden"


class MethodNotFound(RequestRefused):
    """A path under a known stage that is neither the stage nor a connection."""

    status = 404
    error_type = "NotFoundException"

    def __init__(self, path: str, method: str) -> None:
        super().__init__(path, method)
        self.message = f"No method found matching route {path} for http method {method}."


class RequestTimeout(RequestRefused):
    """The head or the body did not arrive in time (RFC 9110, 15.5.9)."""

    status = 408
    error_type = "RequestTimeoutException"
    message = "Request Timeout"


class Gone(RequestRefused):
    """The connection is closed, never existed, or is not yet established."""

    status = 410
    error_type = "GoneException"
    message = ""


class PayloadTooLarge(RequestRefused):
    """A post over the size of a message."""

    status = 413
    error_type = "PayloadTooLargeException"
    message = "Payload too large"


class UriTooLong(RequestRefused):
    """A URL over AWS's 4096 characters."""

    status = 414
    error_type = "RequestUriTooLongException"
    message = "URI Too Long"


class UpgradeRequired(RequestRefused):
    """A plain GET for a stage, or another version than 13 of the WebSocket protocol."""

    status = 426
    error_type = "UpgradeRequiredException"
    message = "Upgrade Required"


class LimitExceeded(RequestRefused):
    """The client's send buffer is full."""

    status = 429
    error_type = "LimitExceededException"
    message = "Too Many Requests"


class HeadTooLarge(RequestRefused):
    """Too many bytes or lines before the body (RFC 6585, section 5)."""

    status = 431
    error_type = "RequestHeaderFieldsTooLargeException"
    message = "Request Header Fields Too Large"


class Unavailable(RequestRefused):
    """A new connection that could not be recorded, or is not to be taken without a record."""

    status = 503
    error_type = "ServiceUnavailableException"
    message = "Service Unavailable"


class ShuttingDown(RequestRefused):
    """A new connection while the node is draining."""

    status = 503
    error_type = "ServiceUnavailableException"
    message = "Service Unavailable"


class IntegrationFault(GatewayError):
    """The integration did not give an answer that can be used.

    `str()` says what happened, for the log; the client sees `message` only.
    """

    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "InternalServerErrorException"
    message: ClassVar[str] = "Internal server error"


class UnsupportedMediaType(IntegrationFault):
    """No request template is for the message, and it is not to be passed as it is."""

    status = 415
    error_type = "UnsupportedMediaTypeException"
    message = "Unsupported Media Type"


class BackendUnreachable(IntegrationFault):
    """The HTTP backend did not answer: no address, refused, cut short, too large."""

    status = 504
    message = "Network error communicating with endpoint"


class TransformationFailed(IntegrationFault):
    """A mapping template failed, or no integration response is for the answer."""


class InvokeRefused(IntegrationFault):
    """The function could not be invoked at all (no permission, throttled, missing)."""


class FunctionFailed(IntegrationFault):
    """The function raised, or returned what JSON cannot hold.

    Attributes:
        error: What Lambda answers instead of a result, with `errorMessage`; None if there is none.
    """

    status = 502

    def __init__(self, problem: str, error: Mapping[str, object] | None = None) -> None:
        super().__init__(problem)
        self.error = error


class MalformedResponse(IntegrationFault):
    """The function's result is not a proxy response."""

    status = 502


class IntegrationTimeout(IntegrationFault):
    """The integration took longer than its time-out."""

    status = 504
    message = "Endpoint request timed out"


class DeliveryFailed(GatewayError):
    """A backend's request could not be brought to the node that holds the connection.

    Attributes:
        may_duplicate: Whether it may have been carried out: a retry may then do it twice.
    """

    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "InternalServerErrorException"
    message: ClassVar[str] = "Internal server error"
    may_duplicate: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing an operator has to mend.

    Attributes:
        place: File and line, variable or flag, as the operator wrote it.
        problem: What is wrong.
        remedy: What would be right.
    """

    place: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """One line, as `serve` prints it."""
        return f"{self.place}: {self.problem}; {self.remedy}"


class OperatorFaults(GatewayError):
    """Definition or settings that cannot be served; holds every fault that was found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)

"""What a test is told when something does not happen as it expects.

These stand under the root of `wsgateway.errors` too, beside what is printed there:

```
GatewayError
├── TimedOut            also an AssertionError
├── ConnectionEnded     also an AssertionError
├── ConnectRefused
└── CallbackRefused
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Mapping


class TimedOut(GatewayError, AssertionError):
    """Something did not happen in time; the message tells which functions were called."""


class ConnectionEnded(GatewayError, AssertionError):
    """The connection was closed when a message was to be sent or received.

    Attributes:
        code: The close code; 1006 if the socket ended without a close frame.
        reason: The close reason.
    """

    def __init__(self, message: str, code: int, reason: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class ConnectRefused(GatewayError):
    """The opening handshake was answered with another status than 101.

    Attributes:
        status: The HTTP status.
        headers: Of the answer, with names in lower case.
        body: Of the answer.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        """Say what was answered."""
        return f"the handshake was answered {self.status} {self.body}".rstrip()


class CallbackRefused(GatewayError):
    """The callback API answered with an error.

    Attributes:
        status: The HTTP status, such as 410.
        error_type: AWS's name of the error, such as `GoneException`.
        message: The answer's message; often empty.
    """

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(status, error_type, message)
        self.status = status
        self.error_type = error_type
        self.message = message

    def __str__(self) -> str:
        """Say what was answered."""
        return f"the callback API answered {self.status} {self.error_type} {self.message}".rstrip()

"""A backend of a gateway that is tested: one request to the callback API per call."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlsplit

from wsgateway.testing.client import trusting_context
from wsgateway.testing.errors import CallbackRefused, TimedOut


async def request(
    method: str, callback_url: str, connection_id: str, body: bytes | None, timeout_s: float
) -> Any:
    """Do something to a connection.

    Returns:
        The value of the answer's body, which is JSON; None when it has none.

    Raises:
        CallbackRefused: It was answered with an error.
        TimedOut: It was not answered.
    """
    url = f"{callback_url}/@connections/{quote(connection_id, safe='')}"
    # In a thread: this is the one HTTP client that comes with Python, and it blocks.
    return await asyncio.to_thread(_request, method, url, body, timeout_s)


def _request(method: str, url: str, body: bytes | None, timeout_s: float) -> Any:
    parts = urlsplit(url)
    connection = (
        HTTPSConnection(parts.netloc, timeout=timeout_s, context=trusting_context())
        if parts.scheme == "https"
        else HTTPConnection(parts.netloc, timeout=timeout_s)
    )
    try:
        connection.request(method, parts.path, body)
        response = connection.getresponse()
        text = response.read()
    except TimeoutError as error:
        raise TimedOut(f"{method} {url} was not answered within {timeout_s:g} s") from error
    finally:
        connection.close()
    value = json.loads(text) if text else None
    if response.status >= 400:  # noqa: PLR2004 - RFC 9110, 15.5
        message = value["message"] if isinstance(value, dict) else ""
        raise CallbackRefused(response.status, response.headers["x-amzn-ErrorType"], message)
    return value

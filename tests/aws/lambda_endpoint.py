"""A small Lambda: answers Invoke requests as the service does, in a process of its own.

`python -m tests.aws.lambda_endpoint` prints its URL and serves until its standard input ends. What
a function does is in its name; `GET /calls` tells what was asked, and forgets it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

MEBIBYTE = 1024 * 1024

# By name: status, headers, body.
ANSWERS: Mapping[str, tuple[int, Mapping[str, str], bytes]] = {
    "hello": (200, {}, b'{"statusCode":200,"body":"hi"}'),
    "exact": (200, {}, b'{"b": 1.0, "a": 12345678901234567890123, "b": "\\u00e9"}'),
    "surrogate": (200, {}, b'{"statusCode":200,"body":"\\ud800"}'),
    "unhandled": (
        200,
        {"X-Amz-Function-Error": "Unhandled"},
        (
            b'{"errorMessage":"no such room","errorType":"KeyError","requestId":"4c1a",'
            b'"stackTrace":["  File \\"/var/task/app.py\\", line 3, in handler\\n"]}'
        ),
    ),
    "handled": (
        200,
        {"X-Amz-Function-Error": "Handled"},
        b'{"errorMessage":"denied: you","errorType":"Denied"}',
    ),
    "exited": (200, {"X-Amz-Function-Error": "Unhandled"}, b'"RequestId: 4c1a Process exited"'),
    "broken-error": (200, {"X-Amz-Function-Error": "Unhandled"}, b"{"),
    "throttled": (
        429,
        {"x-amzn-ErrorType": "TooManyRequestsException"},
        b'{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate Exceeded."}',
    ),
    "denied": (
        403,
        {"x-amzn-ErrorType": "AccessDeniedException:http://internal.amazon.com/coral/"},
        b'{"Message":"User: arn:aws:iam::1:user/me is not authorized"}',
    ),
    "missing": (
        404,
        {"x-amzn-ErrorType": "ResourceNotFoundException"},
        b'{"Type":"User","Message":"Function not found: missing"}',
    ),
    "locked": (
        502,
        {"x-amzn-ErrorType": "KMSAccessDeniedException"},
        b'{"Type":"User","Message":"Lambda was unable to decrypt the variables"}',
    ),
    "down": (503, {}, b"<html>Service Unavailable</html>"),
    "no-json": (200, {}, b'{"statusCode":'),
    "nan": (200, {}, b'{"statusCode":NaN}'),
    "no-text": (200, {}, b'"\xff"'),
    "nothing": (200, {}, b""),
    "deep": (200, {}, b"[" * 100_000),
    "large": (200, {}, b'"%s"' % (b"x" * (7 * MEBIBYTE))),
}


class LambdaApi:
    """The API, and what was asked of it."""

    def __init__(self) -> None:
        self._calls: list[dict[str, object]] = []
        self._left = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=16 * MEBIBYTE)
        app.router.add_post("/2015-03-31/functions/{function}/invocations", self._invoke)
        app.router.add_get("/calls", self._told)
        return app

    async def _told(self, _: web.Request) -> web.Response:
        calls, self._calls = self._calls, []
        return web.json_response(calls)

    async def _invoke(self, request: web.Request) -> web.Response:
        payload = await request.read()
        function = unquote(request.match_info["function"])
        self._calls.append(
            {
                "path": request.raw_path,
                "function": function,
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "payload": payload.decode(),
            }
        )
        name = function.partition(":function:")[2].partition(":")[0]
        if request.headers.get("X-Amz-Invocation-Type") == "Event":
            return web.Response(status=202)
        if name == "echo":
            return web.Response(body=payload)
        if name == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self._calls.append({"left": function})
                raise
        status, headers, body = ANSWERS[name]
        return web.Response(status=status, headers=headers, body=body)


async def serve() -> None:
    """Serve until standard input ends."""
    # `hang` is to notice that its caller has gone.
    runner = web.AppRunner(LambdaApi().app(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())

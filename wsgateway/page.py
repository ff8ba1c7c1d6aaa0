"""Which files does a browser get, and how: the `static/` folder beside the handlers.

It is served under `/_wsgateway/`, with `api.json` beside its files, from which a page learns where
to connect. All of it is public.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from wsgateway.api.endpoints import INTERNAL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Scope

FOLDER = "static"
INDEX = "index.html"

_HEADERS = {
    # A changed file is seen by the next request; one that has not changed is a 304.
    "cache-control": "no-cache",
    # Only files of this folder, none of them inline. WebSockets are named because 'self' does not
    # mean them in every browser: https://github.com/w3c/webappsec-csp/issues/7
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; font-src 'self'; media-src 'self'; manifest-src 'self'; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def static_folder(handlers: Path) -> Path | None:
    """Return the folder of files for browsers, if there is one beside the handlers."""
    folder = handlers / FOLDER
    return folder if folder.is_dir() else None


class Page:
    """The files of one folder.

    Args:
        folder: Where they are.
        api: The API's name.
        stages: The names of the stages to connect to.

    Attributes:
        has_index: Whether there is something to open, and not only files to fetch.
    """

    def __init__(self, folder: Path, api: str, stages: Iterable[str]) -> None:
        self.has_index = (folder / INDEX).is_file()
        self._folder = folder
        # Relative to this file, so that a proxy may put a prefix before everything.
        self._api = {"name": api, "stages": {name: f"../{name}" for name in stages}}

    def routes(self) -> list[BaseRoute]:
        """Return what serves them; a route that comes before these wins over a file."""
        routes: list[BaseRoute] = [Route(f"/{INTERNAL}/api.json", self._describe)]
        if self.has_index:
            routes += [Route("/", _to_index), Route(f"/{INTERNAL}", _to_index)]
        files = _Files(directory=self._folder, html=True)
        return [*routes, Mount(f"/{INTERNAL}", files)]

    async def _describe(self, _: Request) -> Response:
        return JSONResponse(self._api, headers=_HEADERS)


async def _to_index(request: Request) -> Response:
    query = request.url.query
    url = f"/{INTERNAL}/" + (f"?{query}" if query else "")
    return RedirectResponse(url, headers={"cache-control": "no-cache"})


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        # What editors, tools and version control leave in a folder is not for everybody.
        if path != "." and any(part.startswith(".") for part in path.split(posixpath.sep)):
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        if location := response.headers.get("location"):
            # Without scheme and host: those that this process sees may not be the browser's.
            response.headers["location"] = urlsplit(location).path
        return response
